"""``labctl explain-exit`` and ``labctl errors``: what the numbers and codes mean. ``labctl help``: what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.errors import CatalogueRow


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    command(app, "explain-exit")(explain_exit)
    command(app, "errors")(errors)


def explain_exit(
    lab: Lab,
    code: Annotated[
        str, typer.Argument(metavar="CODE", help="The exit code of a labctl command, or an error code: E-CAL-002.")
    ],
) -> None:
    """Say what an exit code, or an error code, means."""
    from labctl.errors import UsageError
    from labctl.verdicts import explain_exit

    if not code.isdigit():
        _explain(lab, code)
        return
    if len(code) > 3:
        raise UsageError("no exit code has more than three digits", seen=code, hint="labctl explain-exit 10")
    row = explain_exit(int(code))
    document = {"exit_code": int(code), "verdict": row.verdict, "meaning": row.meaning, "page": row.page}
    lab.console.result(document, f"{code}  {row.verdict}: {row.meaning}. Wake someone: {row.page}.")


def errors(
    lab: Lab,
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="One code, E-CAL-002, or its beginning, E-CAL; else all.")
    ] = None,
) -> None:
    """List every error code, or say what one means."""
    from labctl.errors import catalogue

    rows = catalogue() if code is None else _meant(code)
    if len(rows) == 1:
        _explain(lab, rows[0].code)
        return
    if not lab.console.json_mode:
        lab.console.table(("code", "exit", "meaning"), [(row.code, row.exit_code, row.meaning) for row in rows])
    lab.console.result({"errors": [row._asdict() for row in rows]})


def _meant(code: str) -> list[CatalogueRow]:
    from groundwork.nearest import did_you_mean
    from labctl.errors import UsageError, catalogue

    every = catalogue()
    found = [row for row in every if row.code.startswith(code.strip().upper())]
    if found:
        return found
    families = ", ".join(sorted({row.code.rpartition("-")[0] for row in every}))
    raise UsageError(
        f"no error has the code {code!r}", expected=f"a code, or its beginning: {families}",
        hint=did_you_mean(code, [row.code for row in every], "labctl errors"),
    )  # fmt: skip


def _explain(lab: Lab, code: str) -> None:
    """One error code, and the exit code that comes with it."""
    from labctl.verdicts import explain_exit

    row = _meant(code)[0]
    verdict = explain_exit(row.exit_code)
    text = f"{row.code}  {row.meaning}\nexit code {row.exit_code}, {verdict.verdict}: {verdict.meaning}."
    lab.console.result({"errors": [row._asdict()]}, text)
