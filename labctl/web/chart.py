"""A control chart as SVG: where its points, lines and bands lie, and what stands beside them."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from calibration.statistics.control_chart import ALARM_AT
from labctl.night.charts import Chart
from labctl.summary import number

WIDTH, HEIGHT = 720, 220
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 12, 34
TICKS = 4


@dataclass(frozen=True)
class Dot:
    """A night: where it lies, how far its standard error reaches, and what is said of it."""

    x: float
    y: float
    low: float
    high: float
    state: str
    words: str
    run_id: str


@dataclass(frozen=True)
class Note:
    """Something that happened to the bench: a line across the chart, and a number that its text has below."""

    x: float
    kind: str
    mark: str
    date: str
    words: str


@dataclass(frozen=True)
class Tick:
    """A number at an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Drawing:
    """Everything that a template draws.

    Attributes
    ----------
    bands, averages
        Polygons and polylines, one for each phase that is watched, as SVG has points.
    learning
        (x, width) of the nights in which the chart learns.
    """

    metric: str
    title: str
    unit: str
    state: str
    words: str
    dots: Sequence[Dot]
    bands: Sequence[str]
    averages: Sequence[str]
    centres: Sequence[tuple[float, float, float]]
    learning: Sequence[tuple[float, float]]
    notes: Sequence[Note]
    across: Sequence[Tick]
    up: Sequence[Tick]


def drawing_of(chart: Chart, said: str) -> Drawing:
    """A chart with at least one night; ``said`` is where it stands, in words."""
    to_x = _dates(chart)
    low, high = _range(chart)
    to_y = _scale(low, high, HEIGHT - BOTTOM, TOP)
    xs = [to_x(night.started) for night in chart.nights]
    dots = [
        Dot(x, to_y(point.value), to_y(point.value - night.stderr), to_y(point.value + night.stderr), point.state,
            _words(chart, i), night.run_id)
        for i, (x, point, night) in enumerate(zip(xs, chart.points, chart.nights, strict=True))
    ]  # fmt: skip
    phases = [_Phase(chart, rows, xs, to_y) for rows in _rows(chart)]
    return Drawing(
        chart.metric,
        chart.title,
        "" if chart.unit in ("", "1") else chart.unit,
        chart.state().state if chart.is_gated else "not gated",
        said,
        dots,
        [phase.band for phase in phases if phase.watched],
        [phase.average for phase in phases if phase.watched],
        [phase.centre for phase in phases if phase.watched],
        [span for phase in phases if chart.is_gated and (span := phase.learning)],
        [*_notes(chart, xs)],
        _days(chart, to_x),
        [Tick(to_y(value), number(value, ".6g")) for value in _ticks(low, high)],
    )


class _Phase:
    """The nights of one phase."""

    def __init__(self, chart: Chart, rows: list[int], xs: Sequence[float], to_y: Callable[[float], float]) -> None:
        self.watched = [i for i in rows if chart.points[i].baseline is not None]
        self._chart, self._rows, self._xs, self._to_y = chart, rows, xs, to_y

    @property
    def band(self) -> str:
        """Where the moving average may lie."""
        edges = []
        for sign in (1, -1):
            edge = [(self._xs[i], self._of(i)[0] + sign * ALARM_AT * self._of(i)[2]) for i in self.watched]
            edges += edge if sign > 0 else edge[::-1]
        return self._points(edges)

    @property
    def average(self) -> str:
        """The moving average."""
        return self._points([(self._xs[i], self._of(i)[1]) for i in self.watched])

    @property
    def centre(self) -> tuple[float, float, float]:
        """From x to x, at y."""
        return self._xs[self.watched[0]], self._xs[self.watched[-1]], round(self._to_y(self._of(self.watched[0])[0]), 1)

    @property
    def learning(self) -> tuple[float, float] | None:
        """Where it begins and how wide it is; None where the phase learns nothing."""
        found = [self._xs[i] for i in self._rows if self._chart.points[i].baseline is None]
        return (round(found[0] - 4, 1), round(found[-1] - found[0] + 8, 1)) if found else None

    def _of(self, i: int) -> tuple[float, float, float]:
        point = self._chart.points[i]
        centre = point.baseline.centre if point.baseline else point.value
        return centre, point.value if point.average is None else point.average, point.spread or 0.0

    def _points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x:.1f},{self._to_y(y):.1f}" for x, y in points)


def _rows(chart: Chart) -> list[list[int]]:
    phases = dict.fromkeys(point.phase for point in chart.points)
    return [[i for i, point in enumerate(chart.points) if point.phase == phase] for phase in phases]


def _notes(chart: Chart, xs: Sequence[float]) -> Iterator[Note]:
    """What begins a phase has a letter; calibrations are thin lines and have none."""
    letter = ord("A")
    for x, night in zip(xs, chart.nights, strict=True):
        date = f"{night.started:%Y-%m-%d}"
        if night.begins:
            yield Note(x, "phase", chr(letter), date, night.begins)
            letter = min(letter + 1, ord("Z"))
        if night.calibration:
            yield Note(x, "calibration", "", date, f"calibration {night.calibration} applied")
        if night.is_acknowledged:
            yield Note(x, "acknowledged", "", date, "alarm acknowledged")


def _words(chart: Chart, i: int) -> str:
    night, point = chart.nights[i], chart.points[i]
    error = f" ± {number(night.stderr, '.1g')}" if night.stderr else ""
    z = f", z {point.z:+.1f}" if point.z is not None else ""
    unit = "" if chart.unit in ("", "1") else f" {chart.unit}"
    return f"{night.started:%Y-%m-%d %H:%M}: {number(point.value, '.5g')}{error}{unit}{z}, {_state(chart, i)}"


def _state(chart: Chart, i: int) -> str:
    return chart.points[i].state.replace("_", " ") if chart.is_gated else "plotted"


def _range(chart: Chart) -> tuple[float, float]:
    values = [
        value
        for night, point in zip(chart.nights, chart.points, strict=True)
        for value in (point.value - night.stderr, point.value + night.stderr)
    ]
    for point in chart.points:
        if point.baseline is not None and point.spread is not None:
            values += [point.baseline.centre + sign * ALARM_AT * point.spread for sign in (-1, 1)]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, `TICKS` of them or a few more."""
    exponent = math.floor(math.log10((high - low) / TICKS))
    step = next(s for m in (1, 2, 5, 10) if (s := m * 10.0**exponent) >= (high - low) / (TICKS + 1))
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _scale(low: float, high: float, at_low: float, at_high: float) -> Callable[[float], float]:
    return lambda value: round(at_low + (value - low) / (high - low) * (at_high - at_low), 1)


def _dates(chart: Chart) -> Callable[[dt.datetime], float]:
    first, last = chart.nights[0].started, chart.nights[-1].started
    span_s = max((last - first).total_seconds(), 1.0)
    inner = (LEFT + 10.0, WIDTH - RIGHT - 10.0)
    if len(chart.nights) == 1:
        return lambda moment: (inner[0] + inner[1]) / 2
    return lambda moment: round(inner[0] + (moment - first).total_seconds() / span_s * (inner[1] - inner[0]), 1)


def _days(chart: Chart, to_x: Callable[[dt.datetime], float]) -> list[Tick]:
    """Some of the nights, with room for their dates."""
    found: list[Tick] = []
    for night in chart.nights:
        x = min(to_x(night.started), WIDTH - RIGHT - 30.0)
        if not found or x - found[-1].at > 90:
            found.append(Tick(x, f"{night.started:%Y-%m-%d}"))
    return found
