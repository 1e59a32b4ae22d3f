"""Look-up tables of both panels, fitted to the light of ramps through their gray levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.errors import BadScan
from calibration.frames.probes import levels_of_ramps, ramp_levels
from calibration.frames.scan import Readings
from calibration.machine.lut import Lut

Float = NDArray[np.float64]

PANELS = ("display", "slm")
DIFFERENCES = 3
FOLDED_MIN = 0.01
"""A curve that falls from its highest point to its last by less than this is flat at its end, and no worse for it."""
OUTLIER_SIGMAS = 5.0
UNDERSMOOTHING = 10.0
"""A tenth of the best strength costs a fifth of precision and makes bias small against the stated error."""


def fit_lut(
    light_dn: Float,
    variance_dn2: Float,
    stray_dn: float,
    panel: str,
    stray_stderr_dn: float = 0.0,
    shown: NDArray[np.int64] | None = None,
    left_dn2: Float | float = 0.0,
) -> Lut:
    """LUT from the light of a ramp through gray levels: as smooth as the noise allows, and monotone.

    Levels that were not shown lie on the straight line between their neighbours that were. Their standard errors add
    how far each shown level lies from the line between its own two neighbours, beyond its noise: that is what such a
    line has been seen to miss on this panel.

    Parameters
    ----------
    light_dn
        (n,) mean summed light at each gray level that was shown, dark signal subtracted [DN].
    variance_dn2
        (n,) its variance [DN²].
    stray_dn
        Light that reaches the camera past the modulators (`stray_light`) [DN].
    panel
        Name for messages.
    stray_stderr_dn
        Standard error of ``stray_dn`` [DN].
    shown
        (n,) the gray levels, rising, from 0 to the panel's brightest; None for 0 … n − 1.
    left_dn2
        (n,) variance by what is left of the drift: levels that follow each other share it, and no smoothing lessens
        it [DN²].

    Returns
    -------
    A LUT with an entry for every gray level from 0 to the brightest.

    Raises
    ------
    BadScan
        When the ramp shows fewer than two levels, or does not respond: the brightest level must rise above the darkest
        by 10 standard deviations.
    """
    at = np.arange(len(light_dn)) if shown is None else shown
    modulated = light_dn - stray_dn
    _require_response(modulated, variance_dn2, panel)
    variance = np.maximum(variance_dn2, 1e-18 * modulated[-1] ** 2)
    smoother = _smoother(modulated, variance, at)
    relative = smoother @ modulated
    bias = smoother @ relative - relative
    _require_rising(panel, relative, np.sqrt(smoother**2 @ variance), at)
    monotone = scipy.optimize.isotonic_regression(relative, weights=1.0 / variance).x
    top = monotone[-1]
    against_top = smoother - np.outer(relative / relative[-1], smoother[-1])  # the brightest level is 1 by definition
    stray = (1.0 - relative / relative[-1]) * stray_stderr_dn
    left2 = left_dn2 * np.ones(len(at))
    left2 = left2 + (relative / relative[-1]) ** 2 * left2[-1]
    stderr = np.sqrt(against_top**2 @ variance + bias**2 + stray**2 + left2) / top
    stderr[-1] = 0.0
    transmission = np.clip(monotone / top, 0.0, 1.0)
    every = np.arange(at[-1] + 1)
    errors = np.interp(every, at, stderr)
    between = ~np.isin(every, at)
    errors[between] = np.hypot(errors[between], _missed(transmission, at, modulated / top, variance / top**2))
    return Lut(np.interp(every, at, transmission), errors)


def _require_response(modulated: Float, variance: Float, panel: str) -> None:
    """Refuse a ramp of one level, and one whose light does not rise from its first level to its last."""
    if len(modulated) < 2:
        raise BadScan(
            f"the ramp of the {panel} shows a single gray level",
            device=panel,
            action="lut",
            expected="the darkest and the brightest level at least",
            seen=f"{len(modulated)} level",
            hint="labctl devices list",
        )
    rise, spread = modulated[-1] - modulated[0], np.sqrt(variance[-1] + variance[0])
    if not rise > 10 * spread:
        raise BadScan(
            f"the light does not follow the gray level of the {panel}",
            device=panel,
            action="lut",
            expected=f"a rise of more than {10 * spread:.3g} DN from gray 0 to the brightest",
            seen=f"{rise:.3g} DN",
            hint="check that the source is on and that both panels are in the beam: labctl devices list",
        )


def _missed(transmission: Float, at: NDArray[np.int64], seen: Float, variance: Float) -> float:
    """How far a line between two neighbours misses the level between them, beyond the noise: root mean square [1].

    Parameters
    ----------
    transmission
        (n,) fitted curve at the gray levels ``at`` [1].
    seen, variance
        (n,) measured transmission and its variance [1].
    """
    share = (at[1:-1] - at[:-2]) / (at[2:] - at[:-2])
    line = (1 - share) * transmission[:-2] + share * transmission[2:]
    excess = (seen[1:-1] - line) ** 2 - variance[1:-1]
    return float(np.sqrt(max(excess.mean(), 0.0))) if len(excess) else 0.0


def _smoother(values: Float, variance: Float, at: NDArray[np.int64]) -> Float:
    """(n, n) matrix of the Whittaker smoother of third differences, its strength by generalised cross-validation.

    P. H. C. Eilers, Anal. Chem. 75 (2003) 3631; applied to its own residuals once more, for a smaller bias (J. W.
    Tukey's twicing). No strength counts that leaves a point further from the curve than `OUTLIER_SIGMAS`: a curve with
    real steps stays as it was measured. Where the gray levels ``at`` are not evenly spaced, differences are divided by
    their distances in units of the mean spacing.
    """
    n = len(values)
    if n <= 2 * DIFFERENCES:
        return np.eye(n)
    root = np.sqrt(variance / variance.mean())
    place = at * ((n - 1) / at[-1])
    rough = np.eye(n)
    for order in range(1, DIFFERENCES + 1):
        rough = np.diff(rough, axis=0) / ((place[order:] - place[:-order]) / order)[:, None]
    rough = rough * root
    curvature, modes = np.linalg.eigh(rough.T @ rough)
    target = modes.T @ (values / root)
    best, score = 0.0, np.inf
    for strength in np.geomspace(1e-3, 1e9, 49):
        kept = _twice(strength * curvature)
        rest = modes @ ((1.0 - kept) * target)
        found = float(rest @ rest) / (n - kept.sum()) ** 2
        if found < score and np.abs(rest).max() < OUTLIER_SIGMAS * np.sqrt(variance.mean()):
            best, score = float(strength), found
    kept = _twice(best / UNDERSMOOTHING * curvature)
    return np.asarray(root[:, None] * (modes * kept) @ modes.T / root)


def _twice(penalty: Float) -> Float:
    """What smoothing keeps of each mode when it is applied to its own residuals once more."""
    return np.asarray(1.0 - (1.0 - 1.0 / (1.0 + np.maximum(penalty, 0.0))) ** 2)


def inverted(panel: str, action: str, expected: str, seen: str) -> BadScan:
    """That the levels of a panel run the other way round, for whoever sees that first."""
    return BadScan(
        f"the {panel} is inverted: its highest gray level is dark and its lowest bright",
        device=panel,
        action=action,
        expected=expected,
        seen=seen,
        hint=f"turn a polariser by 90°, or invert the levels in the driver of the {panel}",
    )


def _require_direction(corner: Float, variance: Float) -> None:
    """Refuse a panel whose brightest level is darker than its darkest, whatever the other panel shows."""
    for axis, panel in enumerate(PANELS):
        rise = np.diff(corner, axis=axis).ravel()
        error = np.sqrt(variance.sum(axis=axis)).ravel()
        if rise.min() < -10 * error[int(np.argmin(rise))] and -rise.min() > 2 * rise.max():
            expected = "light that rises with the gray level"
            raise inverted(panel, "lut", expected, f"{rise.min():.3g} DN from the lowest to the highest")


def _require_rising(panel: str, relative: Float, error: Float, at: NDArray[np.int64]) -> None:
    """Refuse a curve that falls again: two gray levels of one transmission are no look-up table."""
    peak = int(np.argmax(relative))
    fall = relative[peak] - relative[-1]
    if fall > FOLDED_MIN * relative[peak] and fall > 6 * np.hypot(error[peak], error[-1]):
        raise BadScan(
            f"the {panel} is folded: its light rises up to gray {at[peak]} and falls again beyond",
            device=panel,
            action="lut",
            expected="a transmission that rises with the gray level up to the highest",
            seen=f"{relative[-1] / relative[peak]:.1%} of the brightest light at gray {at[-1]}",
            hint=f"the panel is driven past its full swing: set its drive so that gray {at[-1]} gives what gray "
            f"{at[peak]} gives now",
        )


def stray_light(corner_dn: Float) -> float:
    """Light past both modulators, from the four corners of their ranges.

    With ``y(d, s) = stray + a·D_d·T_s`` and the panels at their darkest (0) and brightest (1) levels the four
    readings determine the stray light exactly: ``y00 − (y01 − y00)(y10 − y00) / (y11 − y10 − y01 + y00)``.

    Parameters
    ----------
    corner_dn
        (2, 2) mean light with [display dark/bright, SLM dark/bright] [DN].
    """
    (y00, y01), (y10, y11) = corner_dn
    interaction = y11 - y10 - y01 + y00
    if not interaction > 0:
        raise BadScan(
            "display and SLM do not multiply: bright on both is no brighter than bright on one",
            action="lut",
            expected="a positive interaction of the two panels",
            seen=f"{interaction:.3g} DN",
            hint="check the light source and the polarisers: labctl devices list",
        )
    return float(y00 - (y01 - y00) * (y10 - y00) / interaction)


@dataclass(frozen=True)
class LutFit:
    """Both LUTs and the light that passes neither modulator.

    Attributes
    ----------
    display, slm
        `Lut`
    stray_dn
        Summed over all regions [DN].
    """

    display: Lut
    slm: Lut
    stray_dn: float


def fit_luts(display_ramp: Readings, slm_ramp: Readings) -> LutFit:
    """LUTs of both panels from the ramps of `calibration.frames.probes`, dark-subtracted.

    All regions are summed, and frames that show the same averaged. Variances come from the frames that were repeated
    at the corners, interpolated in the light between darkest and brightest.

    Raises
    ------
    BadScan
        When a ramp leaves out a level that it should show, or the panels do not respond.
    """
    panels = levels_of_ramps(display_ramp.scan, slm_ramp.scan)
    display, slm = display_ramp.dn.sum(axis=1), slm_ramp.dn.sum(axis=1)
    shown = [_shown(ramp) for ramp in (display_ramp, slm_ramp)]
    top = panels.display_bright, panels.slm_bright
    corner, variance, repeated = np.empty((2, 2)), np.empty((2, 2)), np.empty((2, 2))
    for d in (0, 1):
        for s in (0, 1):
            light = np.concatenate(
                [
                    total[(levels == (d * top[0], s * top[1])).all(axis=1)]
                    for levels, total in zip(shown, (display, slm), strict=True)
                ]
            )
            corner[d, s], variance[d, s], repeated[d, s] = light.mean(), light.var(ddof=1), len(light)
    _require_direction(corner, variance / repeated)
    stray = stray_light(corner)
    stray_stderr = float(np.sqrt(variance[0, 0] / repeated[0, 0]))  # the others count by extinction squared
    luts = []
    for panel, (levels, total, readings) in enumerate(
        zip(shown, (display, slm), (display_ramp, slm_ramp), strict=True)
    ):
        ramp = levels[:, 1 - panel] == top[1 - panel]  # the other panel bright
        at = ramp_levels(top[panel] + 1)
        count = np.bincount(levels[ramp, panel], minlength=top[panel] + 1)[at]
        light, left = (
            np.bincount(levels[ramp, panel], each[ramp], minlength=top[panel] + 1)[at] / np.maximum(count, 1)
            for each in (total, _left2(readings))
        )
        if not count.all():
            raise BadScan(
                "the ramp leaves gray levels out",
                device=PANELS[panel],
                action="lut",
                expected=f"{len(at)} levels from 0 to {top[panel]}",
                seen=f"{int((count == 0).sum())} missing",
            )
        bright = np.clip((light - stray) / max(corner[1, 1] - stray, 1e-12), 0.0, 1.0)
        single = variance[0, 0] + (variance[1, 1] - variance[0, 0]) * bright
        luts.append(fit_lut(light, single / count, stray, PANELS[panel], stray_stderr, at, left))
    return LutFit(luts[0], luts[1], stray)


def _left2(ramp: Readings) -> Float:
    """(n,) variance of the summed readings by what is left of the drift, which all outputs share [DN²]."""
    return np.asarray(np.sqrt(np.maximum(ramp.drift_variance_dn2(ramp.dn), 0.0)).sum(axis=1) ** 2)


def _shown(ramp: Readings) -> NDArray[np.int64]:
    """(n, 2) gray levels of display and SLM."""
    scan = ramp.scan
    return np.stack([scan.display[:, 0], scan.slm[scan.slm_index, 0, 0]], axis=1).astype(np.int64)
