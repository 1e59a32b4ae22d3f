"""``labctl run``: runs on the disk."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.comparison import show_comparison
from labctl.cli.completing import run_names
from labctl.cli.handler import (
    LATEST,
    RUN_NAMES,
    RUNS,
    BudgetOption,
    NewestRun,
    RunArgument,
    RunsOption,
    WaitOption,
    command,
)
from labctl.cli.tail import tail
from labctl.errors import LabError, UsageError
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.archive import RunRow, Verification

app = typer.Typer(help="The runs on the disk: list, show, resume, verify, and more.", no_args_is_help=True)
OneRun = Annotated[str | None, typer.Argument(metavar="RUN", help=RUN_NAMES, autocompletion=run_names)]
EveryRun = Annotated[bool, typer.Option("--all", help="Every run in the folder that needs it.")]
command(app)(tail)


@command(app, "list")
def list_(
    lab: Lab,
    purpose: Annotated[str | None, typer.Option("--purpose", help="Only runs of this purpose: nightly, say.")] = None,
    verdict: Annotated[str | None, typer.Option("--verdict", help="Only runs that ended so: crashed, say.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only runs begun on this day (UTC) or later.")] = None,
    runs: RunsOption = RUNS,
) -> None:
    """List the runs, newest first. With --bench only those of that bench, which is a station file or a bench's name."""
    from labctl.archive import list_runs

    bench = lab.station().bench if lab.bench and Path(lab.bench).is_file() else lab.bench
    first = _date(since)
    everything = list_runs(runs)
    rows = [
        row
        for row in everything
        if (not bench or row.bench == bench)
        and purpose in (None, row.purpose)
        and verdict in (None, row.status)
        and (first is None or row.started >= first)
    ]
    if not lab.console.json_mode:
        if rows:
            columns = [(r.run_id, r.status, r.segments, _duration(r), r.bench) for r in rows]
            lab.console.table(("run (begun, UTC)", "verdict", "segments", "duration", "bench"), columns)
        elif everything:
            lab.console.say(f"none of the {len(everything)} runs in {runs} is like that   ·   labctl run list")
        else:
            lab.console.say(f"no runs in {runs}   ·   make one: labctl demo")
    lab.console.result({"runs": rows})


@command(app)
def show(
    lab: Lab,
    run: NewestRun = LATEST,
    every: Annotated[bool, typer.Option("--all", help="Also the figures that no limit judges.")] = False,
    runs: RunsOption = RUNS,
) -> None:
    """Show one run: how it ended, what it recorded, where it lies."""
    from labctl.archive import RunReader, find_run
    from labctl.cli.run_words import described

    reader = RunReader(find_run(runs, run))
    summary = reader.summary()
    document = {
        **reader.info,
        "status": reader.status,
        "verdict": reader.seal.verdict if reader.seal else None,
        "exit_code": reader.seal.exit_code if reader.seal else None,
        "path": str(reader.path),
        "seal": reader.seal.digest if reader.seal else None,
        "segments": reader.manifest,
        "summary": summary,
    }
    lab.console.result(document, described(reader, every=every, width=lab.console.width))


@command(app)
def resume(
    lab: Lab, run: RunArgument, budget: BudgetOption = None, wait: WaitOption = None, runs: RunsOption = RUNS
) -> int:
    """Go on with an interrupted run after its last sealed step. What was measured is not measured again."""
    from labctl.archive import find_run
    from labctl.cli.jobs import resume as go_on
    from labctl.durations import wait_s_of
    from labctl.engine.budget import budget_of

    time, wait_s = budget_of(budget), wait_s_of(wait)
    return go_on(lab, find_run(runs, run), time, wait_s)


@command(app)
def verify(lab: Lab, run: OneRun = None, every: EveryRun = False, runs: RunsOption = RUNS) -> int:
    """Recompute every hash of a run. Exit code 22 when a byte has changed."""
    from labctl.archive import RunReader, find_run

    if every:
        return _verify_all(lab, runs)
    found = RunReader(find_run(runs, run or LATEST)).verify()
    for problem in found.problems:
        lab.console.warn(f"{problem.path}: {problem.what}")
    lab.console.result(found, _words(found) if found.intact else None)
    found.raise_if_damaged()
    return 0


@command(app)
def recover(lab: Lab, run: OneRun = None, every: EveryRun = False, runs: RunsOption = RUNS) -> int:
    """Seal a run that died as crashed, with all it recorded. It can go on afterwards."""
    from labctl.archive import find_run, list_runs
    from labctl.archive.recovery import recover as seal_as_crashed

    folders = [find_run(runs, _named(run))] if not every else [
        row.path for row in list_runs(runs) if row.status == "crashed" and row.finished is None
    ]  # fmt: skip
    found, failed = [], None
    for folder in folders:
        try:
            found.append(seal_as_crashed(folder))
        except LabError as error:
            if not every:
                raise
            failed = failed or error
            lab.console.warn(f"{folder.name}: {error.what}")
    for one in found:
        if one.changed:
            blocks = f"{one.journalled} blocks journalled, {one.recovered} recovered"
            lab.console.say(f"{one.run_id}: sealed as crashed, {blocks}")
        else:
            lab.console.say(f"{one.run_id}: sealed already, as {one.status}")
        _make_up(lab, one.bench)
        if one.changed and not _made_safe(one.bench, one.run_id):
            lab.console.warn(f"{one.bench} may be open: look at the light   ·   labctl bench safe {one.bench}")
        if one.resume:
            lab.console.say(f"  go on: {one.resume}")
    if every and not folders:
        lab.console.say("no run has died: nothing to recover")
    lab.console.result({"runs": found})
    if failed is not None:
        raise failed
    return 0


@command(app)
def compare(
    lab: Lab,
    a: Annotated[str, typer.Argument(metavar="A", help=RUN_NAMES, autocompletion=run_names)],
    b: Annotated[str, typer.Argument(metavar="B", help="The run that is compared with it.", autocompletion=run_names)],
    runs: RunsOption = RUNS,
) -> None:
    """Compare two runs. What is compared: figures in standard errors, nodes, station, code, calibrations."""
    from labctl.archive import RunReader, find_run
    from labctl.engine.compare import compare as compared

    found = compared(RunReader(find_run(runs, a)), RunReader(find_run(runs, b)), runs)
    if not lab.console.json_mode:
        show_comparison(lab.console, found)
    lab.console.result(found)


def _verify_all(lab: Lab, runs: Path) -> int:
    from labctl.archive import list_runs, verify_run

    found = [verify_run(row.path) for row in reversed(list_runs(runs))]
    damaged = [one for one in found if not one.intact]
    for one in found:
        if one.intact:
            lab.console.say(_words(one))
        else:
            lab.console.warn(f"{one.run_id}: {one.problems[0].path} is {one.problems[0].what}")
    lab.console.result({"runs": found}, f"{len(found)} runs, {len(damaged)} damaged")
    if damaged:
        damaged[0].raise_if_damaged()
    return 0


def _make_up(lab: Lab, bench: str) -> None:
    """Do the ending of a night that died, unless somebody has the bench, who does it."""
    from labctl.bench.lock import hold_bench
    from labctl.errors import BenchBusy

    with suppress(BenchBusy), hold_bench(bench, "labctl run recover"):
        lab.made_up_for(lab, bench)


def _made_safe(bench: str, run_id: str) -> bool:
    """Whether the devices that the run had open are safe now; true where it had none open."""
    from labctl.bench.marks import make_marked_safe, mark_of

    mark = mark_of(bench)
    return mark is None or Path(mark.run).name != run_id or make_marked_safe(bench, mark.process)


def _words(found: Verification) -> str:
    return f"{found.run_id}: {found.words}, {found.files} files, {found.bytes / 1e6:.1f} MB"


def _named(run: str | None) -> str:
    if run is None:
        raise UsageError("no run is named", expected="the end of a run's id, or --all", hint="labctl run list")
    return run


def _date(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise UsageError("not a day", device="--since", expected="2026-11-01", seen=text) from error


def _duration(row: RunRow) -> str:
    if row.finished is None or row.status == "crashed":
        return "–"
    seconds = (dt.datetime.fromisoformat(row.finished) - dt.datetime.fromisoformat(row.started)).total_seconds()
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
