"""Commands that use the bench, and those that work on what it measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.completing import run_names
from labctl.cli.handler import (
    LATEST,
    RUN_NAMES,
    RUNS,
    SEED_MAX,
    BudgetOption,
    ForceOption,
    NewestRun,
    RunArgument,
    RunsOption,
    SetOption,
    TextOption,
    WaitOption,
    command,
)
from labctl.cli.jobs import archive_of, conclude, file_hashes
from labctl.errors import UsageError
from labctl.lab import Lab
from labctl.osal import absolute

if TYPE_CHECKING:
    from labctl.station.loading import LoadedStation

ModelOption = Annotated[Path | None, typer.Option("--model", help="A checkpoint; the shipped one if left out.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=SEED_MAX, help="Of the sample and the simulated noise.")]


DEMO_TAKES = "the whole way takes one to three minutes on two free cores; Ctrl-C stops it, and it can go on later"
"""Measured with ``labctl demo`` on two cores: 59 to 146 s with 132 products from each layer."""


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    for function in (demo, measure, fit, validate, export, report):
        command(app, function.__name__)(function)


def demo(
    lab: Lab,
    model: ModelOption = None,
    text: TextOption = None,
    per_layer: Annotated[int, typer.Option("--per-layer", min=1, help="Products from each of the four layers.")] = 132,
    seed: SeedOption = 0,
    wait: WaitOption = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> int:
    """Run the whole way, on the mock bench by default.

    Sample real Transformer products, calibrate, measure, validate, export, simulate the model, and write a report.
    """
    job: dict[str, object] = {
        "model": _absolute(model),
        "text": _absolute(text),
        "per_stratum": per_layer,
        "seed": seed,
        "sha256": file_hashes(model, text),
    }
    loaded = lab.station(set_)
    if loaded.mode == "mock":
        lab.console.say(DEMO_TAKES)
    return _on_bench(lab, loaded, runs, "demo", job, wait=wait, budget=budget)


def measure(
    lab: Lab,
    workload: Annotated[
        Path, typer.Argument(metavar="WORKLOAD", help="Products to show: labctl sample MODEL -o products.h5")
    ],
    maintain: Annotated[
        bool, typer.Option("--maintain", help="Keep what earlier runs calibrated and still holds.")
    ] = False,
    wait: WaitOption = None,
    budget: BudgetOption = None,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> int:
    """Calibrate, measure a workload, validate, export."""
    from labctl.workload import read_workload

    read_workload(workload)
    return _on_bench(
        lab, lab.station(set_), runs, "measure", {}, workload=workload, maintain=maintain, wait=wait, budget=budget
    )


def _on_bench(
    lab: Lab,
    loaded: LoadedStation,
    runs: Path,
    purpose: str,
    job: dict[str, object],
    *,
    workload: Path | None = None,
    maintain: bool = False,
    wait: str | None = None,
    budget: str | None = None,
) -> int:
    """A run that ends with an export."""
    from labctl.cli.jobs import JOBS, finish
    from labctl.durations import wait_s_of
    from labctl.engine import policy
    from labctl.engine.budget import budget_of
    from labctl.engine.session import open_session
    from labctl.nodes.registry import EXPORT

    wait_s, time = wait_s_of(wait), budget_of(budget)
    legs = policy.maintained(runs, loaded, [EXPORT]) if maintain else policy.measured([EXPORT])
    job = {**job, "legs": policy.as_json(legs)}
    work = JOBS[purpose](job)
    with open_session(lab, loaded, runs, purpose, job, workload=workload, wait_s=wait_s, budget=time) as session:
        return finish(lab, session, work)


def _absolute(path: Path | None) -> str | None:
    """As a run remembers a file, wherever it goes on from."""
    return None if path is None else str(absolute(path))


def fit(
    lab: Lab,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="As for labctl run show; the newest import if left out.", autocompletion=run_names
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for an import's calibration; RUNS/calibrations if left out."),
    ] = None,
    runs: RunsOption = RUNS,
) -> int:
    """Fit an imported measurement, or a bench run again.

    An import: gains, crosstalk, drift, noise and bad rows; the calibration is written if it passes its gate. A bench
    run: opens no device and changes nothing.
    """
    from labctl.archive import RunReader, find_run, newest_run
    from labctl.archive.reader import IMPORT, is_import

    folder = newest_run(runs, IMPORT, "labctl import FILE") if run is None else find_run(runs, run)
    RunReader(folder).require_ended()
    if is_import(folder):
        from labctl.cli.imports import fit_import

        return fit_import(lab, folder, archive_of(folder) or runs, output)
    if output is not None:
        raise UsageError(
            "the calibration of a bench run is written by its own command",
            device=folder.name,
            hint=f"labctl export {folder.name.rpartition('-')[2]} -o {output}",
        )
    from labctl.engine.refit import refit

    return conclude(lab, refit(lab, folder, with_products=False).summary)


def validate(lab: Lab, run: RunArgument, runs: RunsOption = RUNS) -> int:
    """Fit a run again and judge its products.

    Opens no device and changes nothing.
    """
    from labctl.engine.refit import refit

    return conclude(lab, refit(lab, _folder(runs, run)).summary)


def export(
    lab: Lab,
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help=f"{RUN_NAMES} With --to also a calibration: its file, or cal-….",
            show_default="the newest",
            autocompletion=run_names,
        ),
    ] = LATEST,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for what is written.")] = Path(),
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="For another system: events (bluesky), nexus (HDF5) or xarray (netCDF-4); else a calibration.",
        ),
    ] = None,
    runs: RunsOption = RUNS,
) -> int:
    """Write a run's calibration, or what another system reads.

    The run is fitted again from its data, and its calibration written with the portable twin; out of spec, nothing is.
    With --to, a run or a calibration is written as it is, runs that were stopped or crashed, too, and the file says so.
    """
    from labctl.archive.outputs import require_output_folder
    from labctl.engine.refit import refit_and_export

    require_output_folder(output)
    if to is not None:
        return _export_to(lab, runs, run, to, output)
    folder = _folder(runs, run)
    summary, paths = refit_and_export(lab, folder, output)
    for path in paths:
        lab.console.say(f"written: {path}")
    if paths:
        _keep_raw(lab, folder, output)
    return conclude(lab, summary)


def _keep_raw(lab: Lab, folder: Path, output: Path) -> None:
    """Retention leaves the segments of a run alone that something outside of the archive rests on."""
    from labctl.archive.retention import is_pinned, pin

    if not is_pinned(folder):
        pin(folder, f"exported to {output.absolute()}")
        short = folder.name.rpartition("-")[2]
        lab.console.say(f"{folder.name} keeps its raw data: pinned   ·   labctl run unpin {short}")


def _export_to(lab: Lab, runs: Path, name: str, to: str, output: Path) -> int:
    """A run or a calibration in a format of another system."""
    from labctl.doors.exporting import export_record, not_held, require_format
    from labctl.doors.naming import record_of

    format_ = require_format(to)
    record = record_of(name, runs)
    path = export_record(record, format_, output)
    lacks = not_held(record, format_)
    lab.console.say(f"{record.id}: {record.outcome} ({record.reason})")
    if format_.lacks and (folder := record.about.get("folder")):
        _keep_raw(lab, Path(str(folder)), output)
    if lacks:
        lab.console.say(f"not in it: {lacks}")
    document = {"path": str(path), "id": record.id, "format": to, "outcome": record.outcome, "not_held": lacks}
    lab.console.result(document, f"written: {path}")
    return 0


def report(
    lab: Lab,
    run: NewestRun = LATEST,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; in the run folder if left out.")
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Print it too, beside the page, by the browser that is here.")
    ] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    force: ForceOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Make a run's report again from its data."""
    import webbrowser

    from labctl.archive import RunReader
    from labctl.archive.outputs import PAGE, PRINTED, require_output
    from labctl.report.again import report_run
    from labctl.report.pdf import write_pdf

    folder = _folder(runs, run)
    if output is not None:
        require_output(output, PAGE, [folder], force=force)
        if pdf:
            require_output(output.with_suffix(".pdf"), PRINTED, [folder], force=force)
    path = report_run(RunReader(folder), output, lab=lab)
    printed = write_pdf(path) if pdf else None
    if open_it and not webbrowser.open(path.absolute().as_uri()):
        lab.console.warn("no browser could be opened: open the page yourself")
    said = f"report: {path}" + (f"\nprinted: {printed}" if printed else "")
    lab.console.result({"path": str(path), "pdf": None if printed is None else str(printed)}, said)


def _folder(runs: Path, run: str) -> Path:
    """A bench run's folder."""
    from labctl.archive import RunReader, find_run
    from labctl.archive.reader import is_import

    folder = find_run(runs, run)
    if is_import(folder):
        raise UsageError(
            "an import has neither frames nor Transformer products",
            device=folder.name,
            expected="a run that measured a bench",
            hint=f"labctl fit {folder.name.rpartition('-')[2]}   ·   labctl predict CALIB FILE",
        )
    RunReader(folder).require_ended()
    return folder
