"""The figures of a fitted import, one function each: data in, a matplotlib figure out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from labctl.report.figures import ACCENT, MEASURED, MODEL, QUIET

OUTPUTS_SHOWN = 8
BINS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fit as the figures need it: rows in the order recorded, NaN where an output was not read.

    Attributes
    ----------
    row
        (n,) index of each row in the run.
    readings, mean, sd
        (n, M) measured, predicted, and predicted standard deviation, in ``unit``.
    heldout
        (n,) whether the row took no part in the fit.
    bad
        (n,) whether the row was found bad.
    drift_percent
        (n,) how far the bench had gone from its state at the start of the recording, None without drift.
    gain
        (M, N) reading per unit of input and weight.
    unit
        Of the readings.
    """

    row: NDArray[np.int64]
    readings: Floats
    mean: Floats
    sd: Floats
    heldout: NDArray[np.bool_]
    bad: NDArray[np.bool_]
    drift_percent: Floats | None
    gain: Floats
    unit: str

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.readings.shape[1])

    def percent_of_range(self) -> Floats:
        """(n, M) residual in per cent of each output's range."""
        spread = np.nanmax(self.readings, axis=0) - np.nanmin(self.readings, axis=0)
        return np.asarray(100 * (self.readings - self.mean) / np.where(spread > 0, spread, 1))


def predicted(fit: Fit) -> Figure:
    """Measured against predicted, residuals below it, one column for each output."""
    shown = min(fit.outputs, OUTPUTS_SHOWN)
    figure = Figure(figsize=(max(2.9 * shown, 4.5), 5), layout="constrained")
    panels = figure.subplots(2, shown, height_ratios=[3, 2], sharex="col", squeeze=False)
    residual = fit.percent_of_range()
    for m in range(shown):
        above, below = panels[0][m], panels[1][m]
        for which, colour, name in _parts(fit):
            x = fit.mean[which, m]
            above.plot(x, fit.readings[which, m], ".", ms=3, alpha=0.5, color=colour, label=name, rasterized=True)
            below.plot(x, residual[which, m], ".", ms=3, alpha=0.5, color=colour, rasterized=True)
        good = fit.mean[~fit.bad, m]
        ends = [float(np.nanmin(good)), float(np.nanmax(good))]
        above.plot(ends, ends, color="black", lw=0.8)
        below.axhline(0, color="black", lw=0.8)
        _limit_to_good(below, residual[~fit.bad, m])
        rms = float(np.sqrt(np.nanmean(residual[fit.heldout & ~fit.bad, m] ** 2))) if fit.heldout.any() else np.nan
        above.set_title(f"output {m}: held out {rms:.2f} % of range", fontsize=9)
        below.set_xlabel(f"predicted [{fit.unit}]")
        for axes in (above, below):
            axes.grid(alpha=0.3)
            axes.ticklabel_format(scilimits=(-3, 4))
    panels[0][0].set_ylabel(f"measured [{fit.unit}]")
    panels[1][0].set_ylabel("residual [% of range]")
    panels[0][0].legend(frameon=False, fontsize=8)
    return figure


def course(fit: Fit) -> Figure:
    """Residuals in the order recorded, bad rows marked; above them the drift that was followed."""
    rows = 1 if fit.drift_percent is None else 2
    figure = Figure(figsize=(9, 2 + 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    if fit.drift_percent is not None:
        panels[0].plot(fit.row, fit.drift_percent, color=MODEL)
        panels[0].set_ylabel("drift followed [%]")
        panels[0].grid(alpha=0.3)
    axes, residual = panels[-1], fit.percent_of_range()
    axes.plot(fit.row, residual, ".", ms=2, alpha=0.5, color=MEASURED, rasterized=True)
    axes.axhline(0, color="black", lw=0.8)
    _limit_to_good(axes, residual[~fit.bad])
    for at in fit.row[fit.bad]:
        axes.axvline(float(at), color=MODEL, lw=0.6, alpha=0.7)
    axes.set_xlabel("row, in the order recorded")
    axes.set_ylabel("residual [% of range]")
    axes.grid(alpha=0.3)
    return figure


def gain(fit: Fit) -> Figure:
    """What one unit of input through full weight adds to each output."""
    figure = Figure(figsize=(9, 1.6 + 0.35 * min(fit.outputs, 12)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fit.gain, cmap="viridis", aspect="auto", interpolation="nearest")
    axes.set_xlabel("input k")
    axes.set_ylabel("output m")
    axes.set_yticks(range(fit.outputs) if fit.outputs <= 12 else [0, fit.outputs - 1])
    figure.colorbar(image, ax=axes, label=f"gain [{fit.unit} per unit]")
    return figure


def noise(fit: Fit) -> Figure:
    """Variance of the residuals in bins of the predicted reading, against the law."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for m in range(min(fit.outputs, OUTPUTS_SHOWN)):
        use = ~fit.bad & np.isfinite(fit.readings[:, m])
        order = np.argsort(fit.mean[use, m])
        light, law = fit.mean[use, m][order], fit.sd[use, m][order] ** 2
        squares = (fit.readings[use, m] - fit.mean[use, m])[order] ** 2
        bins = np.array_split(np.arange(len(light)), min(BINS, max(1, len(light) // 10)))
        centre, variance = (np.array([v[b].mean() for b in bins]) for v in (light, squares))
        error = variance * np.sqrt(2 / np.array([len(b) for b in bins]))
        colour = (MEASURED, ACCENT, QUIET, "#7c3aed")[m % 4]
        axes.errorbar(centre, variance, error, fmt="o", ms=3, lw=0.8, color=colour, label=f"output {m}")
        axes.plot(light, law, color=colour, lw=1)
    axes.plot([], [], color="black", lw=1, label="fitted law")
    axes.set_yscale("log")
    axes.set_xlabel(f"predicted reading [{fit.unit}]")
    axes.set_ylabel(f"variance of the residual [{fit.unit}²]")
    axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    axes.grid(alpha=0.3, which="both", lw=0.4)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _parts(fit: Fit) -> Iterator[tuple[NDArray[np.bool_], str, str]]:
    """Rows of the figure in three colours."""
    parts = (
        (~fit.heldout & ~fit.bad, QUIET, "fitted"),
        (fit.heldout & ~fit.bad, MEASURED, "held out"),
        (fit.bad, MODEL, "bad row"),
    )
    return (part for part in parts if part[0].any())


def _limit_to_good(axes: Axes, residual: Floats) -> None:
    """A bad row may lie far out; the scale is that of the others."""
    far = float(np.nanmax(np.abs(residual), initial=0.0))
    if far > 0:
        axes.set_ylim(-1.2 * far, 1.2 * far)
