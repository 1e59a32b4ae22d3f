"""The part of the sensor that a step reads, whatever grid the camera's regions of interest lie on.

Most cameras allow only regions that begin and end at multiples of 4, 8 or 16 pixels. What they give then is larger
than what was asked for, or lies beside it. What is read here is the region asked for and no other: it is cut out of the
camera's, which is read back and has to hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from drivers.errors import DeviceProtocolError
from drivers.protocols import Camera, FrameBlock, Roi

PADDINGS_PX = (0, 16, 64)
"""How much more is asked for, one after the other, of a camera whose region does not hold the one that is read."""


class Window:
    """Asks a camera for regions, and cuts out of its frames what was asked for."""

    def __init__(self) -> None:
        self._wanted: Roi | None = None
        self._given: Roi | None = None

    def ask(self, camera: Camera, wanted: Roi) -> None:
        """Let the next frames hold this region.

        Raises
        ------
        DeviceProtocolError
            When the camera gives none that does, not even the full sensor.
        """
        now = camera.roi
        if wanted == self._wanted and now == self._given:
            return
        self._wanted = self._given = None
        if now != wanted:
            now = self._larger(camera, wanted)
        self._wanted, self._given = wanted, now

    def cut(self, camera: Camera, block: FrameBlock) -> FrameBlock:
        """The frames of the region that was asked for last.

        Raises
        ------
        DeviceProtocolError
            When the frames have not the size of the region that the camera reads back.
        """
        wanted, given = self._wanted, self._given
        assert wanted is not None
        assert given is not None
        if block.frames.shape[1:] != given.shape:
            self._wanted = self._given = None
            raise DeviceProtocolError(
                "the frames have another size than the region of interest",
                device=camera.name,
                action="acquisition",
                expected=f"{given.shape} (rows, columns), as read back",
                seen=f"{block.frames.shape[1:]}",
                hint="labctl devices test camera",
            )
        if given == wanted:
            return block
        x, y = wanted.x - given.x, wanted.y - given.y
        frames = np.ascontiguousarray(block.frames[:, y : y + wanted.height, x : x + wanted.width])
        saturated = (frames >= 2**camera.bit_depth - 1).mean(axis=(1, 2))
        return replace(block, frames=frames, saturated_fraction=saturated)

    def _larger(self, camera: Camera, wanted: Roi) -> Roi:
        """Set the first region that holds ``wanted`` as the camera reads it back; returns that."""
        for asked in _regions(wanted, camera.shape):
            camera.roi = asked
            given = camera.roi
            if _holds(given, wanted):
                return given
        raise DeviceProtocolError(
            "the camera reads another region than the one asked for",
            device=camera.name,
            action="setting the region of interest",
            expected=f"one that holds {_words(wanted)}",
            seen=f"{_words(given)} read back",
            hint="labctl devices test camera",
        )


def _regions(wanted: Roi, shape: tuple[int, int]) -> Iterator[Roi]:
    """The region, larger ones around it, and at last the full sensor."""
    rows, columns = shape
    for padding in PADDINGS_PX:
        x, y = max(wanted.x - padding, 0), max(wanted.y - padding, 0)
        right = min(wanted.x + wanted.width + padding, columns)
        bottom = min(wanted.y + wanted.height + padding, rows)
        yield Roi(x, y, right - x, bottom - y)
    yield Roi(0, 0, columns, rows)


def _holds(outer: Roi, inner: Roi) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def _words(roi: Roi) -> str:
    return f"columns {roi.x}…{roi.x + roi.width}, rows {roi.y}…{roi.y + roi.height}"
