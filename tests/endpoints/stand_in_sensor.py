"""A sensor for the stand-ins of camera makers' libraries, and nodes that set it."""

from __future__ import annotations

import sys
import time
import types
from collections import deque
from typing import Any

import numpy as np
import pytest


class Sensor:
    """96 × 128 pixels of some bits, read out by whatever library stands before it.

    Attributes
    ----------
    late_s
        By how much the next frame comes late [s].
    exposed
        When each exposure began, `time.monotonic`, by the number of its frame [s].
    """

    shape = (96, 128)

    def __init__(self, bits: int) -> None:
        self.noise = np.random.default_rng(7).integers(0, 2**bits, self.shape, np.uint16)
        self.exposure_us = 10_000.0
        self.x = self.y = 0
        self.height, self.width = self.shape
        self.late_s = 0.0
        self.exposed: list[float] = []
        self._pending: deque[tuple[float, int]] = deque()

    def trigger(self) -> None:
        """Expose once; the frame waits in the queue when it is ready."""
        now_s = time.monotonic()
        self._pending.append((now_s + self.exposure_us / 1e6 + self.late_s, len(self.exposed)))
        self.exposed.append(now_s)
        self.late_s = 0.0

    def take(self, timeout_s: float) -> np.ndarray | None:
        """The oldest frame of the queue, (height, width) uint16; None when there is none in time."""
        if not self._pending:
            time.sleep(timeout_s)
            return None
        ready_s, number = self._pending[0]
        wait_s = ready_s - time.monotonic()
        time.sleep(max(min(wait_s, timeout_s), 0.0))
        if wait_s > timeout_s:
            return None
        self._pending.popleft()
        frame = self.noise.copy()
        frame[0, 0] = number % 256
        return frame[self.y : self.y + self.height, self.x : self.x + self.width]

    def clear(self) -> None:
        """Forget the queue."""
        self._pending.clear()

    def snap(self, timeout_s: float) -> np.ndarray | None:
        """A new frame, and nothing but it."""
        self.clear()
        self.trigger()
        return self.take(timeout_s)


def whole(value: Any) -> int:
    """A whole number, as C would take it."""
    assert type(value) is int, f"{value!r} is no int"
    return value


def module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> types.ModuleType:
    """Put a module of these members under a name that slmsuite imports."""
    made = types.ModuleType(name)
    made.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, made)
    return made


class Node:
    """A GenICam node of PySpin: a number with limits, or one of some words."""

    def __init__(self, read: Any, write: Any, low: float = 0, high: float = 1e9) -> None:
        self._read, self._write, self._low, self._high = read, write, low, high

    def GetAccessMode(self) -> str:
        return "RW"

    def GetValue(self) -> Any:
        return self._read()

    def SetValue(self, value: Any) -> None:
        if isinstance(value, (int, float)) and not self._low <= value <= self._high:
            raise SpinnakerException(f"{value} is out of range")
        self._write(value)

    def GetMin(self) -> float:
        return self._low

    def GetMax(self) -> float:
        return self._high

    def GetInc(self) -> int:
        return 1

    def ToString(self) -> str:
        return str(self._read())


class SpinnakerException(Exception):
    pass


def stored(value: Any) -> Node:
    """A node that keeps what it is set to."""
    held = [value]
    return Node(lambda: held[0], lambda new: held.__setitem__(0, new))


def field_of(owner: Any, name: str, low: float, high: float) -> Node:
    """A node that is a number of the sensor."""
    return Node(lambda: getattr(owner, name), lambda value: setattr(owner, name, value), low, high)
