"""Ticks of logarithmic axes, as they are drawn."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labctl.report.log_axes import plain_numbers


def labels(axes: Axes) -> list[str]:
    """What stands beside the y axis."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    plain_numbers(figure)
    FigureCanvasAgg(figure).draw()
    low, high = axes.get_ylim()
    ticks = [*axes.yaxis.get_major_ticks(), *axes.yaxis.get_minor_ticks()]
    return [t.label1.get_text() for t in ticks if t.label1.get_text() and low <= t.get_loc() <= high]


def drawn(low: float, high: float) -> Axes:
    axes = Figure().subplots()
    axes.semilogy([1, 2], [low, high])
    return axes


@pytest.mark.parametrize(("low", "high"), [(18, 34), (22, 24), (1, 9), (0.02, 0.5), (4000, 60_000), (31.2, 31.9)])
def test_a_short_axis_has_plain_numbers_and_at_least_two(low: float, high: float) -> None:
    found = labels(drawn(low, high))
    assert 2 <= len(found) <= 9
    assert all(low * 0.8 <= float(label) <= high * 1.25 for label in found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(("low", "high"), [(1, 1e4), (2e-9, 3e-9), (3e7, 6e7)])
def test_a_long_axis_and_numbers_of_another_size_have_powers_of_ten(low: float, high: float) -> None:
    assert any("10^{" in label for label in labels(drawn(low, high)))


def test_ticks_that_a_figure_chose_stay() -> None:
    axes = drawn(64, 256)
    axes.set_yticks([64, 128, 256], ["64", "128", "256"])
    axes.minorticks_off()
    assert labels(axes) == ["64", "128", "256"]
