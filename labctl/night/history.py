"""The last nights of a bench, and how long ago the last good one was."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.archive import RunReader, list_runs
from labctl.archive.index import RunRow
from labctl.clock import utc_now
from labctl.errors import LabError
from labctl.night.charts import PURPOSE
from labctl.summary import Metric, number
from labctl.verdicts import Verdict

GOOD = frozenset({Verdict.OK, Verdict.DRIFT})
"""Verdicts of nights that were complete and in spec."""


@dataclass(frozen=True)
class NightRow:
    """One night.

    Attributes
    ----------
    run_id, verdict, started
        Of the run.
    duration_s
        None where it has not ended.
    worst
        The figure that is nearest to its limit, or farthest beyond it, in words; empty where none has a limit.
    alarms
        Metrics whose control charts fire.
    error
        Code and words of what ended it; empty where nothing did.
    """

    run_id: str
    verdict: str
    started: str
    duration_s: float | None
    worst: str
    alarms: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class NightStatus:
    """The nights of a bench, newest first.

    Attributes
    ----------
    last_good
        Id of the last night that was complete and in spec; None where there was none.
    good_age_h
        How long ago it ended [h].
    """

    bench: str
    nights: list[NightRow]
    last_good: str | None
    good_age_h: float | None


def night_status(runs: Path, bench: str, count: int) -> NightStatus:
    """The last ``count`` nights; the last good one may be older."""
    rows = [row for row in list_runs(runs) if row.bench == bench and row.purpose == PURPOSE]
    good = next((row for row in rows if row.status in GOOD), None)
    ended = None if good is None else dt.datetime.fromisoformat(good.finished or good.started)
    age_h = None if ended is None else (utc_now() - ended) / dt.timedelta(hours=1)
    return NightStatus(bench, list(_nights(rows[:count])), good.run_id if good else None, age_h)


def _nights(rows: list[RunRow]) -> Iterator[NightRow]:
    for row in rows:
        summary = None
        with suppress(LabError):
            summary = RunReader(row.path).summary()
        if summary is None:
            yield NightRow(row.run_id, row.status, row.started, None, "", (), "")
            continue
        error = summary.first_error
        yield NightRow(
            row.run_id,
            row.status,
            row.started,
            summary.duration_s,
            _worst(summary.metrics),
            tuple(chart.metric for chart in summary.drift if chart.state == "alarm"),
            f"{error.code}  {error.message}" if error else "",
        )


def _worst(metrics: list[Metric]) -> str:
    limited = [metric for metric in metrics if metric.limit is not None]
    if not limited:
        return ""
    worst = max(limited, key=_nearness)
    unit = "" if worst.unit in ("", "1") else f" {worst.unit}"
    return f"{worst.name} {number(worst.value, '.3g')}{unit} ({worst.limit})"


def _nearness(metric: Metric) -> float:
    """How much of what its limit allows a figure uses up; above 1 it is out of spec."""
    limit, value = metric.limit, metric.value
    if limit is None or value is None:
        return math.inf
    if limit.min is not None and limit.max is not None:
        half = (limit.max - limit.min) / 2
        return abs(value - (limit.max + limit.min) / 2) / half if half else math.inf
    if limit.max is not None:
        return value / limit.max if limit.max > 0 else float(value > limit.max)
    assert limit.min is not None
    return limit.min / value if value > 0 and limit.min > 0 else 2.0 * (value < limit.min)
