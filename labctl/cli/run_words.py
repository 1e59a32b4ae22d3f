"""What ``labctl run show`` says of a run."""

from __future__ import annotations

from collections import Counter

from labctl.archive import RunReader
from labctl.archive.reader import is_import
from labctl.archive.recovery import death_of
from labctl.archive.seal import REPORT
from labctl.cli.handler import can_go_on
from labctl.console import wrapped
from labctl.summary import Summary

MARKS = {"out_of_spec": "✗", "ok": "✓", "info": "·"}
"""By verdict, in the order in which figures are shown."""


def described(reader: RunReader, *, every: bool, width: int) -> str:
    """How the run ended, what it recorded, where it lies, what it found, and what to type next.

    Parameters
    ----------
    every
        Also the figures that no limit judges.
    width
        Columns that a line may take.
    """
    info, summary = reader.info, reader.summary()
    kinds = Counter(row.kind for row in reader.manifest)
    rows = Counter[str]()
    for row in reader.manifest:
        rows[row.kind] += row.rows
    mode = "imported" if is_import(reader.path) else info.get("mode")
    lines = [
        f"{reader.run_id}  {reader.status}",
        f"  bench     {info.get('bench')} ({mode})",
        f"  started   {info.get('started')}",
        f"  finished  {reader.seal.finished if reader.seal else '–'}",
        wrapped(
            f"  segments  {', '.join(f'{kind} {n} ({rows[kind]} rows)' for kind, n in kinds.items()) or 'none'}",
            width,
            " " * 12,
        ),
        f"  folder    {reader.path}",
    ]
    if (page := reader.path / REPORT).is_file():
        lines.append(f"  report    {page}")
    if summary:
        lines += _figures(summary, every)
    return "\n".join([*lines, *_end_of(reader, summary, width), _next(reader)])


def _figures(summary: Summary, every: bool) -> list[str]:
    """What is judged by a limit, what is out of spec first; the rest where it is asked for."""
    found = sorted(summary.metrics, key=lambda metric: [*MARKS].index(metric.verdict))
    shown = [metric for metric in found if every or metric.verdict != "info"] or found
    lines = [
        f"  {MARKS[m.verdict]} {m.name} {m.figure}" + (f"  ({m.limit})" if m.limit is not None else "") for m in shown
    ]
    if summary.validation is not None:
        lines.append(f"    chi2_per_dof and coverage95 may be off by chance as far as {summary.validation.products}")
        lines.append("    products allow: their limits here are that much wider than the station's")
    if len(shown) < len(found):
        lines.append(f"  · {len(found) - len(shown)} figures without a limit: --all")
    return lines


def _next(reader: RunReader) -> str:
    short = reader.run_id.rpartition("-")[2]
    if is_import(reader.path):
        return f"  next: labctl fit {short}"
    if reader.status == "running":
        return f"  next: labctl run tail {short}"
    if can_go_on(reader.path):
        return f"  go on: labctl run resume {short}"
    summary = reader.summary()
    if summary is not None and summary.calibration is not None:
        return f"  next: labctl simulate {summary.calibration.path}"
    return f"  next: labctl run verify {short}"


def _end_of(reader: RunReader, summary: Summary | None, width: int) -> list[str]:
    """What ended a run that is not whole, and how that has left the bench."""
    error = summary.first_error if summary else None
    if error is None and reader.status == "crashed":
        error = death_of(reader)
    lines = [f"  error     {error.code}  {error.message}"] if error else []
    lines += [f"  state     {error.safe}"] if error and error.safe else []
    return [wrapped(line, width, " " * 12) for line in lines]
