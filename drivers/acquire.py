"""What only one camera's library knows: settings, start, stop, the next frame, the time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from drivers.protocols import Identity, Roi


@dataclass(frozen=True)
class RawFrame:
    """One frame as the vendor's library hands it out.

    Attributes
    ----------
    pixels
        Its buffer. It need not stay valid: it is copied before the next frame is asked for.
    begins_s
        Start of exposure on the clock of `AcquireLogic.now_s`; where it is not known exactly, no later than the true
        one, so that an old frame is never taken for a new one [s].
    device_sequence
        The camera's own number; −1 where it has none.
    """

    pixels: NDArray[Any]
    begins_s: float
    device_sequence: int = -1


class AcquireLogic(ABC):
    """What only this camera's library knows. Subclass it for a new camera.

    Attributes
    ----------
    shape, bit_depth
        Of the sensor: (rows, columns) [px], [bit].
    exposure_range_s
        Shortest and longest exposure [s].
    counter_size
        How many different numbers the camera gives to its frames before it begins again; 0 when it does not.
    polled
        The library may not be used from a second thread: frames are asked for in ``fetch`` only. A camera whose frames
        are stamped when they arrive must not be polled.
    adjustable
        Keys of `settings` that `adjust` can set, in the order in which they are to be set.
    """

    shape: tuple[int, int]
    bit_depth: int
    exposure_range_s: tuple[float, float]
    counter_size = 0
    polled = False
    adjustable: tuple[str, ...] = ()

    @abstractmethod
    def identify(self) -> Identity: ...

    @property
    @abstractmethod
    def exposure_s(self) -> float:
        """As the device reads it back [s]."""

    @abstractmethod
    def set_exposure_s(self, value: float) -> None:
        """Within ``exposure_range_s``; the stream is stopped."""

    @property
    @abstractmethod
    def roi(self) -> Roi:
        """As the device reads it back."""

    @abstractmethod
    def set_roi(self, value: Roi) -> None:
        """A region of the sensor, which the device may align; the stream is stopped."""

    @property
    @abstractmethod
    def frame_period_s(self) -> float:
        """From one start of exposure to the next [s]."""

    @abstractmethod
    def start(self) -> None:
        """Start the stream."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the stream; frames that are on their way are lost."""

    @abstractmethod
    def next_frame(self, timeout_s: float) -> RawFrame | None:
        """The oldest frame that has not been handed out yet; None when none arrives within ``timeout_s``."""

    def now_s(self) -> float:
        """The time on the clock that stamps the frames; here the host's, for a camera without one [s]."""
        return time.monotonic()

    def settings(self) -> dict[str, Any]:
        """More for the snapshot: gain, temperature, pixel format …, JSON types."""
        return {}

    def adjust(self, key: str, value: Any) -> None:
        """Set one of `adjustable` to a value that `settings` returned earlier; the stream is stopped."""
        raise NotImplementedError(key)

    @abstractmethod
    def close(self) -> None:
        """Release the camera; the stream is stopped."""


def stamped_on_arrival(pixels: NDArray[Any], exposure_s: float, latency_s: float) -> RawFrame:
    """A frame of a camera that has no clock, just arrived.

    Parameters
    ----------
    latency_s
        The longest time from the end of an exposure until here: read-out, transfer, and waiting in the library [s].
        Too small a value lets a frame pass that began before ``arm``.
    """
    return RawFrame(pixels, time.monotonic() - exposure_s - latency_s)
