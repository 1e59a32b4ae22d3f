"""Photon transfer: a camera's gain, read noise and offset, from pairs of frames at several exposures.

Shot noise grows with the light as its mean does, and read noise does not grow at all. The variance of a pixel in time
is therefore a line in its mean (EMVA 1288, release 4.0, section 2.2; Janesick, *Photon Transfer*, 2007)::

    σ²(y) = σ_d² + K (μ − μ_d)         σ_d² = K² σ_r² + 1/12

with the gain K [DN/e-], the read noise σ_r [e-], the mean μ [DN], the offset μ_d [DN], and the rounding to whole
counts.

Two frames of the same light are enough for a point of the line: what is fixed in a picture cancels in their difference,
and so does a lamp that is brighter in one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan, FitError, Saturated
from calibration.machine.noise import ROUNDING_DN2

Float = NDArray[np.float64]

SATURATED_SHARE = 1e-4
"""Share of pixels at full scale from which a point bends the line visibly [1]."""
ROUNDS = 3
"""How often the weights are computed anew from the line that they gave."""


@dataclass(frozen=True)
class PhotonTransfer:
    """What the line says of a camera.

    Attributes
    ----------
    gain_dn_per_e, gain_stderr_dn_per_e
        K, counts for each photo-electron [DN/e-].
    read_noise_e, read_noise_stderr_e
        Standard deviation of a dark pixel in time, without rounding [e-].
    offset_dn, offset_stderr_dn
        Mean of a dark frame [DN].
    chi2_per_dof
        Sum of squared residuals in standard errors, for each degree of freedom: about 1 where the line holds. Larger
        where the camera is not linear, or the light changed within the frames.
    means_dn, variances_dn2
        (n,) the points: the dark ones, then the bright ones [DN], [DN²].
    """

    gain_dn_per_e: float
    gain_stderr_dn_per_e: float
    read_noise_e: float
    read_noise_stderr_e: float
    offset_dn: float
    offset_stderr_dn: float
    chi2_per_dof: float
    means_dn: Float
    variances_dn2: Float

    @property
    def e_per_dn(self) -> float:
        """Photo-electrons for each count, which data sheets call the conversion factor [e-/DN]."""
        return 1 / self.gain_dn_per_e


def fit_photon_transfer(
    dark: Sequence[NDArray[np.uint16]], bright: Sequence[NDArray[np.uint16]], full_scale_dn: int
) -> PhotonTransfer:
    """The photon transfer of a camera.

    Parameters
    ----------
    dark
        One pair of frames (2, H, W) [DN] or more, taken without light.
    bright
        Pairs of frames (2, H, W) [DN], each pair at one exposure; two different exposures or more.
    full_scale_dn
        Largest count of the camera [DN].

    Raises
    ------
    BadScan
        When pairs are missing or are no pairs, or the bright frames are not brighter than the dark ones.
    Saturated
        When pixels of a bright pair are at full scale.
    FitError
        When the noise does not grow with the light.
    """
    _check(dark, bright, full_scale_dn)
    points = [_moments(pair) for pair in (*dark, *bright)]
    means, variances = (np.array(column) for column in zip(*points, strict=True))
    count = len(dark)
    pixels = dark[0][0].size
    offset = float(means[:count].mean())
    light = means - offset
    if light[count:].max() < 10 * np.sqrt(variances[:count].mean() / pixels) or np.ptp(light[count:]) <= 0:
        raise BadScan(
            "the bright frames are not brighter than the dark ones",
            device="camera",
            action="photon transfer",
            expected="light, and at least two exposures",
            seen=f"{light[count:].min():.4g} … {light[count:].max():.4g} DN above the dark frames",
            hint="switch the source on, and take exposures up to about 70 % of full scale",
        )
    (dark_variance, gain), covariance, chi2 = _line(light, variances, pixels)
    if gain <= 3 * np.sqrt(covariance[1, 1]) or dark_variance < 0:
        raise FitError(
            "the noise does not grow with the light as shot noise does",
            action="photon transfer",
            expected="a variance that rises with the mean from what the dark frames have",
            seen=f"slope {gain:.4g} ± {np.sqrt(covariance[1, 1]):.2g} DN, dark variance {dark_variance:.4g} DN²",
            hint="the camera averages, filters or compresses: switch that off",
        )
    read_e, read_stderr_e = _read_noise(dark_variance, gain, covariance)
    return PhotonTransfer(
        gain,
        float(np.sqrt(covariance[1, 1])),
        read_e,
        read_stderr_e,
        offset,
        float(np.sqrt(dark_variance / (2 * pixels * count))),
        chi2 / max(len(means) - 2, 1),
        means,
        variances,
    )


def _moments(pair: NDArray[np.uint16]) -> tuple[float, float]:
    """Mean of two frames, and the variance of a pixel in time from their difference [DN], [DN²]."""
    first, second = pair.astype(np.float64)
    difference = first - second
    return float((first.mean() + second.mean()) / 2), float(difference.var() / 2)


def _line(light: Float, variances: Float, pixels: int) -> tuple[tuple[float, float], Float, float]:
    """Weighted line through the variances: (at no light, slope), their covariance, and χ².

    A variance from the difference of N normal pixels has the standard error ``σ² sqrt(2 / N)``. That σ² is taken from
    the line itself, since weights from the points would favour those that are low by chance.
    """
    design = np.stack([np.ones_like(light), light], axis=1)
    expected = variances
    for _ in range(ROUNDS):
        stderr = np.maximum(expected, ROUNDING_DN2) * np.sqrt(2 / pixels)
        scaled = design / stderr[:, None]
        covariance = np.linalg.inv(scaled.T @ scaled)
        found = covariance @ (scaled.T @ (variances / stderr))
        expected = design @ found
    chi2 = float((((variances - expected) / stderr) ** 2).sum())
    return (float(found[0]), float(found[1])), covariance, chi2


def _read_noise(dark_variance: float, gain: float, covariance: Float) -> tuple[float, float]:
    """Read noise and its standard error [e-]; 0 where rounding explains the dark variance."""
    own = max(dark_variance - ROUNDING_DN2, 0.0)
    read_e = np.sqrt(own) / gain
    slope = np.array([1 / (2 * gain * np.sqrt(own)) if own else 0.0, -read_e / gain])
    return float(read_e), float(np.sqrt(slope @ covariance @ slope))


def _check(dark: Sequence[NDArray[np.uint16]], bright: Sequence[NDArray[np.uint16]], full_scale_dn: int) -> None:
    """Refuse what is no set of pairs, and pairs that are saturated."""
    shapes = {pair.shape for pair in (*dark, *bright)}
    if not dark or len(bright) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 3 or next(iter(shapes))[0] != 2:
        raise BadScan(
            "photon transfer needs pairs of frames",
            device="camera",
            action="photon transfer",
            expected="one dark pair and two bright pairs at least, all (2, H, W)",
            seen=f"{len(dark)} dark, {len(bright)} bright, shapes {sorted(shapes)}",
        )
    for pair in bright:
        share = float((pair >= full_scale_dn).mean())
        if share > SATURATED_SHARE:
            raise Saturated(
                "pixels of a bright pair are at full scale",
                device="camera",
                action="photon transfer",
                expected=f"at most {100 * SATURATED_SHARE:g} % of the pixels at {full_scale_dn} DN",
                seen=f"{100 * share:.3g} % at a mean of {pair.mean():.0f} DN",
                hint="leave the longest exposures out: about 70 % of full scale is enough",
            )
