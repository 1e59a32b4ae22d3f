"""``labctl doctor``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import RUNS, ForceOption, RunsOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.doctor.check import Row


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(doctor)


def doctor(
    lab: Lab,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write a bug report as well: .json, or text.")
    ] = None,
    force: ForceOption = False,
    runs: RunsOption = RUNS,
) -> int:
    """Look at this computer and at the station.

    Says what is well, what is not, and one fix for each. Opens no device and changes nothing. Exit code 10 when
    something fails, as for a bench out of spec; warnings are 0.
    """
    from labctl.archive.atomic import atomic_write_json, atomic_write_text
    from labctl.archive.outputs import BUG_REPORT, require_output
    from labctl.doctor.check import State, Surroundings, examine
    from labctl.doctor.checks import CHECKS
    from labctl.doctor.report import as_text
    from labctl.doctor.report import report as written
    from labctl.errors import ConfigError, LabError, OutOfSpec

    try:
        around = Surroundings(lab.station(), runs)
    except (ConfigError, LabError) as error:
        around = Surroundings(None, runs, error)
    if report is not None:
        require_output(report, BUG_REPORT, [around.station.path if around.station else None], force=force)
    rows = [
        replace(row, fix=lab.console.completed(row.fix), detail=lab.console.completed(row.detail))
        for row in examine(CHECKS, around, lambda row: _say(lab, row))
    ]
    counts = {state: sum(row.state is state for row in rows) for state in State}
    if report is not None:
        document = written(rows, around)
        if report.suffix.lower() == ".json":
            atomic_write_json(report, document)
        else:
            atomic_write_text(report, as_text(document))
    said = f"{counts[State.PASS]} well, {counts[State.WARN]} to think about, {counts[State.FAIL]} to mend"
    kept = f"   ·   {report}: for a bug report; it holds no values of the environment" if report else ""
    result = {"checks": rows, "failed": counts[State.FAIL], "warned": counts[State.WARN]}
    lab.console.result({**result, "report": None if report is None else str(report)}, f"\n{said}{kept}")
    return OutOfSpec.exit_code if counts[State.FAIL] else 0


def _say(lab: Lab, row: Row) -> None:
    """One row, its detail and its fix wrapped beside its name."""
    from rich.table import Table
    from rich.text import Text

    styles = {"PASS": "green", "WARN": "yellow", "FAIL": "bold red"}
    table = Table.grid(padding=(0, 2))
    table.add_column(width=4)
    table.add_column(width=14)
    table.add_column(ratio=1)
    table.add_row(Text(row.state, styles[row.state]), row.check, Text(lab.console.completed(row.detail)))
    if row.fix:
        table.add_row("", "", Text(lab.console.completed(f"try: {row.fix}")))
    lab.console.show(table)
