"""Numbers and times of a camera's frames as a run counts them, whatever befalls the camera."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from drivers.errors import DroppedFrames, StaleFrames
from drivers.protocols import FrameBlock

CLOCK_JUMP_S = 0.5
"""A camera that was opened again and whose clock is off by more has begun to count its time anew [s]."""


class FrameCount:
    """Goes on where a camera that was opened again begins with zero: numbers rise strictly, and so do times.

    Attributes
    ----------
    last
        Number of the last frame that was kept; −1 before the first.
    epoch_s
        Host time at the zero of the frames' clock [s]; None before the first frame.
    """

    def __init__(self) -> None:
        self.last = -1
        self.epoch_s: float | None = None
        self._first = 0  # number of the camera's frame 0
        self._ahead_s = 0.0  # of our clock before the camera's
        self._was_opened = False

    def go_on(self, number: int) -> None:
        """The camera was opened: its frame 0 has at least this number, and its clock may have begun anew."""
        self._first, self._was_opened = number, True

    def counted(self, block: FrameBlock) -> FrameBlock:
        """Frames as the camera counts them → as we do."""
        if self._was_opened and self.epoch_s is not None:
            ahead_s = _epoch_s(block) - self.epoch_s
            if abs(ahead_s - self._ahead_s) > CLOCK_JUMP_S:
                self._ahead_s = ahead_s
        self._was_opened = False
        if not self._first and not self._ahead_s:
            return block
        return replace(block, sequence=block.sequence + self._first, device_time_s=block.device_time_s + self._ahead_s)

    def keep(self, block: FrameBlock) -> float:
        """These frames are kept; returns the host time at the zero of the clock, as they tell it [s]."""
        self.last, epoch_s = int(block.sequence[-1]), _epoch_s(block)
        if self.epoch_s is None:
            self.epoch_s = epoch_s
        return epoch_s

    def check(self, block: FrameBlock, camera: str, n: int, apart: int) -> None:
        """Metadata may reject a frame, never accept one.

        Raises
        ------
        DroppedFrames
            When they are not ``n``, or one was lost.
        StaleFrames
            When their numbers are not ``apart`` apart, or have been there before.
        """
        if block.dropped or len(block.frames) != n:
            raise DroppedFrames(
                "the camera lost frames",
                device=camera,
                action="acquisition",
                expected=f"{n} frames, none dropped",
                seen=f"{len(block.frames)} frames, {block.dropped} dropped",
                hint="labctl devices list",
            )
        if block.sequence[0] <= self.last or np.any(np.diff(block.sequence) != apart):
            raise StaleFrames(
                "the camera's frame counter does not advance",
                device=camera,
                action="acquisition",
                expected=f"numbers {apart} apart after {self.last}",
                seen=", ".join(map(str, block.sequence[:5])),
                hint="labctl devices list",
            )


def _epoch_s(block: FrameBlock) -> float:
    return float(block.host_time_s[-1] - block.device_time_s[-1])
