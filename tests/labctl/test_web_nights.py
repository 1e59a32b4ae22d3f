"""Control charts as the live page draws them, held to the numbers that they are drawn from."""

from __future__ import annotations

import datetime as dt
import re

import pytest

pytest.importorskip("starlette", reason="the live page needs labctl[web]")

from calibration.statistics.control_chart import ALARM_AT, control_chart
from labctl.night.charts import Chart, Night, in_words
from labctl.web.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Drawing, drawing_of

FIRST = dt.datetime(2026, 3, 1, 2, tzinfo=dt.UTC)


def chart(values: list[float], *, begins: dict[int, str] | None = None, stderr: float = 0.0) -> Chart:
    nights = tuple(
        Night(f"run-{i}", FIRST + dt.timedelta(days=i), value, stderr, (begins or {}).get(i, ""),
              calibration="cal-1" if i == 3 else None)
        for i, value in enumerate(values)
    )  # fmt: skip
    points = control_chart(values, [stderr] * len(values), [bool(n.begins) for n in nights], [False] * len(values))
    return Chart("dark_level", "DN", "dark level", True, nights, tuple(points))


def drawn(found: Chart) -> Drawing:
    return drawing_of(found, in_words(found))


def value_at(drawing: Drawing, y: float) -> float:
    """The value at a height, by two ticks of the axis."""
    (y0, v0), (y1, v1) = ((tick.at, float(tick.label)) for tick in (drawing.up[0], drawing.up[-1]))
    return v0 + (y - y0) / (y1 - y0) * (v1 - v0)


def test_dots_lie_where_the_axes_say() -> None:
    values = [64 + 0.5 * (i * 7 % 5) for i in range(24)]
    found = chart(values, stderr=0.2)
    drawing = drawn(found)
    assert [value_at(drawing, dot.y) for dot in drawing.dots] == pytest.approx(values, abs=0.02)
    assert [value_at(drawing, dot.high) for dot in drawing.dots] == pytest.approx([v + 0.2 for v in values], abs=0.02)
    steps = [b.x - a.x for a, b in zip(drawing.dots[:-1], drawing.dots[1:], strict=True)]
    assert steps == pytest.approx([steps[0]] * len(steps), abs=0.2)
    assert "2026-03-04 02:00: 64.5 ± 0.2 DN, learning" in drawing.dots[3].words


def test_band_is_where_the_average_may_lie_and_an_alarm_lies_outside() -> None:
    values = [64 + 0.1 * (i * 7 % 5) for i in range(24)] + [66.0] * 6
    found = chart(values)
    drawing = drawn(found)
    (band,), (average,) = drawing.bands, drawing.averages
    corners = [tuple(map(float, pair.split(","))) for pair in band.split()]
    watched = [point for point in found.points if point.baseline is not None]
    assert len(corners) == 2 * len(watched)
    last = watched[-1]
    assert last.baseline is not None
    assert last.spread is not None
    edge = last.baseline.centre + ALARM_AT * last.spread
    assert value_at(drawing, corners[len(watched) - 1][1]) == pytest.approx(edge, abs=0.02)
    assert drawing.dots[-1].state == "alarm"
    y = float(average.split()[-1].split(",")[1])
    assert y < corners[len(watched) - 1][1]  # above the band; y counts from the top


def test_phases_and_calibrations_are_annotated() -> None:
    drawing = drawn(chart([64.0, 64.1] * 12, begins={12: "station changed: camera", 20: "rebaselined: lamp"}))
    assert [(n.mark, n.date, n.words) for n in drawing.notes if n.kind == "phase"] == [
        ("A", "2026-03-13", "station changed: camera"),
        ("B", "2026-03-21", "rebaselined: lamp"),
    ]
    assert [n.words for n in drawing.notes if n.kind == "calibration"] == ["calibration cal-1 applied"]
    assert drawing.notes[1].x == drawing.dots[12].x


@pytest.mark.parametrize("values", [[64.0], [0.0], [64.0] * 3, [1e-12, 2e-12], [-5.0, 1e9], [-1e-300, 1e-300]])
def test_any_nights_lie_inside_the_drawing(values: list[float]) -> None:
    drawing = drawn(chart(values))
    for dot in drawing.dots:
        assert LEFT <= dot.x <= WIDTH - RIGHT
        assert TOP <= dot.high <= dot.low <= HEIGHT - BOTTOM
    assert all(TOP <= tick.at <= HEIGHT - BOTTOM and re.fullmatch(r"[-+.\de]+", tick.label) for tick in drawing.up)
    assert 1 <= len(drawing.up) <= 12
