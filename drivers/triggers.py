"""What starts an exposure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from drivers.protocols import TriggerMode


class TriggerLogic(Protocol):
    """How a camera is made to expose."""

    mode: TriggerMode

    def arm(self, exposures: int) -> None:
        """Make ready for so many exposures."""

    def expose(self) -> None:
        """Start the next exposure, where that is the driver's business; comes back at once."""

    def disarm(self) -> None:
        """No more exposures are wanted."""


class FreeRunning:
    """The camera exposes all the time, by its own clock."""

    mode = TriggerMode.FREE_RUNNING

    def arm(self, exposures: int) -> None:
        pass

    def expose(self) -> None:
        pass

    def disarm(self) -> None:
        pass


class SoftwareTrigger(FreeRunning):
    """The driver starts each exposure by a call.

    Parameters
    ----------
    fire
        Starts one exposure and comes back without waiting for its end.

    Attributes
    ----------
    begins_s
        When the last exposure was started, on the host's clock `time.monotonic`: the stamp of the frames of a camera
        that has no clock [s].
    """

    mode = TriggerMode.SOFTWARE

    def __init__(self, fire: Callable[[], None]) -> None:
        self._fire = fire
        self.begins_s = 0.0

    def expose(self) -> None:
        self.begins_s = time.monotonic()
        self._fire()


class HardwareEdge(FreeRunning):
    """An edge on the camera's input starts each exposure: the panel's, or a pulse generator's.

    Parameters
    ----------
    listen
        ``listen(True)`` makes the camera obey the edges, ``listen(False)`` ignore them.

    Attributes
    ----------
    begins_s
        When the camera began to listen, on the host's clock `time.monotonic`: the stamp of the frames of a camera that
        has no clock [s].
    """

    mode = TriggerMode.HARDWARE_EDGE

    def __init__(self, listen: Callable[[bool], None]) -> None:
        self._listen = listen
        self.begins_s = 0.0

    def arm(self, exposures: int) -> None:
        self.begins_s = time.monotonic()
        self._listen(True)

    def disarm(self) -> None:
        self._listen(False)
