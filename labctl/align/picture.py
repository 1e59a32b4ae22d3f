"""What was seen, as one picture: both panels on the camera's frame, and how sharp each is across it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from calibration.machine.layout import apply_homography
from labctl.align.look import NAMES, View
from labctl.align.proposal import layout_window
from labctl.colours import ACCENT, MODEL, QUIET
from labctl.station.model import Station

COLOURS = {"slm": MODEL, "display": ACCENT}


def picture(view: View, station: Station) -> Figure:
    """The camera's frame with the outlines of both panels and of the layout, and the blur of each panel on it."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    frame, *blurs = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
    top = float(np.percentile(view.picture, 99.9))
    image = frame.imshow(view.picture, cmap="gray", vmin=0, vmax=max(top, 1.0))
    figure.colorbar(image, ax=frame, label="counts over dark [DN]")
    for name, panel in view.panels.items():
        if panel.located is not None:
            _outline(frame, name, panel.shape, panel.located.panel_to_camera)
    if (window := layout_window(view, station)) is not None:
        x, y, width, height = window
        box = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]])
        frame.plot(*box.T, color=QUIET, ls=":", lw=1.5, label="layout")
    frame.set_title("Both panels bright; a dot at each first pixel", fontsize="medium")
    frame.set(xlabel="column [px]", ylabel="row [px]")
    if frame.get_legend_handles_labels()[0]:
        frame.legend(loc="lower left", fontsize="small")
    for axes, name in zip(blurs, NAMES, strict=True):
        _blur(axes, view, name)
    return figure


def _outline(axes: Axes, name: str, shape: tuple[int, int], h: np.ndarray) -> None:
    """The panel's edge, a dot at its first pixel, and an arrow along its first row."""
    rows, columns = shape
    corners = np.array([[0, 0], [columns - 1, 0], [columns - 1, rows - 1], [0, rows - 1], [0, 0]], float)
    x, y = apply_homography(h, corners[:, 0], corners[:, 1])
    axes.plot(x, y, color=COLOURS[name], lw=1.5, label=NAMES[name])
    axes.plot(x[0], y[0], "o", color=COLOURS[name], ms=7)
    axes.annotate(
        "",
        (x[0] + 0.25 * (x[1] - x[0]), y[0] + 0.25 * (y[1] - y[0])),
        (x[0], y[0]),
        arrowprops={"arrowstyle": "-|>", "color": COLOURS[name], "lw": 2},
    )


def _blur(axes: Axes, view: View, name: str) -> None:
    panel = view.panels.get(name)
    axes.set(xticks=[], yticks=[])
    if panel is None or panel.focus is None:
        axes.set_title(f"Blur of the {NAMES[name]}")
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=QUIET)
        return
    blocks = panel.focus.blocks_px
    axes.imshow(blocks, cmap="viridis", vmin=0, vmax=2 * max(panel.focus.blur_px, 0.5))
    for (i, j), value in np.ndenumerate(blocks):
        text = f"{value:.2f}" if np.isfinite(value) else "–"
        axes.text(j, i, text, ha="center", va="center", color="white" if value < panel.focus.blur_px * 1.3 else "black")
    axes.set_title(
        f"Blur of the {NAMES[name]}, by part of the frame\n1 σ of its edges [{NAMES[name]} px]", fontsize="medium"
    )
