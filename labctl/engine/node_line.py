"""What a person is told of a node when it has passed."""

from __future__ import annotations

from labctl.console import WIDTH_MAX, wrapped
from labctl.summary import Metric
from labctl.summary import Node as Passed

FIGURES_SHOWN = 3
_MARKS = dict.fromkeys(("in_spec", "done", "checked", "applied"), "✓") | dict.fromkeys(("out_of_spec", "bad_data"), "✗")
UNCERTAIN = 0.1
"""Relative standard error from which a figure is shown with it."""


def line_of(node: Passed, width: int = WIDTH_MAX) -> str:
    """For a person: mark, name, time, and the first three figures, none of them broken; the report has them all.

    Why a calibration is applied or not is said at the end of the run.
    """
    mark = _MARKS.get(node.check or node.state, "–")
    seconds = f"{node.duration_s:6.1f} s" if node.duration_s is not None else " " * 8
    begin = f" {mark} {node.name:<13}{seconds}  "
    shown = [m for m in node.metrics if m.value is not None][:FIGURES_SHOWN]
    figures = [f"{m.name} {_uncertain(m).figure}" + (f" ({m.limit})" if m.limit else "") for m in shown]
    if node.state in ("applied", "not_applied"):
        figures = [node.state.replace("_", " ")]
    elif node.reason:
        figures = wrapped(node.reason, width - len(begin)).split("\n")
        return ("\n" + " " * len(begin)).join([begin + figures[0], *figures[1:]]).rstrip()
    lines = [begin + (figures[0] if figures else "")]
    for figure in figures[1:]:
        if len(lines[-1]) + 3 + len(figure) <= width:
            lines[-1] += f"   {figure}"
        else:
            lines.append(" " * len(begin) + figure)
    return "\n".join(lines).rstrip()


def _uncertain(metric: Metric) -> Metric:
    """The figure, with its standard error only where it is known no better than to a tenth of itself."""
    if not metric.stderr or metric.value is None or metric.stderr < UNCERTAIN * abs(metric.value):
        return metric.model_copy(update={"stderr": None})
    return metric
