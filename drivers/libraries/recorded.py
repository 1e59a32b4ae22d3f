"""Frames that were recorded, played back as a camera would deliver them: one new frame for each exposure asked for."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from numpy.typing import NDArray

from drivers.acquire import AcquireLogic, RawFrame
from drivers.errors import CapabilityError, DeviceLost
from drivers.pixels import MonoPixels
from drivers.protocols import Identity, Roi
from drivers.streaming import TriggeredStreamingCamera
from drivers.triggers import SoftwareTrigger


class Recording(ABC):
    """Frames in an order.

    Attributes
    ----------
    shape
        Of each frame: (rows, columns) [px].
    bit_depth
        Of its pixels [bit].
    """

    shape: tuple[int, int]
    bit_depth: int

    @abstractmethod
    def identify(self) -> Identity: ...

    @abstractmethod
    def next_pixels(self) -> NDArray[Any] | None:
        """The next frame, (rows, columns) uint8 or uint16; None after the last one."""

    @abstractmethod
    def rewind(self) -> None:
        """The next frame is the first one."""

    @abstractmethod
    def close(self) -> None: ...


class PlayedBack(AcquireLogic):
    """A recording as a camera with a software trigger, on a clock that counts exposures.

    The nth exposure after opening is the nth frame, however quickly or slowly they are asked for: what is measured on a
    recording comes out the same each time.

    Parameters
    ----------
    name
        What the station calls the camera.
    recording
        What it plays.
    exposure_s
        That the recording was made with; it cannot be set [s].
    frame_rate_hz
        Frames per second, no more of which are delivered; as fast as they are asked for where it is None [Hz].
    loop
        Begin again after the last frame; else that is the end.
    """

    polled = True

    def __init__(
        self, name: str, recording: Recording, exposure_s: float, frame_rate_hz: float | None, loop: bool
    ) -> None:
        period_s = exposure_s if frame_rate_hz is None else 1 / frame_rate_hz
        if period_s < exposure_s:
            raise CapabilityError(
                "frames follow one another sooner than they can be exposed",
                device=name,
                action="open",
                expected=f"frame_rate_hz ≤ {1 / exposure_s:g}",
                seen=f"{frame_rate_hz:g} Hz, exposure_s = {exposure_s:g}",
            )
        self._name, self._recording, self._loop = name, recording, loop
        self.shape, self.bit_depth = recording.shape, recording.bit_depth
        self.exposure_range_s = (exposure_s, exposure_s)
        self._exposure_s, self._period_s = exposure_s, period_s
        self._paced = frame_rate_hz is not None
        self._roi = Roi(0, 0, *self.shape[::-1])
        self._asked = self._played = 0
        self._due_s = 0.0

    def identify(self) -> Identity:
        return self._recording.identify()

    @property
    def exposure_s(self) -> float:
        return self._exposure_s

    def set_exposure_s(self, value: float) -> None:
        """One value is possible, and it is set already."""

    @property
    def roi(self) -> Roi:
        return self._roi

    def set_roi(self, value: Roi) -> None:
        self._roi = value

    @property
    def frame_period_s(self) -> float:
        return self._period_s

    def settings(self) -> dict[str, Any]:
        return {"loop": self._loop, "frames_played": self._played}

    def now_s(self) -> float:
        """Exposures so far, on the recording's clock [s]."""
        return self._played * self._period_s

    def start(self) -> None:
        self._asked = self._played

    def stop(self) -> None:
        self._asked = self._played

    def fire(self) -> None:
        """Expose: the next frame."""
        self._asked += 1
        self._due_s = max(self._due_s, time.monotonic()) + (self._period_s if self._paced else 0.0)

    def next_frame(self, timeout_s: float) -> RawFrame | None:
        missing_s = self._due_s - time.monotonic()
        if self._asked == self._played or missing_s > timeout_s:
            time.sleep(timeout_s)
            return None
        if missing_s > 0:  # to sleep for no time would give the processor away
            time.sleep(missing_s)
        pixels = self._next_pixels()
        number, self._played = self._played, self._played + 1
        roi = self._roi
        cut = pixels[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        return RawFrame(cut, number * self._period_s, number)

    def rewind(self) -> None:
        """Play from the first frame on, which the opening of the camera has looked at."""
        self._recording.rewind()
        self._asked = self._played = 0

    def close(self) -> None:
        self._recording.close()

    def _next_pixels(self) -> NDArray[Any]:
        pixels = self._recording.next_pixels()
        if pixels is None and self._loop:
            self._recording.rewind()
            pixels = self._recording.next_pixels()
        if pixels is None:
            raise DeviceLost(
                "the recording has ended",
                device=self._name,
                action="fetch",
                expected="one more frame",
                seen=f"{self._played} frames played",
                hint="open it again to play it from the beginning, or set loop = true",
            )
        return pixels


def played_back(
    name: str, recording: Recording, exposure_s: float, frame_rate_hz: float | None, loop: bool
) -> TriggeredStreamingCamera:
    """The camera that plays a recording; the recording is closed when it does not open."""
    try:
        acquire = PlayedBack(name, recording, exposure_s, frame_rate_hz, loop)
    except BaseException:
        recording.close()
        raise
    trigger = SoftwareTrigger(acquire.fire)
    camera = TriggeredStreamingCamera(name, acquire, MonoPixels(acquire.bit_depth), trigger)
    acquire.rewind()
    return camera
