"""The dark signal: what the camera reads with the light off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.bench.hot import HotPixels
from calibration.errors import BadScan

Float = NDArray[np.float64]

HOT_SIGMAS = 8.0
UNALIGNED_MIN = 64
"""Dark frames that use no more than these numbers may miss the lowest bits by chance."""
CLIPPED_MAX = 0.2
"""Pixels at zero, of all: with more of them the mean is no mean of the light."""
DITHER_DN = 0.3
"""Noise of a dark pixel below which rounding is no noise any more but shifts means: by 0.05 DN at this, by less than
0.003 DN at 0.49 DN, below which EMVA 1288 (release 4.0) calls dark noise that of rounding [DN]."""


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
        Median over the sensor, not rounded to the steps of a mean of few whole numbers, and its standard error [DN].
    hot_pixels
        Pixels that lie more than 8 standard errors above the median.
    useless
        (H, W) pixels that are so hot without light, against those around them, that no region counts them.
    """

    mean_dn: Float
    frames: int
    noise_dn: float
    level_dn: float
    level_stderr_dn: float
    hot_pixels: int
    useless: NDArray[np.bool_]

    @property
    def rounding(self) -> str:
        """What to say of means that do not fit where a pixel's noise does not average rounding out, or nothing."""
        if self.noise_dn >= DITHER_DN:
            return ""
        return (
            f"a dark pixel's noise is {self.noise_dn:.2f} DN, less than rounding to whole counts: faint light is "
            "counted wrongly. Raise the camera's gain or its bit depth"
        )


def fit_dark(frames: NDArray[np.uint16], full_scale_dn: int) -> Dark:
    """Dark signal from frames (n, H, W) [DN] taken with the light off.

    Raises
    ------
    BadScan
        When there are fewer than two frames, the sensor is bright with the light off, or the numbers are not those of a
        camera of the declared bit depth.
    """
    _require_depth(frames, full_scale_dn)
    n = len(frames)
    if n < 2:
        raise BadScan("the dark signal needs two frames", device="camera", action="dark", expected="≥ 2", seen=str(n))
    mean = frames.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for frame in frames:
        squares += (frame - mean) ** 2
    noise = float(np.sqrt(squares.mean() / (n - 1)))
    level = grouped_median(frames.sum(axis=0, dtype=np.int64)) / n
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
    useless = np.zeros(mean.shape, np.bool_)
    useless[HotPixels.of(mean, full_scale_dn).at] = True
    return Dark(mean, n, noise, level, stderr, hot, useless)


def grouped_median(counts: NDArray[np.int64]) -> float:
    """Median of whole numbers, each of which stands for all values that are rounded to it, evenly spread.

    The plain median of many equal numbers is one of them and stays so while what they were rounded from moves.

    References
    ----------
    G. U. Yule and M. G. Kendall, An Introduction to the Theory of Statistics (the median of a grouped distribution).
    """
    values = counts.ravel()
    middle = np.partition(values, values.size // 2)[values.size // 2]
    below, equal = int((values < middle).sum()), int((values == middle).sum())
    return float(middle) - 0.5 + (values.size / 2 - below) / equal


def _require_depth(frames: NDArray[np.uint16], full_scale_dn: int) -> None:
    """Refuse frames whose numbers lie elsewhere in their words than the declared bit depth says, and clipped ones."""
    if not frames.size:
        return
    bits, used = full_scale_dn.bit_length(), int(np.bitwise_or.reduce(frames, axis=None))
    low = (used & -used).bit_length() - 1 if used else 0  # lowest bits that are 0 in every pixel of every frame
    most = int(frames.max())
    if most > full_scale_dn:
        aligned = f"; the lowest {low} bits of all pixels are 0: the data are left-aligned" if low else ""
        raise BadScan(
            f"the camera delivers larger numbers than its {bits} bits can hold{aligned}",
            device="camera",
            action="dark",
            expected=f"0 … {full_scale_dn} DN",
            seen=f"{most} DN without light",
            hint="choose the pixel format that matches the bit depth: labctl devices probe",
        )
    # without noise, one number everywhere says nothing of its bits
    if low and used > UNALIGNED_MIN and int(frames.min()) < most:
        raise BadScan(
            f"the lowest {low} bits of all pixels are 0: the camera has {bits - low} bits, left-aligned in {bits}",
            device="camera",
            action="dark",
            expected=f"numbers that use all of {bits} bits",
            seen=f"multiples of {1 << low} DN",
            hint="choose the pixel format that matches the bit depth: labctl devices probe",
        )
    clipped = float((frames == 0).mean())
    if clipped > CLIPPED_MAX:
        raise BadScan(
            f"the dark signal is cut off at zero in {clipped:.0%} of the pixels: faint light below it is lost",
            device="camera",
            action="dark",
            expected=f"a black level that leaves at most {CLIPPED_MAX:.0%} of the pixels at 0 DN",
            seen=f"{clipped:.1%} at 0 DN",
            hint="raise the camera's black level (offset) in the options of [devices.camera]",
        )
