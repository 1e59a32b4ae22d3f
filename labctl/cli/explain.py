"""``labctl explain-exit`` and ``labctl errors``: what the numbers and codes mean."""

from __future__ import annotations

from typing import Annotated

import typer

from labctl.cli.handler import command
from labctl.lab import Lab


def register(app: typer.Typer) -> None:
    """Add both commands to the top of the command line."""
    command(app, "explain-exit")(explain_exit)
    command(app, "errors")(errors)


def explain_exit(
    lab: Lab, code: Annotated[int, typer.Argument(metavar="CODE", help="The exit code of a labctl command.")]
) -> None:
    """Say what an exit code means."""
    from labctl.verdicts import explain_exit

    row = explain_exit(code)
    document = {"exit_code": code, "verdict": row.verdict, "meaning": row.meaning, "page": row.page}
    lab.console.result(document, f"{code}  {row.verdict}: {row.meaning}. Wake someone: {row.page}.")


def errors(lab: Lab) -> None:
    """List every error code."""
    from labctl.errors import catalogue

    rows = catalogue()
    if not lab.console.json_mode:
        lab.console.table(("code", "exit", "meaning"), [(row.code, row.exit_code, row.meaning) for row in rows])
    lab.console.result({"errors": [row._asdict() for row in rows]})
