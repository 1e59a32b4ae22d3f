"""Noise of the channel by maximum likelihood: a photon transfer curve of every output, and the flicker of the source.

Each output has the variance ``σ² + κ s`` of its own, s being its light, and all outputs of a frame have the flicker of
the source in common: the covariance of a frame is ``diag(σ² + κ s) + ρ² y yᵀ``, where y is the light with the offset,
as light past the modulators flickers, too. The likelihood of that covariance is exact
(`calibration.statistics.covariance`), so that flicker is not mistaken for shot noise. Tests decide for which of read
noise, shot noise and flicker there is evidence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan, FitError
from calibration.frames.scan import Readings, repeats
from calibration.machine.noise import ROUNDING_DN2, Noise
from calibration.statistics.choice import Choice, Hypothesis, choose
from calibration.statistics.covariance import Covariance
from calibration.statistics.tails import chi2_sf

Float = NDArray[np.float64]

PARTS = ("read", "shot", "intensity")
"""Names of σ, κ and ρ in reports and files, where flicker is called ``intensity`` (`calibration.machine.noise`)."""
FORMS = ((0,), (1,), (0, 1), (0, 2), (1, 2), (0, 1, 2))  # flicker alone would make all outputs one number
CLAIMS = {" + ".join(PARTS[i] for i in form): " + ".join(PARTS[i] for i in form) + " noise" for form in FORMS}
ROUNDS = 200
SETTLED = 1e-6
"""Of the log likelihood: what a step has left to gain where the fit rests."""
SUFFICIENT = 0.1
"""Share of what the slope promises that a step must gain: where the law does not fit, the likelihood is more curved
than it expects itself to be, and whole steps swing to and fro about its greatest value."""
SMALLEST = 1e-9


@dataclass(frozen=True)
class Residuals:
    """Independent normal vectors with the covariance of single frames.

    Attributes
    ----------
    dn
        (n, M) [DN]
    light, total
        (n, M) light above the offset, and with it [DN].
    own_left, common_left
        (n,) share of its degrees of freedom that a fit of the mean has left to a vector: of what each output has of
        its own, and of what the frame has in common; 1 where nothing was fitted [1].
    """

    dn: Float
    light: Float
    total: Float
    own_left: Float
    common_left: Float


@dataclass(frozen=True)
class NoiseFit:
    """The noise, and the evidence for each of its parts."""

    noise: Noise
    choice: Choice


def fit_noise(readings: Readings, display_floor: float) -> NoiseFit:
    """Noise from one scan's frames that showed the same thing.

    Parameters
    ----------
    readings
        Dark-subtracted; uniform display levels with repeats, the darkest and the brightest among them.
    display_floor
        Transmission of the display at gray 0. What the dark display still lets through is light of the channel; only
        what goes past the modulators is offset, and the shot noise of that belongs to σ.

    Raises
    ------
    FitError
        When there are too few repeats or the optimiser does not converge.
    BadScan
        When there is no light in the bright frames.
    """
    groups = repeats(readings)
    if len(groups) < 2:
        raise FitError(
            "noise needs repeated frames at two light levels at least",
            action="noise",
            expected="≥ 2 groups",
            seen=str(len(groups)),
        )
    offset_dn = _offset(readings, display_floor)
    if not (readings.dn - offset_dn).mean() > 0:
        raise BadScan(
            "the readings of the noise scan do not follow the display: bright frames are no brighter than dark ones",
            device="camera",
            action="noise",
            hint="is the source on and unblocked? labctl devices list",
        )
    return fit_residuals([contrasts(readings.dn[g], offset_dn) for g in groups])


def fit_noise_of_repeats(scans: Iterable[Readings], offset_dn: Float) -> NoiseFit:
    """Noise from all frames that showed the same as another of their scan, given the offset (M,) [DN].

    Parameters
    ----------
    scans
        Dark-subtracted readings.

    Raises
    ------
    FitError
        When the optimiser does not converge.
    """
    return fit_residuals([contrasts(scan.dn[g], offset_dn) for scan in scans for g in repeats(scan)])


def contrasts(dn: Float, offset_dn: Float) -> Residuals:
    """R − 1 independent vectors with the noise of single frames, from R frames that showed the same thing.

    Parameters
    ----------
    dn
        (R, M) readings; their mean cancels [DN].
    offset_dn
        (M,) offset of the outputs [DN].
    """
    n = len(dn) - 1
    total = np.tile(dn.mean(axis=0), (n, 1))
    return Residuals(_helmert(len(dn)) @ dn, np.maximum(total - offset_dn, 0.0), total, np.ones(n), np.ones(n))


def fit_residuals(parts: list[Residuals]) -> NoiseFit:
    """Noise from residuals; a part without evidence is 0, and its error is that of the fit with all parts.

    Raises
    ------
    FitError
        When the optimiser does not converge.
    """
    names = ("dn", "light", "total", "own_left", "common_left")
    whole = Residuals(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    start = _start(whole)
    fits = {form: _maximise(whole, start, form) for form in FORMS}
    hypotheses = [
        Hypothesis(_name(form), 2 * cost, len(form), frozenset(_name(f) for f in FORMS if set(f) < set(form)))
        for form, (_, cost) in fits.items()
    ]
    choice = choose(hypotheses, p_value=_boundary_p_value, claims=CLAIMS)
    theta, _ = fits[next(form for form in FORMS if _name(form) == choice.chosen)]
    richest = np.maximum(fits[0, 1, 2][0], 1e-6 * start)
    loose = np.sqrt(np.diag(_inverse(_likelihood(richest, whole)[2])))
    present = theta > 0
    errors = loose.copy()
    information = _likelihood(theta, whole)[2][np.ix_(present, present)]
    errors[present] = np.sqrt(np.diag(_inverse(information)))
    read2 = theta[0] + ROUNDING_DN2 if present[0] else 0.0
    stderr = [_root_error(read2, errors[0]), errors[1], _root_error(theta[2], errors[2])]
    return NoiseFit(Noise(float(np.sqrt(read2)), float(theta[1]), float(np.sqrt(theta[2])), np.array(stderr)), choice)


def _root_error(square: float, error: float) -> float:
    """Standard error of √x; of a part that is not seen, the value whose square is one standard error."""
    return float(error / (2 * np.sqrt(square)) if square > error / 4 else np.sqrt(error))


def _name(form: tuple[int, ...]) -> str:
    return " + ".join(PARTS[i] for i in form)


def _boundary_p_value(simple: Hypothesis, rich: Hypothesis, value: float) -> float:
    """Variances cannot be negative: a mixture of χ² laws (Self & Liang 1987, case 5 and 7)."""
    freed = rich.parameters - simple.parameters
    laws = [float(chi2_sf(value, i)) if i else float(value <= 0) for i in range(freed + 1)]
    return float(sum(comb(freed, i) * law for i, law in enumerate(laws)) / 2.0**freed)


def _offset(readings: Readings, display_floor: float) -> Float:
    """(M,) light past the modulators, from ``y = b + L D`` at the darkest and the brightest display [DN]."""
    level = readings.scan.display.mean(axis=1)
    dark, bright = (readings.dn[level == end].mean(axis=0) for end in (level.min(), level.max()))
    return np.asarray((dark - display_floor * bright) / (1 - display_floor))


def _maximise(residuals: Residuals, start: Float, form: tuple[int, ...]) -> tuple[Float, float]:
    """θ ≥ 0 of greatest likelihood with only the parts of ``form``, and −log likelihood: Fisher scoring.

    θ is that of `_likelihood`. Steps are halved until the likelihood grows by its share of what they promise (L.
    Armijo, Pacific J. Math. 16 (1966) 1); a part that falls below `SMALLEST` of its start stays there.
    """
    free = np.array(form)
    theta = np.zeros(3)
    theta[free] = start[free]
    cost, gradient, information = _likelihood(theta, residuals)
    for _ in range(ROUNDS):
        held = free[(theta[free] <= 2 * SMALLEST * start[free]) & (gradient[free] > 0)]
        moving = np.setdiff1d(free, held)
        step = np.zeros(3)
        if len(moving):
            step[moving] = -_inverse(information[np.ix_(moving, moving)]) @ gradient[moving]
        gain = -float(gradient @ step)
        if gain < SETTLED:
            return theta, cost
        for _ in range(60):
            tried = np.where(np.isin(range(3), free), np.maximum(theta + step, SMALLEST * start), 0.0)
            proposal = _likelihood(tried, residuals)
            told = bool((np.diag(proposal[2])[free] > 0).all())  # lost in rounding where own variances all but vanish
            if told and proposal[0] < cost - SUFFICIENT * max(float(gradient @ (theta - tried)), 0.0):
                break
            step /= 2
        else:
            return theta, cost  # no better to the last digit
        theta = tried
        cost, gradient, information = proposal
    raise FitError("the noise fit did not converge", action="noise", seen=f"θ = {theta}")


def _inverse(information: Float) -> Float:
    scale = np.sqrt(np.diag(information))
    return np.asarray(np.linalg.inv(information / np.outer(scale, scale)) / np.outer(scale, scale))


def _likelihood(theta: Float, residuals: Residuals) -> tuple[float, Float, Float]:
    """Negative log-likelihood, its gradient and the Fisher information in θ = (σ² − 1/12 DN², κ, ρ²).

    Restricted likelihood: where a fit of the mean has taken degrees of freedom, log det C counts for those that are
    left. Rounding to whole counts is a part of C in every form, so that those without read noise have a variance in
    the dark; a part of the light instead would be taken for the read noise that dark frames show, and bend κ.
    """
    dn, light = residuals.dn, residuals.light
    own_left, common_left = residuals.own_left, residuals.common_left
    covariance = Covariance.of(ROUNDING_DN2 + theta[0] + theta[1] * light, residuals.total, theta[2])
    chi2 = float(covariance.quadratic(dn).sum())
    log_det = float(own_left @ covariance.log_det_own + common_left @ covariance.log_det_common)
    value = 0.5 * (log_det + chi2)
    # C⁻¹ r and C⁻¹ y; the derivatives of C by σ², κ and ρ² are I, diag s and y yᵀ
    solved, along_solved = covariance.solve(dn), covariance.solve(covariance.along)
    quadratic = (covariance.along * along_solved).sum(axis=1)
    shrink, leant = covariance.shrink, covariance.weight**2
    gradient, information = np.zeros(3), np.zeros((3, 3))
    slopes = (np.ones_like(light), light)
    # tr(C⁻¹ ∂C C⁻¹ ∂C) for diagonal ∂C needs (C⁻¹)∘(C⁻¹) only: its diagonal, and shrink² a² a²ᵀ off it
    both = covariance.inverse_diagonal**2 - (shrink[:, None] * leant) ** 2
    for i, one in enumerate(slopes):
        own, shared = (one * covariance.own_precision).sum(axis=1), shrink * (one * leant).sum(axis=1)
        gradient[i] = 0.5 * float(own_left @ own - common_left @ shared - (solved**2 * one).sum())
        for j, other in enumerate(slopes):
            outer = (shrink**2) * (leant * one).sum(axis=1) * (leant * other).sum(axis=1)
            information[i, j] = 0.5 * float(own_left @ ((one * other * both).sum(axis=1) + outer))
        information[i, 2] = information[2, i] = 0.5 * float(common_left @ (one * along_solved**2).sum(axis=1))
    gradient[2] = 0.5 * float(common_left @ quadratic - ((solved * covariance.along).sum(axis=1) ** 2).sum())
    information[2, 2] = 0.5 * float(common_left @ quadratic**2)
    return value, gradient, information


def _start(residuals: Residuals) -> Float:
    """Rough θ from the darkest and the brightest tenth of the residuals."""
    dn, light, own_left = residuals.dn, residuals.light, residuals.own_left
    order = np.argsort(light.sum(axis=1))
    few = max(len(order) // 10, 1)
    dark, bright = order[:few], order[-few:]
    read = float((dn[dark] ** 2).sum() / own_left[dark].sum() / dn.shape[1])
    share = float(own_left[bright].sum())
    own2 = np.diff(dn[bright], axis=1) ** 2 / 2 if dn.shape[1] > 1 else dn[bright] ** 2  # one output: flicker and all
    shot = float(own2.mean(axis=1).sum()) / share / float(light[bright].mean())
    common = float((dn[bright].sum(axis=1) ** 2).sum()) / share / float(light[bright].sum(axis=1).mean()) ** 2
    return np.asarray(np.maximum(np.array([read, shot, common]), 1e-12))


def _helmert(n: int) -> Float:
    """(n − 1, n) orthonormal contrasts."""
    h = np.tril(np.ones((n, n)), -1)[1:]
    rows = np.arange(1, n)
    h[np.arange(n - 1), rows] = -rows
    return np.asarray(h / np.sqrt(rows * (rows + 1.0))[:, None])
