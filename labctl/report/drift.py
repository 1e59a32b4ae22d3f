"""Control charts drawn: what a bench measured night by night, where it may lie, and when it did not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibration.statistics.control_chart import ALARM_AT, LEARNING_NIGHTS
from labctl.archive.ids import run_folder
from labctl.archive.reader import read_run_json
from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.errors import LabError
from labctl.night.charts import PURPOSE, Chart, charts, in_words
from labctl.nodes.node import Titled
from labctl.summary import Summary

HEIGHT_IN = 2.5
BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
HALF_DAY = dt.timedelta(hours=12)
REASON = 72
"""Characters of the reason for a phase that are written beside its line."""
LEARNS = (
    "One point a night. In gray nights a chart learns: it needs {nights} before it is watched and can fire. A strong "
)
WATCHES = (
    "One point a night. The line is the moving average that is watched, the band is where it may lie: {limit:g} "
    "standard deviations to each side of what was learned. In gray nights the chart learns and cannot fire. A strong "
)
WORDS = (
    "line begins a new phase, a thin one is a calibration that the bench used from then on. A night that ended before "
    "it was complete has no point, and neither has a number that was kept instead of measured."
)


def drift_of(run: Path, summary: Summary) -> Iterator[Titled]:
    """The charts as they stood after a nightly run; nothing for other runs."""
    if summary.bench is None or read_run_json(run).get("purpose") != PURPOSE:
        return
    found = [chart for chart in charts(archive_of(run), summary.bench, summary) if chart.points]
    if found:
        watched = any(point.baseline for chart in found for point in chart.points)
        begin = WATCHES.format(limit=ALARM_AT) if watched else LEARNS.format(nights=LEARNING_NIGHTS)
        yield Titled("Drift over the nights", begin + WORDS, drift_figure(found))


def archive_of(run: Path) -> Path:
    """The archive that a run folder lies in; the folder above it where it lies in none."""
    try:
        archive = run.resolve().parents[3]
        return archive if run_folder(archive, run.name) == run.resolve() else run.parent
    except (IndexError, LabError):
        return run.parent


def drift_figure(found: Sequence[Chart]) -> Figure:
    """One panel for each chart, on one axis of dates."""
    figure = Figure(figsize=(9, 0.5 + HEIGHT_IN * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
    for axes, chart in zip(panels, found, strict=True):
        _draw(axes, chart)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _draw(axes: Axes, chart: Chart) -> None:
    at = np.array([night.started for night in chart.nights])
    values = np.array([point.value for point in chart.points])
    _phases(axes, chart, at)
    axes.errorbar(
        at, values, [night.stderr for night in chart.nights], fmt=".", ms=5, lw=0.7, color=MEASURED, label="a night"
    )
    for state, label, mark in (("alarm", "alarm", "s"), ("acknowledged", "alarm, acknowledged", "D")):
        fired = np.array([point.state == state for point in chart.points])
        if fired.any():
            axes.plot(at[fired], values[fired], mark, ms=8, mfc="none", mec=MODEL, label=label)
    unit = "" if chart.unit in ("", "1") else f" [{chart.unit}]"
    axes.set_ylabel(f"{chart.metric}{unit}", fontsize=8)
    axes.set_title(f"{chart.title}: {in_words(chart)}", fontsize=9, loc="left")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _phases(axes: Axes, chart: Chart, at: NDArray[np.object_]) -> None:
    """Where the average may lie, phase by phase, and what begins one."""
    for phase in dict.fromkeys(point.phase for point in chart.points):
        rows = [i for i, point in enumerate(chart.points) if point.phase == phase]
        learning = [i for i in rows if chart.points[i].baseline is None]
        if learning and chart.is_gated:
            axes.axvspan(
                at[learning[0]] - HALF_DAY, at[learning[-1]] + HALF_DAY, color=QUIET, alpha=0.12, lw=0, label="learning"
            )
        watched = [i for i in rows if chart.points[i].baseline is not None]
        centre, average, spread = (
            np.array([_three(chart, i)[column] for i in watched]).reshape(-1) for column in range(3)
        )
        if phase and chart.nights[rows[0]].begins:
            _begin(axes, at[rows[0]] - HALF_DAY, chart.nights[rows[0]].begins, phase, 2 * rows[0] > len(at))
        if not watched:
            continue
        where = at[watched]
        low, high = centre - ALARM_AT * spread, centre + ALARM_AT * spread
        axes.fill_between(where, low, high, color=ACCENT, alpha=0.15, lw=0, label="where the average may lie")
        axes.plot(where, centre, color=ACCENT, lw=0.8, label="centre")
        axes.plot(where, average, color=MODEL, lw=1.2, label="moving average")
    for moment, night in zip(at, chart.nights, strict=True):
        if night.calibration:
            axes.axvline(moment, color=QUIET, lw=0.4, alpha=0.6, label="calibration applied")


def _begin(axes: Axes, at: Any, why: str, phase: int, is_late: bool) -> None:
    """The line that begins a phase, and why; on the inner side of it, and above what the phase before says there."""
    axes.axvline(at, color="black", lw=1.6, label="new phase")
    axes.annotate(
        shorten(why, REASON, placeholder=" …"),
        (at, 0.03 + 0.1 * ((phase - 1) % 3)),
        xytext=(-3 if is_late else 3, 0),
        textcoords="offset points",
        xycoords=("data", "axes fraction"),
        ha="right" if is_late else "left",
        bbox=BOX,
        fontsize=7,
    )


def _three(chart: Chart, i: int) -> tuple[float, float, float]:
    point = chart.points[i]
    assert point.baseline is not None
    assert point.average is not None
    assert point.spread is not None
    return point.baseline.centre, point.average, point.spread
