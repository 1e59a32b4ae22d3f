"""Commands on products that somebody else's bench measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundwork.errors import CodedError
from labctl.cli.completing import calibration_names
from labctl.cli.handler import CALIBRATION, RUNS, ForceOption, RunsOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.foreign.fitting import FittedRun

FileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="npz, h5, csv, npy, mat, json, tif, parquet: inputs, weights, readings."),
]
RowsOption = Annotated[
    str | None,
    typer.Option("--rows", metavar="START:STOP", help="Only these rows; half-open, from 0, as a Python slice."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=THERE", help="Names in the file: inputs=X,readings=y; X.T for a transposed X."),
]
InputsOption = Annotated[
    str | None, typer.Option("--inputs", metavar="F[:NAME]", help="The inputs, if they lie in a file of their own.")
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="F[:NAME]", help="The weights, if they lie apart: a line of numbers per output."),
]
ReadingsOption = Annotated[
    str | None, typer.Option("--readings", metavar="F[:NAME]", help="The readings, if they lie in a file of their own.")
]
DecimalOption = Annotated[
    str | None,
    typer.Option("--decimal", metavar="point|comma", help="Of numbers in a text file; as the file shows if left out."),
]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="Of the readings: DN, V, counts, …; an HDF5 attribute `units` wins.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    command(app, "import")(import_)
    command(app, "predict")(predict)


def import_(
    lab: Lab,
    file: FileArgument = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the bench; the file's name if left out.")] = None,
    unit: UnitOption = None,
    rows: RowsOption = None,
    map_: MapOption = None,
    inputs: InputsOption = None,
    weights: WeightsOption = None,
    readings: ReadingsOption = None,
    decimal: DecimalOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Import products that somebody else's bench measured. They become a sealed run."""
    from labctl.foreign.files import requested
    from labctl.foreign.importing import import_file
    from labctl.foreign.response_words import bad_row_lines, missing_words

    apart = {"inputs": inputs, "weights": weights, "readings": readings}
    path, request = requested(file, unit, rows, map_ or [], apart, decimal)
    done = import_file(lab, runs, path, request, name)
    short = done.run_id.rpartition("-")[2]
    chosen = "" if done.rows.stop - done.rows.start == done.rows.in_file else f" of {done.rows.in_file}"
    span = done.time_span_s
    lines = [
        f"run {done.run_id}   bench {done.bench} (imported)",
        f"  {done.source.name}: {done.source.bytes / 1e6:.2f} MB, sha256 {done.source.sha256[:12]}…",
        f"  rows {done.rows.start}:{done.rows.stop}{chosen}, {done.inputs} inputs, {done.outputs} outputs, "
        f"readings in {done.unit}",
        *([f"  recorded over {span[1] - span[0]:g} s"] if span else []),
        *(f"  {note}" for note in done.notes),
        *([f"  {missing_words(done.missing, done.rows.stop - done.rows.start)}"] if done.missing else []),
        *([f"  {line}" for line in bad_row_lines(done.bad_rows)] if done.bad_rows else []),
        f"  next: labctl fit {short}",
    ]
    lab.console.result(done, "\n".join(lines))


def predict(
    lab: Lab,
    calibration: Annotated[
        str,
        typer.Argument(
            metavar="CALIB", help=f"{CALIBRATION}; one that labctl fit made.", autocompletion=calibration_names
        ),
    ],
    file: FileArgument = None,
    rows: RowsOption = None,
    map_: MapOption = None,
    inputs: InputsOption = None,
    weights: WeightsOption = None,
    readings: ReadingsOption = None,
    decimal: DecimalOption = None,
    unit: UnitOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Predicted readings: *.npz, *.h5 or *.csv.")
    ] = None,
    force: ForceOption = False,
    runs: RunsOption = RUNS,
) -> None:
    """Predict another file of the same bench with a calibration.

    Where the file has readings, the prediction is judged by them: its error, drift, bad rows.
    """
    from labctl.foreign.files import requested
    from labctl.foreign.predicting import predict_file
    from labctl.foreign.response_words import bad_row_lines, outside_lines, prediction_table

    apart = {"inputs": inputs, "weights": weights, "readings": readings}
    path, request = requested(file, unit, rows, map_ or [], apart, decimal)
    found = predict_file(runs, calibration, path, request, output, force=force)
    if not lab.console.json_mode:
        say = lab.console.say
        part = "" if found.rows.stop - found.rows.start == found.rows.in_file else f" of {found.rows.in_file}"
        say(f"{found.source.name}, rows {found.rows.start}:{found.rows.stop}{part}, by {found.calibration}")
        for note in found.notes:
            say(f"  {note}")
        if found.outputs:
            lab.console.table(*prediction_table(found))
            say("\n".join(bad_row_lines(found.bad_rows)))
        else:
            say("no readings in the file: means and intervals only")
        if found.drift:
            say(f"drift: {found.drift.words}")
        if found.outside.rows != 0:
            lab.console.warn("\n".join(outside_lines(found.outside)))
        if found.predictions:
            say(f"written: {found.predictions}")
        elif not found.outputs:
            say("  to keep them: -o predictions.npz")
    lab.console.result(found)


def fit_import(lab: Lab, run: Path, runs: Path, output: Path | None) -> int:
    """Fit an import run, write its calibration and report, and say what was found; 10 if it is not applied."""
    from labctl.archive.outputs import require_output_folder
    from labctl.foreign.fitting import fit_run
    from labctl.foreign.response_words import (
        LINES,
        bad_row_lines,
        heldout_table,
        lines_spread,
        lines_table,
        shortened,
        structure_table,
    )

    if output is not None:
        require_output_folder(output)
    found = fit_run(lab, runs, run, output)
    fitted = found.document
    if not lab.console.json_mode:
        say = lab.console.say
        say(f"run {fitted.run_id}   bench {fitted.bench} (imported)")
        say(f"  {fitted.rows} rows, {fitted.inputs} inputs, {fitted.outputs} outputs, readings in {fitted.unit}")
        for note in fitted.notes:
            lab.console.warn(f"  {note}")
        say(LINES)
        headers, rows = lines_table(fitted)
        lab.console.table(headers, shortened(rows))
        if spread := lines_spread(fitted):
            say(spread)
        say("structure")
        lab.console.table(*structure_table(fitted))
        say("noise: " + "\n  ".join(fitted.noise.law.split("; ")))
        say("\n".join(bad_row_lines(fitted.bad_rows)))
        say("error on held-out rows (each eighth by a fit of the others), rms of range")
        lab.console.table(*heldout_table(fitted))
        say(f"{'applied' if fitted.gate.applied else 'not applied'}: {fitted.gate.reason}")
        say(f"calibration {fitted.calibration.id}\n  {fitted.calibration.path}")
    _draw(lab, found, run, output)
    if not lab.console.json_mode:
        say(f"report: {fitted.report}")
        say(f"next: labctl predict {fitted.calibration.id} FILE")
    lab.console.result(fitted)
    return 0 if fitted.gate.applied else 10


def _draw(lab: Lab, found: FittedRun, run: Path, output: Path | None) -> None:
    """Draw the page of a fit; whoever stops that is told what has been done by then."""
    from labctl.errors import as_coded
    from labctl.report.response_page import write_response_report

    fitted = found.document
    try:
        with lab.console.progress("drawing the report", 2) as bar:
            rows = found.rows()
            bar.advance(1, "figures")
            write_response_report(Path(fitted.report), run, fitted, rows, lab.console.options)
            bar.advance(1)
    except KeyboardInterrupt as stop:
        error = as_coded(stop)
        if isinstance(error, CodedError):
            done = "written, and not applied" if output or not fitted.gate.applied else "applied to the bench"
            error.safe = f"the calibration {fitted.calibration.id} is {done}; only the report was not drawn"
            error.hint = f"labctl fit {fitted.run_id.rpartition('-')[2]} draws it, and gives the same calibration"
        raise error from stop
