"""Counting exposures: which of them are kept, and what their numbers are."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """What is armed: ``n`` frames, ``skip`` exposures unseen before the first, ``between`` before each other one."""

    n: int
    skip: int = 0
    between: int = 0

    @property
    def exposures(self) -> int:
        """Exposures until the last kept frame, itself included."""
        return self.skip + self.n + (self.n - 1) * self.between

    def keeps(self, index: int) -> bool:
        """Is exposure ``index``, from 0, one of those to keep?"""
        return index >= self.skip and (index - self.skip) % (self.between + 1) == 0


class FrameCounter:
    """Counts frames from 0 without ever beginning again, with the help of the camera's own number where it has one.

    Parameters
    ----------
    size
        Different numbers that the camera has; 0 when they do not begin again.
    """

    def __init__(self, size: int = 0) -> None:
        self._size = size
        self._count = -1
        self._device = -1
        self._begins_s = -math.inf

    def restart(self) -> None:
        """The stream is started: the camera may begin its numbers again."""
        self._device = -1

    def number(self, device_sequence: int, begins_s: float) -> int:
        """The number of a frame that arrives.

        It is as far from that of the frame before as the camera says: further where frames were lost, equal for a frame
        that comes twice. Where the camera's number falls although the frame is newer, the camera has begun again.
        """
        step = 1
        if device_sequence >= 0 and self._device >= 0:
            step = device_sequence - self._device
            if self._size:
                step = (step + self._size // 2) % self._size - self._size // 2
            if step < 0 and begins_s > self._begins_s:
                step = 1
        self._count, self._device, self._begins_s = self._count + step, device_sequence, begins_s
        return self._count
