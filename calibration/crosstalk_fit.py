"""Crosstalk between neighbouring outputs and bleed between neighbouring inputs, from the phase patterns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calibration.channel import mix
from calibration.errors import FitError

Float = NDArray[np.float64]

SIGNIFICANCE = 0.001


@dataclass(frozen=True)
class CrosstalkFit:
    """Neighbour crosstalk and bleed, with the evidence for the structure chosen.

    Attributes
    ----------
    crosstalk, crosstalk_stderr
        (M, 2) [1]
    bleed, bleed_stderr
        (2,) [1]
    structure
        ``"common"`` (one pair for all outputs) or ``"per output"``.
    f_statistic, p_value
        Of per-output against common crosstalk.
    chi2_per_dof
        Of the chosen fit; its square root scales the standard errors where it exceeds 1.
    """

    crosstalk: Float
    crosstalk_stderr: Float
    bleed: Float
    bleed_stderr: Float
    structure: str
    f_statistic: float
    p_value: float
    chi2_per_dof: float


def fit_crosstalk(
    gain_dn: Float,
    offset_dn: Float,
    slm: Float,
    slm_index: NDArray[np.int64],
    display: Float,
    dn: Float,
    variance: Float,
    structure: str | None = None,
) -> CrosstalkFit:
    """Gauss–Newton on (β₋, β₊, X₋, X₊) with the gain held and every output's offset free.

    Parameters
    ----------
    gain_dn, offset_dn
        (M, K), (M,) [DN]
    slm, slm_index, display
        (s, M, K) and (n, K) transmissions of the scan and (n,) which SLM pattern each frame used.
    dn, variance
        (n, M) dark-subtracted readings and their variances [DN, DN²].
    structure
        That of the result; the F test's if omitted.
    """
    plain, before, after = _lights(gain_dn, slm, slm_index, display)
    weight = 1.0 / variance
    m = dn.shape[1]
    crosstalk, pair, bleed = np.zeros((m, 2)), np.zeros(2), np.zeros(2)
    for _ in range(20):
        light = plain + bleed[0] * before + bleed[1] * after
        jacobian = np.stack([mix(crosstalk, before), mix(crosstalk, after), *_neighbours(light)])
        jacobian = _centred(jacobian, weight)
        residual = _centred(dn - offset_dn - mix(crosstalk, light), weight)
        normal = np.einsum("inm,jnm,nm->ij", jacobian, jacobian, weight, optimize=True)
        step = np.linalg.solve(normal, np.einsum("inm,nm->i", jacobian, residual * weight, optimize=True))
        bleed = bleed + step[:2]
        pair = pair + step[2:]
        crosstalk = _common(pair[0], pair[1], m)
        if np.abs(step).max() < 1e-10:
            break
    else:
        raise FitError("the crosstalk fit did not converge", action="crosstalk", seen=f"last step {step}")
    light = plain + bleed[0] * before + bleed[1] * after
    residual = _centred(dn - offset_dn - mix(crosstalk, light), weight)
    rss = float((residual**2 * weight).sum())
    dof = residual.size - 4 - m
    per_output, per_error, rss_rows = _per_output(residual, light, weight, crosstalk)
    extra = 2 * m - 4
    f = (rss - rss_rows) / extra / (rss_rows / (dof - extra))
    p = float(stats.f.sf(max(f, 0.0), extra, dof - extra))
    errors = np.sqrt(np.diag(np.linalg.inv(normal)))
    if structure == "per output" or (structure is None and p < SIGNIFICANCE):
        scale = max(1.0, rss_rows / (dof - extra)) ** 0.5
        chosen, chosen_error, structure, chi2 = per_output, per_error * scale, "per output", rss_rows / (dof - extra)
    else:
        scale = max(1.0, rss / dof) ** 0.5
        chosen, structure, chi2 = crosstalk, "common", rss / dof
        chosen_error = _common(errors[2] * scale, errors[3] * scale, m)
    return CrosstalkFit(chosen, chosen_error, bleed, errors[:2] * scale, structure, float(f), p, float(chi2))


def _lights(gain: Float, slm: Float, index: NDArray[np.int64], display: Float) -> tuple[Float, Float, Float]:
    """Light without bleed, and its derivatives by β₋ and β₊: three (n, M)."""
    left, right = np.zeros_like(display), np.zeros_like(display)
    left[:, 1:], right[:, :-1] = display[:, :-1], display[:, 1:]
    lights = []
    for shown in (display, left - display, right - display):
        z = np.empty((len(display), gain.shape[0]))
        for s in range(len(slm)):
            frames = index == s
            z[frames] = shown[frames] @ (gain * slm[s]).T
        lights.append(z)
    return lights[0], lights[1], lights[2]


def _neighbours(light: Float) -> tuple[Float, Float]:
    above, below = np.zeros_like(light), np.zeros_like(light)
    above[:, 1:], below[:, :-1] = light[:, :-1], light[:, 1:]
    return above, below


def _centred(values: Float, weight: Float) -> Float:
    """Values (…, n, M) without their weighted mean over frames: each output's offset is a nuisance, fitted away."""
    return np.asarray(values - ((values * weight).sum(axis=-2) / weight.sum(axis=0))[..., None, :])


def _common(before: float, after: float, m: int) -> Float:
    crosstalk = np.tile([before, after], (m, 1))
    crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    return crosstalk


def _per_output(residual: Float, light: Float, weight: Float, common: Float) -> tuple[Float, Float, float]:
    """Each output's own pair, as a correction to the common one; the edges have one neighbour only."""
    above, below = (_centred(side, weight) for side in _neighbours(light))
    m = residual.shape[1]
    crosstalk, error = common.copy(), np.zeros((m, 2))
    rss = 0.0
    for i in range(m):
        sides = [s for s, edge in ((0, 0), (1, m - 1)) if i != edge]
        regressors = np.stack([(above, below)[s][:, i] for s in sides], axis=1)
        normal = regressors.T @ (regressors * weight[:, i, None])
        step = np.linalg.solve(normal, regressors.T @ (residual[:, i] * weight[:, i]))
        crosstalk[i, sides] += step
        error[i, sides] = np.sqrt(np.diag(np.linalg.inv(normal)))
        rss += float(((residual[:, i] - regressors @ step) ** 2 * weight[:, i]).sum())
    return crosstalk, error, rss
