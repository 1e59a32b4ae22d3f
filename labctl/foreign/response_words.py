"""What a person reads of a fitted import and of a prediction."""

from __future__ import annotations

from labctl.foreign.documents import BadRow, Fitted, MissingReadings, Outside, Predicted
from labctl.summary import number, with_error

BAD_ROWS_SHOWN = 20
OUTPUTS_SHOWN = 16

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def chance(p_value: float | None) -> str:
    """A p-value; one below the smallest number is not zero."""
    return "p < 1e-300" if p_value == 0 else f"p {number(p_value, '.2g')}"


def structure_table(fitted: Fitted) -> Table:
    """Each choice with its test and what it was tested against."""
    rows: list[tuple[str, ...]] = [
        (f"  {name}", c.chosen, f"{c.statistic} {number(c.value, '.4g')}", chance(c.p_value),
         c.runner_up)
        for name, c in fitted.structure.items()
    ]  # fmt: skip
    return ("  part", "chosen", "test", "", "against"), rows


LINES = "each output: reading = offset + gain · Σ w x, as at the end of the file"


def lines_table(fitted: Fitted) -> Table:
    """Gain and offset of each output, with their standard errors and units."""
    rows: list[tuple[str, ...]] = [
        (f"  {o.output}", with_error(o.gain, o.gain_stderr), with_error(o.offset, o.offset_stderr))
        for o in fitted.outputs_fitted
    ]
    return ("  output", f"gain [{fitted.unit} per 1 of Σ w x]", f"offset [{fitted.unit}]"), rows


def lines_spread(fitted: Fitted) -> str:
    """Smallest and largest gain and offset, and the output whose gain is known worst; empty where the table has all."""
    if len(fitted.outputs_fitted) <= OUTPUTS_SHOWN:
        return ""
    parts = []
    for name in ("gain", "offset"):
        values = [v for o in fitted.outputs_fitted if (v := getattr(o, name)) is not None]
        parts.append(f"{name} {min(values):.5g} … {max(values):.5g}" if values else f"{name} –")
    worst = max(fitted.outputs_fitted, key=lambda o: o.gain_stderr or 0.0)
    parts.append(f"worst known gain {with_error(worst.gain, worst.gain_stderr)} (output {worst.output})")
    return f"  all {len(fitted.outputs_fitted)}: {', '.join(parts)}"


def heldout_table(fitted: Fitted) -> Table:
    """Error of each output on rows that took no part in the fit."""
    held, before = fitted.heldout, fitted.heldout.parent_rms_percent_of_range
    headers = ["  output", "calibration", "a line", *(["calibration before"] if before else []), "inside 95 %"]
    rows: list[tuple[str, ...]] = []
    for m, (rms, line, inside) in enumerate(
        zip(held.rms_percent_of_range, held.line_rms_percent_of_range, held.coverage95, strict=True)
    ):
        row = [f"  {m}", f"{number(rms, '.3f')} %", f"{number(line, '.3f')} %"]
        row += [f"{number(before[m], '.3f')} %"] if before else []
        rows.append((*row, number(inside, ".1%")))
    return tuple(headers), shortened(rows)


def prediction_table(found: Predicted) -> Table:
    """Error of each output, drift followed and frozen."""
    rows: list[tuple[str, ...]] = [
        (
            f"  {o.output}",
            f"{number(o.rms_percent_of_range, '.3f')} %",
            f"{number(o.rms_percent_of_range_frozen, '.3f')} %",
            number(o.coverage95, ".1%"),
            f"{number(o.range, '.6g')} {found.unit}",
        )
        for o in found.outputs
    ]
    return ("  output", "rms of range", "without following drift", "inside 95 %", "range"), shortened(rows)


def shortened(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The first rows, and how many more there are."""
    if len(rows) <= OUTPUTS_SHOWN:
        return rows
    more = f"  … {len(rows) - OUTPUTS_SHOWN} more: --json has all"
    return [*rows[:OUTPUTS_SHOWN], (more, *([""] * (len(rows[0]) - 1)))]


def outside_lines(outside: Outside) -> list[str]:
    """That rows lie beyond what the fit was shown, and a line for each way in which they do."""
    return [f"warning: {outside.words}", *(f"  {g.words}, first row {g.first}" for g in outside.reasons)]


def missing_words(missing: MissingReadings, rows_in_all: int) -> str:
    """``"3 readings are missing in 2 rows, first in row 14: output 2: 2, output 5: 1"``"""
    never = [str(m) for m, count in enumerate(missing.by_output) if count == rows_in_all]
    unread = f" (output {', '.join(never[:OUTPUTS_SHOWN])} was never read)" if never else ""
    of = [(m, count) for m, count in enumerate(missing.by_output) if count]
    more = " …" if len(of) > OUTPUTS_SHOWN else ""
    each = ", ".join(f"output {m}: {count}" for m, count in of[:OUTPUTS_SHOWN])
    are = f"{missing.readings} readings are" if missing.readings > 1 else "1 reading is"
    rows = f"{missing.rows} rows" if missing.rows > 1 else "1 row"
    return f"{are} missing in {rows}, first in row {missing.first_row}: {each}{more}{unread}"


def bad_row_lines(bad: list[BadRow]) -> list[str]:
    """The first bad rows, one line each."""
    if not bad:
        return ["bad rows: none"]
    found = bad_row_ranges(bad)
    lines = [f"bad rows: {len(bad)}"]
    lines += [f"  row{where}: {reason}" + (f" (z {z})" if z else "") for where, reason, z in found[:BAD_ROWS_SHOWN]]
    return [*lines, "  … more: --json has all"] if len(found) > BAD_ROWS_SHOWN else lines


def bad_row_ranges(bad: list[BadRow]) -> list[tuple[str, str, str]]:
    """Rows that follow each other for one reason, once: ``("s 0–12", "garbage: …", "10.6 … 34.1")``; ``" 49"``."""
    groups: list[list[BadRow]] = []
    for row in bad:
        if groups and row.index == groups[-1][-1].index + 1 and row.reason == groups[-1][-1].reason:
            groups[-1].append(row)
        else:
            groups.append([row])
    found = []
    for group in groups:
        first, last = group[0].index, group[-1].index
        z = sorted(row.z for row in group if row.z is not None)
        found.append(
            (
                f" {first}" if first == last else f"s {first}–{last}",
                group[0].reason,
                "" if not z else f"{z[0]:.1f}" if z[0] == z[-1] else f"{z[0]:.1f} … {z[-1]:.1f}",
            )
        )
    return found
