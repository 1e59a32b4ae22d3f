"""Commands on products that somebody else's bench measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.handler import RUNS, RunsOption, command
from labctl.lab import Lab

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="*.npz, *.h5, *.csv or *.tsv with inputs, weights and readings.")
]
RowsOption = Annotated[
    str | None,
    typer.Option("--rows", metavar="START:STOP", help="Only these rows; half-open, from 0, as a Python slice."),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="NAME=THERE", help="Names in the file: inputs=X,readings=y; X.T for a transposed X."),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="The weights, if they lie apart: a line of numbers per output.")
]
UnitOption = Annotated[
    str | None, typer.Option("--unit", help="Of the readings: DN, V, counts, …; an HDF5 attribute `units` wins.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the top of the command line."""
    command(app, "import")(import_)


def import_(
    lab: Lab,
    file: FileArgument,
    name: Annotated[str | None, typer.Option("--name", help="Of the bench; the file's name if left out.")] = None,
    unit: UnitOption = None,
    rows: RowsOption = None,
    map_: MapOption = None,
    weights: WeightsOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Take products that somebody else's bench measured into the archive, as a sealed run."""
    from labctl.imports import Request, parse_map
    from labctl.pipeline.importing import import_file

    request = Request(unit, rows, parse_map(map_ or []), weights)
    done = import_file(lab, runs, file, request, name)
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
        f"  next: labctl fit {short}",
    ]
    lab.console.result(done, "\n".join(lines))
