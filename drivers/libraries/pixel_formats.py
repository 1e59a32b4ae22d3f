"""Gray pixel formats by the names that GenICam's naming convention gives them, and what their bits mean.

Names and layouts are those of the Pixel Format Naming Convention (EMVA, PFNC 2.4) and, for ``…Packed``, of GigE Vision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.errors import CapabilityError, DeviceProtocolError
from groundwork.nearest import did_you_mean


class Packing(StrEnum):
    """How pixels lie in the buffer."""

    NONE = "whole bytes"
    """One or two bytes a pixel, the low byte first."""
    BITS = "bit stream"
    """``…p``: pixel after pixel without a gap, the least significant bit first."""
    PAIRS = "pairs"
    """``…Packed``: three bytes for two pixels, high bits in the outer bytes, low bits in the middle one."""


@dataclass(frozen=True)
class PixelFormat:
    """A gray format: ``PixelFormat("Mono12p", 12, Packing.BITS)``.

    Attributes
    ----------
    name
        As the node ``PixelFormat`` spells it.
    bits
        That count of each pixel; full scale is ``2^bits − 1`` [bit].
    packing
        How they lie in the buffer.
    """

    name: str
    bits: int
    packing: Packing = Packing.NONE

    @property
    def shift(self) -> int | None:
        """Bits by which values are too large; None where only the data shows it.

        The convention puts the bits at the right of their word. Cameras that put 10, 12 or 14 of them at the left are
        many, so that a word with bits to spare is looked at. Packed formats and full words have none to spare.
        """
        return None if self.packing is Packing.NONE and self.bits % 8 else 0


FORMATS: dict[str, PixelFormat] = {
    known.name: known
    for known in (
        PixelFormat("Mono8", 8),
        PixelFormat("Mono10", 10),
        PixelFormat("Mono10p", 10, Packing.BITS),
        PixelFormat("Mono10Packed", 10, Packing.PAIRS),
        PixelFormat("Mono12", 12),
        PixelFormat("Mono12p", 12, Packing.BITS),
        PixelFormat("Mono12Packed", 12, Packing.PAIRS),
        PixelFormat("Mono14", 14),
        PixelFormat("Mono14p", 14, Packing.BITS),
        PixelFormat("Mono16", 16),
    )
}
"""Formats that a camera of the bench may run in, by name."""


_BEST = (
    "Mono14",
    "Mono14p",
    "Mono12",
    "Mono12p",
    "Mono12Packed",
    "Mono10",
    "Mono10p",
    "Mono10Packed",
    "Mono8",
    "Mono16",
)


def pixel_format(name: str, device: str = "") -> PixelFormat:
    """The gray format of that name.

    Raises
    ------
    CapabilityError
        For a colour format, or one that is not known.
    """
    if name not in FORMATS:
        raise CapabilityError(
            f"pixel format {name} is not a gray format that can be read",
            device=device,
            action="choose the pixel format",
            expected="one of " + ", ".join(FORMATS),
            seen=name,
            hint=did_you_mean(name, FORMATS, 'options = {pixel_format = "Mono12"}, if the camera has it'),
        )
    return FORMATS[name]


def best_format(offered: Iterable[str]) -> PixelFormat | None:
    """Of what a camera offers, the gray format with the most bits that are surely the sensor's.

    Whole words come before packed ones. ``Mono16`` comes last: most cameras that offer it fill it up from a converter
    with fewer bits, and only their manual tells with how many.
    """
    names = set(offered)
    return next((FORMATS[name] for name in _BEST if name in names), None)


def unpacked(buffer: NDArray[np.uint8], kind: PixelFormat, shape: Sequence[int], padding: int = 0) -> NDArray[Any]:
    """(rows, columns) counts from the bytes of a buffer; a view of it where the format is not packed.

    Parameters
    ----------
    buffer
        (n,) uint8, at least as many as the image has; what follows the image is left out.
    shape
        (rows, columns) [px].
    padding
        Bytes after each row that are no pixels; of packed formats rows that are padded begin a new byte.

    Raises
    ------
    DeviceProtocolError
        When the buffer is too short for the image.
    """
    rows, columns = shape
    if padding and rows > 1:
        length = _bytes(kind, columns) + padding
        return np.stack([unpacked(buffer[row * length :], kind, (1, columns))[0] for row in range(rows)])
    pixels = rows * columns
    needed = _bytes(kind, pixels)
    if buffer.size < needed:
        raise DeviceProtocolError(
            "buffer is too short for the image",
            action="read a frame",
            expected=f"{needed} bytes for {columns} × {rows} pixels of {kind.name}",
            seen=f"{buffer.size} bytes",
        )
    used = buffer[:needed]
    if kind.packing is Packing.BITS:
        return _from_bits(used, kind.bits, pixels).reshape(rows, columns)
    if kind.packing is Packing.PAIRS:
        return _from_pairs(used, kind.bits, pixels).reshape(rows, columns)
    return used.view("<u2" if kind.bits > 8 else np.uint8).reshape(rows, columns)


def _bytes(kind: PixelFormat, pixels: int) -> int:
    if kind.packing is Packing.BITS:
        return (pixels * kind.bits + 7) // 8
    if kind.packing is Packing.PAIRS:
        return (pixels * 12 + 7) // 8
    return pixels * (2 if kind.bits > 8 else 1)


def _from_bits(buffer: NDArray[np.uint8], bits: int, pixels: int) -> NDArray[np.uint16]:
    """Groups of pixels that fill whole bytes, pixel k of a group at bit ``k·bits``."""
    together = {10: 4, 12: 2, 14: 4}[bits]
    length = together * bits // 8
    groups = -(-pixels // together)
    padded = np.zeros(groups * length + 2, np.uint8)  # two bytes more: the last pixel looks at three
    padded[: buffer.size] = buffer
    out = np.empty((groups, together), np.uint16)
    for k in range(together):
        first, offset = divmod(k * bits, 8)
        span = [padded[first + i : first + i + groups * length : length].astype(np.uint32) << 8 * i for i in range(3)]
        out[:, k] = (span[0] | span[1] | span[2]) >> offset & (2**bits - 1)
    return out.reshape(-1)[:pixels]


def _from_pairs(buffer: NDArray[np.uint8], bits: int, pixels: int) -> NDArray[np.uint16]:
    """GigE Vision: byte 0 and byte 2 hold the high eight bits, byte 1 the low ones, each in its half."""
    groups = -(-pixels // 2)
    padded = np.zeros(groups * 3, np.uint8)
    padded[: buffer.size] = buffer
    triple = padded.reshape(groups, 3).astype(np.uint16)
    low = bits - 8
    out = np.empty((groups, 2), np.uint16)
    out[:, 0] = triple[:, 0] << low | triple[:, 1] & (2**low - 1)
    out[:, 1] = triple[:, 2] << low | triple[:, 1] >> 4 & (2**low - 1)
    return out.reshape(-1)[:pixels]
