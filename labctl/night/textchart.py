"""A control chart in characters that every terminal has: no colours, and no wider than asked."""

from __future__ import annotations

from calibration.statistics.control_chart import ALARM_AT
from labctl.night.charts import Chart

HEIGHT = 11
AXIS = 12
MARKS = {"learning": ".", "in_control": "o", "alarm": "X", "acknowledged": "a"}
LEGEND = ". learning   o in control   X alarm   a acknowledged   - centre   = limits of the average   | new phase"


def text_chart(chart: Chart, width: int = 80) -> list[str]:
    """Lines of the chart: a column for each night, the newest on the right; older ones that do not fit are said.

    Marks stand at a night's value; that the moving average, and not the value, crosses a limit makes a mark an X.
    """
    shown = max(1, min(len(chart.points), (width - AXIS - 1)))
    if not chart.points:
        return ["no night has measured it yet"]
    points, nights = chart.points[-shown:], chart.nights[-shown:]
    levels = [p.value for p in points]
    for p in points:
        if p.baseline is not None and p.spread is not None:
            levels += [p.baseline.centre - ALARM_AT * p.spread, p.baseline.centre + ALARM_AT * p.spread]
    low, high = min(levels), max(levels)
    span = (high - low) or abs(high) or 1.0

    def row(value: float) -> int:
        return round((high - value) / span * (HEIGHT - 1)) if high > low else HEIGHT // 2

    rows = [[" "] * shown for _ in range(HEIGHT)]
    for column, (point, night) in enumerate(zip(points, nights, strict=True)):
        if night.begins:
            for line in rows:
                line[column] = "|"
        if point.baseline is not None and point.spread is not None:
            rows[row(point.baseline.centre)][column] = "-"
            for side in (-ALARM_AT, ALARM_AT):
                rows[row(point.baseline.centre + side * point.spread)][column] = "="
        rows[row(point.value)][column] = MARKS[point.state] if chart.is_gated else "o"
    labels = {0: high, HEIGHT - 1: low} if high > low else {HEIGHT // 2: high}
    lines = [f"{_label(labels.get(i)):>{AXIS - 1}} |{''.join(line)}".rstrip() for i, line in enumerate(rows)]
    first, last = f"{nights[0].started:%Y-%m-%d}", f"{nights[-1].started:%Y-%m-%d}"
    dates = first if shown == 1 else f"{first}{last:>{max(shown - len(first), len(last) + 1)}}"
    lines.append(" " * AXIS + " " + dates)
    if shown < len(chart.points):
        lines.append(f"{len(chart.points) - shown} earlier nights are not shown")
    return lines


def _label(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
