"""A source that keeps frames until they are read: read all the time, so that none of them is old when it is wanted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

from numpy.typing import NDArray

from drivers.acquire import RawFrame
from drivers.libraries.worker import Worker

_KEPT = 64


class Drain:
    """Reads a source until it is closed; the last frames wait until they are asked for, older ones are lost.

    What the source itself still held when reading began is stamped too late: read for a moment, then call `forget`.

    Parameters
    ----------
    worker
        Makes the calls of ``read``.
    read
        Waits for the next frame of the source and returns it: an array that nobody will write to again.
    """

    def __init__(self, worker: Worker, read: Callable[[], NDArray[Any]]) -> None:
        self._worker, self._read = worker, read
        self._news = threading.Condition()
        self._frames: deque[RawFrame] = deque(maxlen=_KEPT)
        self._intervals_s: deque[float] = deque(maxlen=21)
        self._failed: BaseException | None = None
        self._count = 0
        self._closed = False
        self._last_s = time.monotonic()
        worker.post(self._one)

    @property
    def interval_s(self) -> float:
        """Median time between the last frames that arrived; 0 before there are two [s]."""
        with self._news:
            return median(self._intervals_s) if self._intervals_s else 0.0

    def forget(self) -> None:
        """Drop what has arrived so far."""
        with self._news:
            self._frames.clear()

    def next_frame(self, timeout_s: float, age_s: float) -> RawFrame | None:
        """The oldest frame that waits, begun ``age_s`` before it arrived; None when none arrives within ``timeout_s``.

        Raises whatever ended the reading, every time.
        """
        with self._news:
            self._news.wait_for(lambda: self._frames or self._failed is not None, timeout_s)
            if self._frames:
                frame = self._frames.popleft()
                return RawFrame(frame.pixels, frame.begins_s - age_s, frame.device_sequence)
            if self._failed is not None:
                raise self._failed
            return None

    def close(self) -> None:
        """Read no more."""
        self._closed = True

    def _one(self) -> None:
        """Read one frame and see to it that the next is read, too."""
        if self._closed:
            return
        try:
            pixels = self._read()
        except BaseException as error:
            with self._news:
                self._failed = error
                self._news.notify_all()
            return
        with self._news:
            now_s = time.monotonic()
            if self._count:
                self._intervals_s.append(now_s - self._last_s)
            self._frames.append(RawFrame(pixels, now_s, self._count))
            self._count, self._last_s = self._count + 1, now_s
            self._news.notify_all()
        if not self._closed:
            self._worker.post(self._one)
