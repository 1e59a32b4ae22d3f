"""From a camera's buffer to counts: uint16, least significant bit at the right."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.errors import DeviceProtocolError

_ENOUGH_BITS = 32
"""Bits that must be zero before data is called left-justified: by chance that happens once in 2³²."""


def saturated_fraction(frames: NDArray[np.uint16], bit_depth: int) -> NDArray[np.float64]:
    """(n,) fraction of the pixels of each frame (n, H, W) that are at full scale ``2^bit_depth − 1``."""
    full_scale = np.uint16(2**bit_depth - 1)

    def fraction(frame: NDArray[np.uint16]) -> float:
        if frame.max() < full_scale:  # most frames, and quicker than to count
            return 0.0
        return float(np.count_nonzero(frame == full_scale) / frame.size)

    return np.array([fraction(frame) for frame in frames])


class PixelLogic(Protocol):
    """How a buffer becomes a frame."""

    def to_dn(self, pixels: NDArray[Any], out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        """A copy of the buffer as (H, W) uint16 [DN]: in ``out`` where that is given, which is returned then."""


class MonoPixels:
    """A gray image of one or two bytes a pixel, of which ``bit_depth`` bits count.

    Some cameras put 10 or 12 bits at the left of a 16-bit word. Which side it is shows in the data: at the left when
    every pixel has zeros in the spare bits and enough different values are seen for that to be no accident, at the
    right when one pixel has not. Until it has shown (a dark frame without noise), values are taken as they come. Data
    that contradicts what was found, or is beyond full scale, is refused.

    Parameters
    ----------
    bit_depth
        Of the camera [bit].
    shift
        By how many bits values are too large, where the pixel format says so; None to find out.
    """

    def __init__(self, bit_depth: int, shift: int | None = None) -> None:
        self.bit_depth = bit_depth
        self.shift = shift

    def to_dn(self, pixels: NDArray[Any], out: NDArray[np.uint16] | None = None) -> NDArray[np.uint16]:
        """A copy of the buffer as (H, W) uint16 [DN]: in ``out`` where that is given, which is returned then.

        Raises
        ------
        DeviceProtocolError
            For a buffer that is not a gray image of unsigned integers, or with values beyond full scale.
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 2 or pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
            raise DeviceProtocolError(
                "no gray image", expected="(H, W) uint8 or uint16", seen=f"{pixels.shape} {pixels.dtype}"
            )
        if self.shift is None:
            self.shift = self._found(pixels)
        shift = self.shift or 0
        dn = np.empty(pixels.shape, np.uint16) if out is None else out
        if shift:
            np.right_shift(pixels, shift, out=dn)
        else:
            np.copyto(dn, pixels)
        if self._contradicts(pixels, shift):
            raise DeviceProtocolError(
                "pixel values do not fit the bit depth",
                action="read a frame",
                expected=f"0 … {2**self.bit_depth - 1}, shifted by {shift} bits",
                seen=f"values up to {int(pixels.max())}",
                hint="check the pixel format against the bit depth",
            )
        return dn

    def _contradicts(self, pixels: NDArray[Any], shift: int) -> bool:
        """Is a bit set outside those that count? A full word has none."""
        bits = 8 * pixels.dtype.itemsize
        if not shift and self.bit_depth >= bits:
            return False
        return bool(_used(pixels) & ~((2**self.bit_depth - 1) << shift))

    def _found(self, pixels: NDArray[Any]) -> int | None:
        """By how many bits the values are too large; None when that does not show."""
        spare = 8 * pixels.dtype.itemsize - self.bit_depth
        if spare <= 0:
            return 0
        used = _used(pixels)
        if used & (2**spare - 1):
            return 0
        if used >= 2**self.bit_depth:
            return spare
        if not used:
            return None
        seen = np.zeros(2 ** (8 * pixels.dtype.itemsize), bool)
        seen[pixels] = True
        different = np.count_nonzero(seen[1:])
        return spare if different * spare >= _ENOUGH_BITS else None


def _used(pixels: NDArray[Any]) -> int:
    """The bits that any pixel has."""
    return int(np.bitwise_or.reduce(pixels, axis=None))
