"""The dark signal: what the camera reads with the light off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadScan

Float = NDArray[np.float64]

HOT_SIGMAS = 8.0


@dataclass(frozen=True)
class Dark:
    """Dark signal of every pixel.

    Attributes
    ----------
    mean_dn
        (H, W) [DN]
    frames
        Frames averaged.
    noise_dn
        Root mean square over the sensor of a pixel's standard deviation in time [DN].
    level_dn, level_stderr_dn
        Median over the sensor, and its standard error [DN].
    hot_pixels
        Pixels that lie more than 8 standard errors above the median.
    """

    mean_dn: Float
    frames: int
    noise_dn: float
    level_dn: float
    level_stderr_dn: float
    hot_pixels: int


def fit_dark(frames: NDArray[np.uint16], full_scale_dn: int) -> Dark:
    """Dark signal from frames (n, H, W) [DN] taken with the light off.

    Raises
    ------
    BadScan
        When there are fewer than two frames, or the sensor is bright with the light off.
    """
    n = len(frames)
    if n < 2:
        raise BadScan("the dark signal needs two frames", device="camera", action="dark", expected="≥ 2", seen=str(n))
    mean = frames.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for frame in frames:
        squares += (frame - mean) ** 2
    noise = float(np.sqrt(squares.mean() / (n - 1)))
    level = float(np.median(mean))
    if level > 0.5 * full_scale_dn:
        raise BadScan(
            "the camera is bright with the light off",
            device="camera",
            action="dark",
            expected=f"below half of full scale, {full_scale_dn} DN",
            seen=f"{level:.0f} DN",
            hint="close the enclosure, then check that the source switches off: labctl devices list",
        )
    hot = int((mean > level + HOT_SIGMAS * max(noise, 0.3) / np.sqrt(n) + 1.0).sum())
    stderr = float(np.sqrt(np.pi / 2) * mean.std() / np.sqrt(mean.size))  # of a median of normal values
    return Dark(mean, n, noise, level, stderr, hot)
