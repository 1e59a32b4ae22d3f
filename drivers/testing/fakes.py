"""A free-running camera without hardware."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.acquire import AcquireLogic, RawFrame
from drivers.protocols import Identity, Roi

Scene = Callable[[float, float], Any]


def _ramp(begins_s: float, ends_s: float) -> NDArray[np.int64]:
    return np.arange(64 * 128).reshape(64, 128) // 2


class FreeRunningFake(AcquireLogic):
    """The acquire logic of a camera that exposes without a pause on a clock of its own, whoever looks.

    It numbers its frames anew at each start, as many cameras do, and keeps a few until they are asked for; older ones
    are lost. It is an example too: this is all that a backend for such a camera writes.

    Parameters
    ----------
    scene
        ``scene(begins_s, ends_s)``: (64, 128) counts, or one number for all pixels, that an exposure sees [DN].
    clock, sleep
        Of the camera; real time if omitted.
    buffers
        Frames that it keeps.
    left_by
        Bits by which it shifts its 12-bit data to the left, as some cameras do.
    """

    shape = 64, 128
    bit_depth = 12
    exposure_range_s = 1e-5, 1.0
    readout_s = 0.5e-3

    def __init__(
        self,
        scene: Scene = _ramp,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        buffers: int = 64,
        left_by: int = 0,
    ) -> None:
        self._scene, self._clock, self._sleep = scene, clock, sleep
        self._buffers, self._left_by = buffers, left_by
        self._exposure_s = 2e-3
        self._roi = Roi(0, 0, 128, 64)
        self._started_s: float | None = None
        self._next = 0
        self.starts = 0

    def identify(self) -> Identity:
        return Identity("fake", "FreeRunning", "1")

    @property
    def exposure_s(self) -> float:
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        self._exposure_s = round(value, 6)

    @property
    def roi(self) -> Roi:
        return self._roi

    def set_roi(self, value: Roi) -> None:
        self._roi = value

    @property
    def frame_period_s(self) -> float:
        return self._exposure_s + self.readout_s

    def start(self) -> None:
        self._started_s, self._next = self._clock(), 0
        self.starts += 1

    def stop(self) -> None:
        self._started_s = None

    def now_s(self) -> float:
        return self._clock()

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        started_s, period_s = self._started_s, self.frame_period_s
        if started_s is None:
            self._sleep(timeout_s)
            return None
        ready = int((self._clock() - started_s) // period_s)  # frames that are exposed and read out
        self._next = max(self._next, ready - self._buffers)
        missing_s = started_s + (self._next + 1) * period_s - self._clock()
        if missing_s > timeout_s:
            self._sleep(timeout_s)
            return None
        self._sleep(max(missing_s, 0.0))
        number, begins_s = self._next, started_s + self._next * period_s
        self._next += 1
        seen = np.broadcast_to(self._scene(begins_s, begins_s + self._exposure_s), self.shape)
        roi = self._roi
        pixels = seen[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width].astype(np.uint16)
        return RawFrame(pixels << self._left_by, begins_s, number)

    def close(self) -> None:
        self._started_s = None
