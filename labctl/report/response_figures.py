"""The figures of a fitted import, one function each: data in, a matplotlib figure out."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.foreign.fitted_rows import FittedRows

OUTPUTS_SHOWN = 8
BINS = 20
MOST_POINTS = 50_000  # of a figure that shows every output: more take minutes, and are a blot

Floats = NDArray[np.float64]


def predicted(fit: FittedRows) -> Figure:
    """Measured against fitted, residuals below it, one column for each output."""
    shown = min(fit.outputs, OUTPUTS_SHOWN)
    figure = Figure(figsize=(max(2.9 * shown, 4.5), 5), layout="constrained")
    panels = figure.subplots(2, shown, height_ratios=[3, 2], sharex="col", squeeze=False)
    residual = fit.percent_of_range()
    for m in range(shown):
        above, below = panels[0][m], panels[1][m]
        for which, colour, name in ((~fit.bad, MEASURED, "row"), (fit.bad, MODEL, "bad row")):
            x, size = fit.mean[which, m], 2 if colour == MEASURED else 5
            above.plot(x, fit.readings[which, m], ".", ms=size, alpha=0.6, color=colour, label=name, rasterized=True)
            below.plot(x, residual[which, m], ".", ms=size, alpha=0.6, color=colour, rasterized=True)
        good = fit.mean[~fit.bad, m]
        if (known := good[np.isfinite(good)]).size:  # nothing is known of an output that was never read
            ends = [float(known.min()), float(known.max())]
            above.plot(ends, ends, color="black", lw=0.8)
        below.axhline(0, color="black", lw=0.8)
        _limit_to_good(below, residual[~fit.bad, m])
        held = fit.heldout_percent[m]
        title = f"held out {held:.2f} % of range" if np.isfinite(held) else "left out"
        above.set_title(f"output {m}: {title}", fontsize=9)
        below.set_xlabel(f"predicted [{fit.unit}]")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.ticklabel_format(scilimits=(-3, 4))
    panels[0][0].set_ylabel(f"measured [{fit.unit}]")
    panels[1][0].set_ylabel("residual [% of range]")
    if fit.bad.any():
        panels[0][0].legend(frameon=False, fontsize=8)
    return figure


def course(fit: FittedRows) -> Figure:
    """Gain and offset as they went, and what is left of the readings when they are followed."""
    rows = 1 if fit.drift is None else 3
    figure = Figure(figsize=(9, 2 + 1.5 * rows), layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    if fit.drift is not None:
        d = fit.drift
        courses = ((100 * d.gain, 100 * d.gain_stderr, "gain [%]"), (d.offset, d.offset_stderr, f"offset [{fit.unit}]"))
        for axes, (value, error, name) in zip(panels, courses, strict=False):
            axes.plot(d.at, value, color=MODEL, lw=1)
            axes.fill_between(d.at, value - 2 * error, value + 2 * error, color=MODEL, alpha=0.2, lw=0)
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
    axes, residual = panels[-1], fit.percent_of_range()
    step = -(-residual.size // MOST_POINTS)
    axes.plot(fit.at[::step], residual[::step], ".", ms=2, alpha=0.5, color=MEASURED, rasterized=True)
    axes.axhline(0, color="black", lw=0.8)
    _limit_to_good(axes, residual[~fit.bad])
    axes.vlines(fit.at[fit.bad], 0, 1, transform=axes.get_xaxis_transform(), color=MODEL, lw=0.6, alpha=0.7)
    axes.set_xlabel("time [s]" if fit.clock == "s" else "row, in the order recorded")
    axes.set_ylabel("residual [% of range]")
    axes.grid(alpha=0.3)
    return figure


def gain(fit: FittedRows) -> Figure:
    """What one unit of input adds to each output, weights included."""
    figure = Figure(figsize=(9, 1.6 + 0.35 * min(fit.outputs, 12)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fit.gain, cmap="viridis", aspect="auto", interpolation="nearest")
    axes.set_xlabel("input k")
    axes.set_ylabel("output m")
    axes.set_yticks(range(fit.outputs) if fit.outputs <= 12 else [0, fit.outputs - 1])
    figure.colorbar(image, ax=axes, label=f"gain [{fit.unit} per unit of input]")
    return figure


def noise(fit: FittedRows) -> Figure:
    """Variance of the residuals in bins of the predicted reading, against the law."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for m in range(min(fit.outputs, OUTPUTS_SHOWN)):
        use = ~fit.bad & np.isfinite(fit.readings[:, m])
        if not use.any():
            continue
        order = np.argsort(fit.mean[use, m])
        light, law = fit.mean[use, m][order], fit.sd[use, m][order] ** 2
        squares = (fit.readings[use, m] - fit.mean[use, m])[order] ** 2
        bins = np.array_split(np.arange(len(light)), min(BINS, max(1, len(light) // 10)))
        centre, variance, expected = (np.array([v[b].mean() for b in bins]) for v in (light, squares, law))
        error = variance * np.sqrt(2 / np.array([len(b) for b in bins]))
        colour = (MEASURED, ACCENT, QUIET, "#7c3aed")[m % 4]
        axes.errorbar(centre, variance, error, fmt="o", ms=3, lw=0.8, color=colour, label=f"output {m}")
        axes.plot(centre, expected, color=colour, lw=1)
    axes.plot([], [], color="black", lw=1, label="fitted law")
    axes.set_yscale("log")
    axes.set_xlabel(f"predicted reading [{fit.unit}]")
    axes.set_ylabel(f"variance of the residual [{fit.unit}²]")
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    axes.grid(alpha=0.3, which="both", lw=0.4)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _limit_to_good(axes: Axes, residual: Floats) -> None:
    """A bad row may lie far out; the scale is that of the others."""
    far = float(np.nan_to_num(np.abs(residual)).max(initial=0.0))
    if far > 0:
        axes.set_ylim(-1.2 * far, 1.2 * far)
