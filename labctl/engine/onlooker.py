"""Shows what the camera sees to whoever looks from outside: a frame a second at most, written by a thread beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.bench.regions import Regions
from drivers.protocols import Camera, FrameBlock
from labctl.archive.preview import PreviewFile, Seen
from labctl.bench.steps import ScanBlock, Step, StepResponse

Corners = Callable[[], NDArray[np.float32]]


class Onlooker:
    """Of one open bench.

    Parameters
    ----------
    run
        The run folder.
    camera
        Whose frames they are.
    """

    def __init__(self, run: Path, camera: Camera) -> None:
        self._file, self._full_scale_dn = PreviewFile(run), 2**camera.bit_depth - 1
        self._what, self._x, self._y = "", 0, 0
        self._known: tuple[Regions | None, Corners | None] = (None, None)
        self._last: Seen | None = None

    def begin_step(self, step: Step) -> None:
        """The frames that come are of this step."""
        self._what, self._x, self._y = step.kind, 0, 0
        if isinstance(step, StepResponse):
            self._x, self._y = step.window.x, step.window.y
        elif isinstance(step, ScanBlock) and step.place is not None:
            regions = step.place.regions
            self._x, self._y = regions.window[:2]
            if regions is not self._known[0]:
                self._known = (regions, lambda: corners_of(regions))

    def see(self, block: FrameBlock) -> None:
        """The last of these frames, if one is wanted now; it is kept otherwise, for the end."""
        number = int(block.sequence[-1])
        seen = Seen(block.frames[-1], self._x, self._y, self._full_scale_dn, number, self._what, self._known[1])
        if self._file.is_due():
            self._file.offer(seen)
            self._last = None
        else:
            self._last = seen

    def close(self) -> None:
        """No frame comes any more: the last one stays to be seen."""
        if self._last is not None:
            self._file.offer(self._last)
        self._file.close()


def corners_of(regions: Regions) -> NDArray[np.float32]:
    """(M, 4, 2) corners x, y of the smallest rectangles around the pixels that count at least a half, on the sensor."""
    x, y, width, _ = regions.window
    matrix, found = regions.weights, []
    for row in range(matrix.shape[0]):
        entries = slice(matrix.indptr[row], matrix.indptr[row + 1])
        pixels = matrix.indices[entries][matrix.data[entries] >= 0.5]
        if len(pixels):
            points = np.stack([pixels % width + x, pixels // width + y], axis=1).astype(np.float32)
            found.append(cv2.boxPoints(cv2.minAreaRect(points)))
    return np.array(found, np.float32).reshape(-1, 4, 2)
