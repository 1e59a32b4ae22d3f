"""The page of a fitted import: gate first, then figures, then every choice with its test, then provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from labctl.archive.reader import read_run_json
from labctl.foreign.documents import Fitted
from labctl.foreign.fitted_rows import FittedRows
from labctl.foreign.response_words import LINES, bad_row_ranges, chance, lines_table
from labctl.hints import completed
from labctl.report import response_figures as figures
from labctl.report.document import headline, section, table, text, write_page
from labctl.summary import number

BAD_ROWS_SHOWN = 50


def write_response_report(
    path: Path, run: Path, fitted: Fitted, fit: FittedRows, options: Mapping[str, str] | None = None
) -> Path:
    """Write the page; it holds its figures and needs no network.

    Parameters
    ----------
    path
        The page, usually ``report.html`` in the run folder.
    run
        The run folder of the import.
    options
        What the command was called with, as `labctl.hints.given` has it: what is to be typed next repeats it.
    """
    info = read_run_json(run)
    applied = fitted.gate.applied
    body = [
        f"<h1>{text(fitted.run_id)}</h1>",
        f"<p>bench {text(fitted.bench)} (imported): {fitted.rows} rows, {fitted.inputs} inputs, {fitted.outputs} "
        f"outputs, readings in {text(fitted.unit)} &nbsp; <span class='verdict {'ok' if applied else 'bad'}'>"
        f"{'applied' if applied else 'not applied'}</span></p>",
        f"<p{'' if applied else ' class=out'}>{text(fitted.gate.reason)}</p>",
        *(f"<p>{text(note[:1].upper() + note[1:])}.</p>" for note in fitted.notes),
        headline(_headline(fitted)),
        section(
            "Measured against predicted",
            "Each point is one reading, the drift followed; below, what the fit misses. The error in the title is of "
            "rows held out: each eighth of the recording, predicted by a fit of the others.",
            figures.predicted(fit),
        ),
        section(
            "In the order recorded",
            "How gain and offset went, with two standard errors, and what is left when that is followed. Bad rows are "
            "marked by a line; they took no part in the fit.",
            figures.course(fit),
        ),
        f"<h2>Gain and offset of each output</h2><p class=what>{text(LINES[:1].upper() + LINES[1:])}.</p>",
        table(*lines_table(fitted)),
        section("Gain", fitted.determined[:1].upper() + fitted.determined[1:] + ".", figures.gain(fit)),
        section(
            "Noise",
            "Variance of the residuals, in bins of the predicted reading, and the law that the intervals rest on.",
            figures.noise(fit),
        ),
        "<h2>What was chosen, and against what</h2>",
        _structure(fitted),
        "<h2>Bad rows</h2>",
        *_bad_rows(fitted),
        "<h2>Where it comes from</h2>",
        table(("", ""), _provenance(run, info, fitted)),
        "<h2>What to do next</h2>",
        "<p>" + " &nbsp; ".join(f"<code>{text(step)}</code>" for step in _next(run, fitted, options or {})) + "</p>",
    ]
    return write_page(path, f"labctl fit {fitted.run_id}", body)


def _structure(fitted: Fitted) -> str:
    """Each part of the response: the form chosen, the test that decided, and what it was tested against."""
    return table(
        ("part", "chosen", "test", "value", "chance", "against", "because"),
        [
            (name, c.chosen, c.statistic, number(c.value, ".4g"), chance(c.p_value), c.runner_up or "–", c.reason)
            for name, c in fitted.structure.items()
        ],
    )


def _headline(fitted: Fitted) -> list[tuple[str, str]]:
    held = fitted.heldout
    cells = [(_spread(held.rms_percent_of_range, ".2f", " %"), "rms error of range on held-out rows, per output")]
    cells.append((_spread(held.line_rms_percent_of_range, ".2f", " %"), "the same for a line per output"))
    if held.parent_rms_percent_of_range:
        cells.append((_spread(held.parent_rms_percent_of_range, ".2f", " %"), "the same for the calibration before"))
    inside = [None if c is None else 100 * c for c in held.coverage95]
    cells.append((_spread(inside, ".1f", " %"), "of held-out readings inside their 95 % interval"))
    cells.append((str(len(fitted.bad_rows)), "bad rows"))
    return cells


def _spread(values: list[float | None], form: str, unit: str) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "–"
    low, high = format(min(known), form), format(max(known), form)
    return f"{low}{unit}" if low == high else f"{low} … {high}{unit}"


def _bad_rows(fitted: Fitted) -> list[str]:
    if not fitted.bad_rows:
        return ["<p>None.</p>"]
    found = bad_row_ranges(fitted.bad_rows)
    rows = [(where.removeprefix("s").strip(), reason, z) for where, reason, z in found[:BAD_ROWS_SHOWN]]
    shown = table(("row in the file", "why", "residual / predicted s.d."), rows)
    return [shown, "<p>and more: labctl fit --json lists all</p>" if len(found) > BAD_ROWS_SHOWN else ""]


def _provenance(run: Path, info: dict[str, object], fitted: Fitted) -> list[tuple[object, object]]:
    source = info.get("source")
    rows = info.get("rows")
    assert isinstance(source, dict)
    assert isinstance(rows, dict)
    return [
        ("run folder", run),
        ("file", f"{source['name']}, {source['bytes']} bytes"),
        ("its SHA-256", source["sha256"]),
        ("rows", f"{rows['start']}:{rows['stop']} of {rows['in_file']}"),
        ("calibration", fitted.calibration.id),
        ("its parent", fitted.calibration.parent or "none"),
        ("written to", fitted.calibration.path),
    ]


def _next(run: Path, fitted: Fitted, options: Mapping[str, str]) -> list[str]:
    short = run.name.rpartition("-")[2]
    steps = [f"labctl predict {fitted.calibration.id} FILE", f"labctl fit {short}", f"labctl run verify {short}"]
    return [completed(step, options) for step in steps]
