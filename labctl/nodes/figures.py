"""The figures of nodes, one function each: data in, a matplotlib figure out. Drawing changes no result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibration.bench.lut_fit import LutFit
from calibration.bench.timing import BEFORE, StepFit
from calibration.fit.channel import ChannelFit
from calibration.fit.run_drift import RunDrift
from calibration.frames.products import ProductGroup
from calibration.frames.scan import repeats
from calibration.frames.schedule import ProductResult
from calibration.judge.canaries import Canaries, change
from calibration.judge.flaws import Flaw
from calibration.machine.layout import Layout
from calibration.machine.registration import Registration
from calibration.statistics.tails import normal_isf, normal_pdf
from labctl.colours import ACCENT, MEASURED, MODEL, QUIET
from labctl.nodes.evidence import Evidence

ARROW_SCALE = 200
POINTS_SHOWN = 6000
FEW_LEVELS = 32
PANELS = {"slm": "SLM", "display": "display"}


def registration(layout: Layout, registrations: Mapping[str, Registration], evidence: Evidence) -> Figure:
    """Fiducials on the camera frame they were found in, residuals as arrows, and the grid of macropixels."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    top, bottom, left, right = layout.box_px
    for axes, (panel, r) in zip(figure.subplots(1, 2), registrations.items(), strict=True):
        f = evidence.fiducials[panel]
        frame = f.grid.mean(axis=0) - f.background
        image = axes.imshow(frame, cmap="gray", vmin=0, vmax=np.percentile(frame, 99.9))
        axes.plot(*r.found_px.T, "o", ms=9, mfc="none", mec="#facc15", label=f"{len(r.found_px)} fiducials found")
        axes.quiver(
            *r.found_px.T, *(ARROW_SCALE * r.residual_px).T, angles="xy", scale_units="xy", scale=1, color="#f87171",
            width=0.004, label=f"residual × {ARROW_SCALE}",
        )  # fmt: skip
        if panel == "slm":
            x, y = np.array([left, right, right, left, left]), np.array([top, top, bottom, bottom, top])
            axes.plot(*r.to_camera(x, y), color="#38bdf8", label="grid of macropixels")
        axes.set_title(f"{PANELS[panel]}: {r.model}, residual {r.rms_px:.3f} px rms")
        axes.set_xlabel("camera column [px]")
        axes.set_ylabel("camera row [px]")
        axes.legend(loc="lower right", fontsize=7, framealpha=0.85)
        figure.colorbar(image, ax=axes, label="signal above background [DN]", shrink=0.8)
    return figure


def luts(found: LutFit) -> Figure:
    """Gray level → transmission of both panels."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    linear, logarithmic = figure.subplots(1, 2)
    for name, lut, colour in (("display", found.display, ACCENT), ("SLM", found.slm, MEASURED)):
        for axes in (linear, logarithmic):
            label = f"{name}, {lut.levels} levels, floor {lut.floor:.2g}"
            mark = "o-" if lut.levels <= FEW_LEVELS else "-"
            axes.plot(np.linspace(0, 1, lut.levels), lut.transmission, mark, ms=4, color=colour, label=label)
    logarithmic.set_yscale("log")
    for axes in (linear, logarithmic):
        axes.set_xlabel("gray level, relative to the highest")
        axes.set_ylabel("transmission, relative to the brightest level")
        axes.grid(alpha=0.3)
    linear.legend(frameon=False, fontsize=8)
    return figure


def products(groups: Sequence[ProductGroup], results: Sequence[ProductResult]) -> Figure:
    """Measured against realised products, one panel for each kind, in units of the group's scales."""
    kinds = sorted({(g.operation, g.block) for g in groups}, key=lambda kind: (kind[0], kind[1]))
    figure = Figure(figsize=(3.1 * len(kinds), 3.4), layout="constrained")
    rng = np.random.default_rng(0)
    for axes, (operation, block) in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        chosen = [
            r for r in results if (groups[r.group].operation, groups[r.group].block)
            == (operation, block)
        ]  # fmt: skip
        x = np.concatenate([r.realised.ravel() for r in chosen])
        y = np.concatenate([r.measured.ravel() for r in chosen])
        shown = rng.permutation(len(x))[:POINTS_SHOWN]
        axes.plot(x[shown], y[shown], ".", ms=2, alpha=0.35, color=MEASURED, rasterized=True)
        ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
        axes.plot(ends, ends, color=MODEL, lw=1)
        error = float(np.sqrt(np.mean((y - x) ** 2)) / np.ptp(x))
        name = {"linear": "FFN-2", "qk": "Q·Kᵀ", "av": "A·V"}.get(operation, operation)
        axes.set_title(f"{name}, block {block}: rms {error:.2%} of range", fontsize=9)
        axes.grid(alpha=0.3)
    figure.supxlabel("predicted product [full input × full weight]", fontsize="medium")
    figure.supylabel("measured product [full input × full weight]", fontsize="medium")
    return figure


def residuals(results: Sequence[ProductResult], single: NDArray[np.float64]) -> Figure:
    """Residual over predicted standard deviation, of products and of single readings, against a normal law."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    z = np.concatenate([r.z for r in results])
    edges = np.linspace(-5, 5, 81)
    for axes, values, name in zip(
        figure.subplots(1, 2), (z, single.ravel()), ("decoded products", "single readings"), strict=True
    ):
        axes.hist(
            np.clip(values, -5, 5), edges, density=True, color=MEASURED, alpha=0.6, label=f"{values.size:,} {name}"
        )
        axes.plot(edges, normal_pdf(edges), color=MODEL, label="predicted noise")
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 1)
        axes.set_title(f"{name}: χ²/dof {np.mean(values**2):.3f}", fontsize=9)
        axes.set_xlabel("residual / predicted standard deviation")
        axes.set_ylabel("probability density")
        axes.legend(loc="lower center", fontsize=8, framealpha=0.9)
    return figure


def drift(course: RunDrift) -> Figure:
    """Gain and, if it drifts, offset over the run: 95 % band, each bright reference frame alone, and the jumps."""
    # an offset at rest needs no panel
    moves = [True, course.track.walk_per_sqrt_s[1] > 0 or bool(course.track.jumps)]
    figure = Figure(figsize=(5.5 * sum(moves), 3.4), layout="constrained")
    at_s = course.track.at_s
    shown_s = np.linspace(at_s.min(), at_s.max(), 800)
    value, covariance = course.track.at(shown_s)
    band = normal_isf(0.025) * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    units = ((100.0, "change of the gain [%]"), (1.0, "change of the offset [DN]"))
    for j, axes in enumerate(figure.subplots(1, sum(moves), squeeze=False)[0]):
        unit, label = units[j]
        low, high = unit * (value[:, j] - band[:, j]), unit * (value[:, j] + band[:, j])
        axes.fill_between(shown_s, low, high, color=MEASURED, alpha=0.25, lw=0, label="95 %")
        axes.plot(shown_s, unit * value[:, j], color=MEASURED, lw=1, label="course")
        if j == 0:
            axes.plot(at_s, unit * course.alone, ".", ms=3, color=QUIET, label="single reference frames")
        for jump in course.track.jumps:
            axes.axvline(jump.at_s, color=MODEL, lw=1, ls="--")
        axes.set_xlabel("device time [s]")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(course.track.in_words(), fontsize=9)
    return figure


def canaries(moments: Mapping[str, Canaries], knock_max: float) -> Figure:
    """Light of the canaries at each moment, and how far each output's pattern is from that of the first."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    light, pattern = figure.subplots(1, 2, width_ratios=(1, 2))
    first = next(iter(moments.values()))
    changes = {name: change(first, now) for name, now in moments.items()}
    light.errorbar(
        list(moments), [100 * c.light for c in changes.values()], [100 * c.light_stderr for c in changes.values()],
        fmt="o", color=MEASURED, capsize=3,
    )  # fmt: skip
    light.axhline(0, color=QUIET, lw=0.8)
    light.margins(x=0.2)
    light.set_ylabel("light against that of the start [%]")
    light.grid(alpha=0.3)
    for (name, c), colour in zip(list(changes.items())[1:], (MEASURED, ACCENT), strict=False):
        label = f"{name}: {c.shape:.2f} rms over the outputs"
        pattern.plot(np.arange(len(c.left)), c.left, ".-", ms=4, lw=0.7, color=colour, label=label)
    for side in (-1, 1):
        pattern.axhline(side * knock_max, color=MODEL, lw=1, ls="--", label="limit of the rms" if side > 0 else None)
    pattern.set_xlabel("output m")
    pattern.set_ylabel("change of its share of the light / noise")
    pattern.grid(alpha=0.3)
    figure.legend(*pattern.get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False, fontsize=8)
    return figure


def gain(fit: ChannelFit) -> Figure:
    """The gain map of the structure chosen; beside it the difference from a map of free gains, in standard errors."""
    single = fit.channel.couplings is not None
    figure = Figure(figsize=(4.5 if single else 9, 3.6), layout="constrained")
    left = figure.add_subplot(1, 1 if single else 2, 1)
    image = left.imshow(fit.channel.gain_dn, cmap="viridis", aspect="auto")
    chosen = "macropixel by macropixel" if single else f"structure chosen: {fit.structure['gain'].chosen}"
    left.set_title(f"gain, {chosen}", fontsize=9)
    figure.colorbar(image, ax=left, label="gain of a macropixel [DN]")
    left.set_xlabel("input k")
    left.set_ylabel("output m")
    if single:
        return figure
    right = figure.add_subplot(1, 2, 2)
    difference = (fit.full_gain_dn - fit.channel.gain_dn) / fit.full_gain_stderr_dn
    image = right.imshow(difference, cmap="RdBu_r", vmin=-4, vmax=4, aspect="auto")
    right.set_title(f"full map − chosen: {difference.std():.2f} standard errors rms", fontsize=9)
    figure.colorbar(image, ax=right, label="difference / standard error")
    right.set_xlabel("input k")
    right.set_ylabel("output m")
    return figure


def crosstalk(fit: ChannelFit) -> Figure:
    """Share of the neighbours' light that each output collects."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    c = fit.channel
    for side, (label, colour) in enumerate((("from output m − 1", MEASURED), ("from output m + 1", MODEL))):
        inner = slice(1, None) if side == 0 else slice(None, -1)
        index = np.arange(len(c.crosstalk))[inner]
        axes.errorbar(
            index, 100 * c.crosstalk[inner, side], 100 * c.crosstalk_stderr[inner, side], fmt=".", ms=4, lw=0.7,
            color=colour, label=label,
        )  # fmt: skip
    b, e = 100 * c.bleed, 100 * c.bleed_stderr
    choice = fit.structure["crosstalk"]
    axes.set_title(
        f"crosstalk: {choice.chosen} (against {choice.runner_up}: p = {choice.p_value:.1g});  "
        f"input bleed {b[0]:.3f} ± {e[0]:.3f} % and {b[1]:.3f} ± {e[1]:.3f} %",
        fontsize=9,
    )
    axes.set_xlabel("output m")
    axes.set_ylabel("share of the neighbour's light [%]")
    axes.set_ylim(100 * min(0.0, 1.3 * float(c.crosstalk.min())), 100 * max(1.3 * float(c.crosstalk.max()), 1e-4))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def couplings(fit: ChannelFit) -> Figure:
    """Shares of each macropixel's light: from either neighbouring display column, to either neighbouring output."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    c = fit.channel.couplings
    assert c is not None
    maps = {
        "from display column k − 1": c.before,
        "from display column k + 1": c.after,
        "to output m − 1": c.above,
        "to output m + 1": c.below,
    }
    for axes, (name, share), error in zip(figure.subplots(2, 2).ravel(), maps.items(), c.stderr, strict=True):
        inner = 100 * share[1:-1, 1:-1]
        image = axes.imshow(100 * share, cmap="viridis", aspect="auto", vmin=inner.min(), vmax=inner.max())
        axes.set_title(f"{name}: {inner.mean():.2f} %, ± {inner.std():.2f} over the map", fontsize=9)
        axes.set_xlabel("input k")
        axes.set_ylabel("output m")
        figure.colorbar(image, ax=axes, label=f"share [%], standard error {100 * error.mean():.3f}")
    return figure


def flaws(fit: ChannelFit, found: Sequence[Flaw]) -> Figure:
    """Where macropixels differ from those around them, on the map of single macropixels."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fit.full_gain_dn, cmap="viridis", aspect="auto")
    for kind, colour in (("weak", MODEL), ("bright", MEASURED), ("leaking", ACCENT), ("lit", QUIET)):
        at = [(-0.5 if f.column is None else f.column, f.row) for f in found if f.kind == kind]
        if at:
            axes.plot(*zip(*at, strict=True), "s", mfc="none", mec=colour, label=f"{len(at)} {kind}")
    axes.set_xlabel("input k")
    axes.set_ylabel("output m")
    axes.legend(fontsize=7, framealpha=0.85)
    figure.colorbar(image, ax=axes, label="gain of a macropixel [DN]")
    return figure


def timing(steps: Mapping[str, tuple[StepFit, StepFit]], evidence: Evidence) -> Figure:
    """Step responses of both panels with their fits."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, len(steps), squeeze=False)[0]
    for axes, (panel, fits) in zip(panels, steps.items(), strict=True):
        for fit, name, colour in zip(fits, ("dark → bright", "bright → dark"), (MEASURED, MODEL), strict=True):
            n = len(fit.step.light_dn) - BEFORE
            span = fit.start_dn - fit.end_dn
            left = (fit.step.light_dn[BEFORE:] - fit.end_dn) / span
            frames = np.linspace(0, n - 1, 400)
            seen, label = np.maximum(np.abs(left), 1e-5), f"{name}: {fit.tau_in_words()}"
            axes.semilogy(np.arange(n), seen, "o", ms=4, mfc="none", color=colour, label=label)
            axes.semilogy(frames, np.maximum([fit.residue(f) for f in frames], 1e-6), color=colour, lw=1)
        axes.set_ylim(1e-5, 2)
        axes.set_title(f"{PANELS[panel]}: refresh {evidence.steps[panel].refresh_hz:g} Hz", fontsize=9)
        axes.set_xlabel("camera frame after the hand-over")
        axes.set_ylabel("part of the step still to come")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    return figure


def noise(fit: ChannelFit, dark_dn: NDArray[np.float64], evidence: Evidence) -> Figure:
    """Photon transfer: variance between repeated readings against their mean, and the noise law that was fitted."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    axes = figure.subplots()
    readings = evidence.scans["noise"].minus(dark_dn)
    law = fit.channel.noise
    offset = fit.channel.offset_dn
    means, variances = [], []
    for group in repeats(readings):
        y = readings.dn[group] - offset
        means.append(y.mean(axis=0))
        variances.append(y.var(axis=0, ddof=1))
    mean, variance = np.stack(means), np.stack(variances)
    axes.loglog(
        np.maximum(mean, 1).ravel(), variance.ravel(), ".", ms=2, alpha=0.3, color=MEASURED, label="each output"
    )
    axes.loglog(np.maximum(mean.mean(1), 1), variance.mean(1), "o", color=ACCENT, label="mean over outputs")
    light = np.geomspace(max(float(mean.max()) * 1e-5, 1.0), float(mean.max()) * 1.2, 200)
    axes.loglog(light, law.variance(light, float(offset.mean())), color=MODEL, label="σ² + κ s + (ρ (s + b))²")
    s = law.stderr
    axes.set_title(
        f"σ {law.read_dn:.4g} ± {s[0]:.1g} DN,  κ {law.shot_dn:.4g} ± {s[1]:.1g} DN/e⁻,  "
        f"ρ {law.flicker:.3g} ± {s[2]:.1g}  (calibration)",
        fontsize=9,
    )
    axes.set_xlabel("light of an output, s [DN]")
    axes.set_ylabel("variance between repeats [DN²]")
    axes.grid(alpha=0.3, which="both", lw=0.4)
    axes.legend(frameon=False, fontsize=8)
    return figure
