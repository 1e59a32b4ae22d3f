"""Numbers beside logarithmic axes: 20 and 30 where an axis spans little, powers of ten where it spans much."""

from __future__ import annotations

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter, NullLocator

SHORT = 100.0
"""Where the ends are farther apart than by this factor, powers of ten are enough."""
NARROW, DECADE = 3.0, 10.0
"""Below the first factor ticks are equally far apart, as on a linear axis; the second has room for every other one."""
LEAST, MOST = 1e-3, 1e5
"""Numbers that are read at a glance without a power of ten."""


def plain_numbers(figure: Figure) -> None:
    """Write plain numbers at the ticks of each short logarithmic axis that has no ticks of its own."""
    for axes in figure.axes:
        _plain(axes.xaxis, axes.get_xlim())
        _plain(axes.yaxis, axes.get_ylim())


def _plain(axis: Axis, limits: tuple[float, float]) -> None:
    low, high = sorted(limits)
    if axis.get_scale() != "log" or type(axis.get_major_formatter()) is not LogFormatterSciNotation:
        return
    if not LEAST <= low < high <= min(MOST, SHORT * low):
        return
    if high < NARROW * low:
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < DECADE * low else (1, 2, 5)))
        axis.set_minor_locator(LogLocator(subs=range(2, 10)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
