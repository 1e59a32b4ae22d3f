"""``labctl run``: runs on the disk."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import typer

from labctl.cli.handler import RUNS, BudgetOption, RunArgument, RunsOption, command
from labctl.cli.tail import tail
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.archive import RunReader

app = typer.Typer(help="The runs on the disk: list, show, follow, resume, verify.", no_args_is_help=True)
command(app)(tail)


@command(app, "list")
def list_(lab: Lab, runs: RunsOption = RUNS) -> None:
    """List the runs, newest first."""
    from labctl.archive import list_runs

    rows = list_runs(runs)
    if not lab.console.json_mode:
        if rows:
            columns = [(r.run_id, r.status, r.bench, r.segments, r.started[:19]) for r in rows]
            lab.console.table(("run", "status", "bench", "segments", "started (UTC)"), columns)
        else:
            lab.console.say(f"no runs in {runs}   ·   make one: labctl demo")
    lab.console.result({"runs": rows})


@command(app)
def show(lab: Lab, run: RunArgument, runs: RunsOption = RUNS) -> None:
    """Show one run: how it ended, what it recorded, where it lies."""
    from labctl.archive import RunReader, find_run

    reader = RunReader(find_run(runs, run))
    summary = reader.summary()
    document = {
        **reader.info,
        "status": reader.status,
        "path": str(reader.path),
        "seal": reader.seal.digest if reader.seal else None,
        "segments": reader.manifest,
        "summary": summary,
    }
    lab.console.result(document, _describe(reader))


@command(app)
def resume(lab: Lab, run: RunArgument, budget: BudgetOption = None, runs: RunsOption = RUNS) -> int:
    """Go on with an interrupted run after its last sealed step; what was measured is not measured again."""
    from labctl.archive import find_run
    from labctl.cli.durations import budget_of
    from labctl.cli.jobs import resume as go_on

    time = budget_of(budget)
    return go_on(lab, find_run(runs, run), time)


@command(app)
def verify(lab: Lab, run: RunArgument, runs: RunsOption = RUNS) -> int:
    """Recompute every hash of a run; exit code 22 when a byte has changed."""
    from labctl.archive import RunReader, find_run

    found = RunReader(find_run(runs, run)).verify()
    for problem in found.problems:
        lab.console.warn(f"{problem.path}: {problem.what}")
    text = f"{found.run_id}: {found.words}, {found.files} files, {found.bytes / 1e6:.1f} MB" if found.intact else None
    lab.console.result(found, text)
    found.raise_if_damaged()
    return 0


def _describe(reader: RunReader) -> str:
    info, summary = reader.info, reader.summary()
    kinds = Counter(row.kind for row in reader.manifest)
    rows = Counter[str]()
    for row in reader.manifest:
        rows[row.kind] += row.rows
    lines = [
        f"{reader.run_id}  {reader.status}",
        f"  bench     {info.get('bench')} ({info.get('mode')})",
        f"  started   {info.get('started')}",
        f"  finished  {reader.seal.finished if reader.seal else '–'}",
        f"  segments  {', '.join(f'{kind} {n} ({rows[kind]} rows)' for kind, n in kinds.items()) or 'none'}",
        f"  folder    {reader.path}",
    ]
    if summary:
        for metric in summary.metrics:
            limit = f"  ({metric.limit})" if metric.limit else ""
            mark = {"ok": "✓", "out_of_spec": "✗", "info": "·"}[metric.verdict]
            value = "not a number" if metric.value is None else f"{metric.value:.4g}"
            lines.append(f"  {mark} {metric.name} {value} {metric.unit}".rstrip() + limit)
        if summary.first_error:
            lines.append(f"  error     {summary.first_error.code}  {summary.first_error.message}")
    return "\n".join(lines)
