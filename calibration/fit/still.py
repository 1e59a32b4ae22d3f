"""Light that the display cannot switch off, macropixel by macropixel: from the coupling scan's readings without light.

A pixel of the display that is stuck bright sends its light through the macropixel over it whatever is shown, and where
the look-up table's darkest level is a little off, because it was read where a pixel is stuck, all macropixels send a
little. What an output reads without light then depends on what the SLM shows: the seven patterns of the coupling scan
tell how much comes through a row, and through which third of its columns. Which macropixel of a third it is, shows in
the gains: light that cannot be switched off cannot be modulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.special import log_ndtr, softmax

from calibration.frames.probes import PHASES
from calibration.statistics.tails import chi2_isf

Float = NDArray[np.float64]

CHANCE = 1e-3
"""Probability that noise alone makes the offsets of an output differ so much between SLM patterns."""
ROUNDS = 3
"""Crosstalk is some percent: what it adds is known to a thousandth after so many rounds."""
AROUND = 5
"""Rows and columns of macropixels that the gain of one is compared with, itself among them."""
ELSEWHERE = 0.03
"""Probability that the weak macropixel of a third is weak for another reason. A stuck pixel lies between two columns
about every third time, and one macropixel in a hundred has a dead pixel: one of eight is weak every twelfth time."""


@dataclass(frozen=True)
class Still:
    """What no display level changes.

    Attributes
    ----------
    offset_dn, offset_stderr_dn
        (M,) light past the modulators, and its standard error [DN].
    by_third
        (M, 3) light through every third macropixel of a row, the SLM bright there; None where all of it is chance [DN].
    """

    offset_dn: Float
    offset_stderr_dn: Float
    by_third: Float | None = None


def still_light(seen: Float, stderr: Float, drift2: Float, crosstalk: Float) -> Still:
    """The readings without light of all SLM patterns as an offset, and what comes through each third of a row.

    Parameters
    ----------
    seen, stderr
        (7, M) readings without light through each pattern of `calibration.frames.probes.coupling_scan`, and their
        standard errors [DN].
    drift2
        (7,) variance of what all outputs have in common in a pattern, from what is left of the offset's drift [DN²].
    crosstalk
        (M, 2) share of row m−1's and of row m+1's light that region m collects [1].
    """
    patterns, outputs = seen.shape
    weight = 1.0 / stderr**2
    alone = _solve(np.ones((outputs, patterns, 1)), seen, weight, drift2)
    by_chance = float(chi2_isf(CHANCE, patterns - 1))
    if not ((weight * alone.rest**2).sum(axis=0) > by_chance).any():
        return Still(alone.value[:, 0], alone.stderr[:, 0])
    design = _design(outputs)
    found = _solve(design, seen, weight, drift2)
    for _ in range(ROUNDS):
        found = _solve(design, seen - _of_neighbours(design, found.value[:, 1:], crosstalk), weight, drift2)
    # what thirds of a row do not explain is not known of any pattern
    freedom = patterns - 1 - PHASES
    unexplained = (weight * found.rest**2).sum(axis=0) > chi2_isf(CHANCE, freedom)
    excess2 = np.where(unexplained, (found.rest**2).sum(axis=0) / freedom, 0.0)
    return Still(found.value[:, 0], np.sqrt(found.stderr[:, 0] ** 2 + excess2), found.value[:, 1:])


def over_macropixels(by_third: Float, gain_dn: Float, gain_stderr_dn: Float) -> tuple[Float, Float]:
    """Light of each macropixel that the display cannot switch off, and the standard error of its place.

    What most thirds have in common lies on all macropixels in proportion to their gain. What a third has beyond that
    comes through one of its macropixels: likelier through one whose gain lacks as much.

    Parameters
    ----------
    by_third
        (M, 3) light through every third macropixel of a row [DN].
    gain_dn, gain_stderr_dn
        (M, K) light of each macropixel at full transmission and its standard error [DN].

    Returns
    -------
    Both (M, K) [DN].
    """
    m, k = gain_dn.shape
    third = np.arange(k) % PHASES == np.arange(PHASES)[:, None]
    gains = gain_dn @ third.T
    even = float(np.median(by_third / gains))
    lone = by_third - even * gains
    apart = gain_dn - median_filter(gain_dn, AROUND, mode="nearest")
    apart -= np.median(apart, axis=0)  # where columns end on whole display pixels, and at the edges of the map
    spread = 1.4826 * np.median(np.abs(apart - np.median(apart)))
    sigma = np.maximum(np.hypot(gain_stderr_dn, spread), 1e-300)
    still, stderr = even * gain_dn, np.zeros((m, k))
    for phase, mine in enumerate(third):
        light = lone[:, phase, None]
        likely = softmax(_likelihood(apart[:, mine] / sigma[:, mine], light / sigma[:, mine]), axis=1)
        place = (1 - ELSEWHERE) * likely + ELSEWHERE / np.count_nonzero(mine)
        still[:, mine] += light * place
        stderr[:, mine] = np.abs(light) * np.sqrt(place * (1 - place))
    return still, stderr


@dataclass(frozen=True)
class _Solution:
    """Parameters of each output (M, p) and their standard errors, and what is left of the readings (7, M) [DN]."""

    value: Float
    stderr: Float
    rest: Float


def _solve(design: Float, seen: Float, weight: Float, drift2: Float) -> _Solution:
    """Weighted least squares for designs (M, 7, p), where all outputs share an unknown deviation in each pattern."""
    covariance = np.linalg.inv(np.einsum("mqi,qm,mqj->mij", design, weight, design))
    estimator = np.einsum("mij,mqj,qm->miq", covariance, design, weight)
    common2 = np.zeros((len(seen), len(seen)))
    common = np.zeros(len(seen))
    if drift2.any():
        left = np.einsum("qm,qr->mqr", weight, np.eye(len(seen)))
        left -= np.einsum("qm,mqi,mir->mqr", weight, design, estimator)
        common2 = np.linalg.inv(left.sum(axis=0) + np.diag(1.0 / np.maximum(drift2, 1e-9 * drift2.max())))
        common = common2 @ np.einsum("mqr,rm->q", left, seen)
    value = np.einsum("miq,qm->mi", estimator, seen - common[:, None])
    variance = np.diagonal(covariance, axis1=1, axis2=2) + np.einsum("miq,qr,mir->mi", estimator, common2, estimator)
    return _Solution(value, np.sqrt(variance), seen - common[:, None] - np.einsum("mqi,mi->qm", design, value))


def _likelihood(apart: Float, light: Float) -> Float:
    """Logarithm of how likely each macropixel of a third is to send the light, by what its gain differs from others'.

    A stuck pixel that the layout uses takes as much from the gain of its macropixel as it sends; one that lies between
    two columns, nothing: either is as likely, and so is everything between. ``apart`` and ``light`` are in standard
    errors of the gain; the mean of ``exp(−(f·apart·light + (f·light)²/2))`` over f = 0 … 1 has a closed form.
    """
    light = np.maximum(light, 1e-6)
    inside = log_ndtr(-apart) + np.log1p(-np.exp(np.minimum(log_ndtr(-apart - light) - log_ndtr(-apart), -1e-12)))
    return np.asarray(np.logaddexp(0.0, apart**2 / 2 + np.log(np.sqrt(2 * np.pi) / light) + inside))


def _design(outputs: int) -> Float:
    """(M, 7, 4) what each pattern shows of an output's offset and of its row's thirds."""
    design = np.zeros((outputs, 1 + 2 * PHASES, 1 + PHASES))
    design[:, :, 0] = 1.0
    for phase in range(PHASES):
        design[:, 1 + phase, 1 + phase] = 1.0
        design[phase::PHASES, 1 + PHASES + phase, 1:] = 1.0
    return design


def _of_neighbours(design: Float, by_third: Float, crosstalk: Float) -> Float:
    """(7, M) what each region collects of the thirds of the rows beside it."""
    light = np.einsum("mqi,mi->qm", design[:, :, 1:], by_third)
    collected = np.zeros_like(light)
    collected[:, 1:] += crosstalk[1:, 0] * light[:, :-1]
    collected[:, :-1] += crosstalk[:-1, 1] * light[:, 1:]
    return np.asarray(collected)
