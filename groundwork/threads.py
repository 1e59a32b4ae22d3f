"""Threads that share the rows of an array, for compiled loops that let go of the interpreter's lock."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

BAND_ROWS = 64
"""Rows of an image that one thread takes at a time."""
_BANDS_EACH = 4
"""As many bands as a thread must find: to wake one takes longer than to compute fewer."""

Team = Callable[[Callable[[], None], int], None]
"""Runs a function in the thread that asks and, at the same time, in so many others; returns when all have ended."""


class Threads:
    """Threads that share an array by bands of rows. What they compute does not depend on how many they are.

    Parameters
    ----------
    count
        How many, the one that asks among them.
    team
        Where they come from: by default a `Pool`.
    """

    def __init__(self, count: int, team: Team | None = None) -> None:
        self._helpers = count - 1
        self._team: Team = Pool(self._helpers) if team is None else team

    def helping(self, count: int, band: int) -> int:
        """How many threads help the one that asks with ``count`` rows."""
        return max(0, min(self._helpers, -(-count // band) // _BANDS_EACH - 1))

    def rows(self, function: Callable[..., object], count: int, *args: Any, band: int = BAND_ROWS) -> None:
        """Run ``function(first, last, *args)`` over rows 0 … ``count`` − 1, ``band`` of them at a time."""
        helping = self.helping(count, band)
        if not helping:
            function(0, count, *args)
            return
        function(0, 0, *args)  # compiled for these types by one thread: numba's own tables do not bear several at first
        bands = deque((first, min(first + band, count)) for first in range(0, count, band))
        failed: list[BaseException] = []

        def work() -> None:
            try:
                while not failed:
                    try:
                        first, last = bands.popleft()
                    except IndexError:
                        return
                    function(first, last, *args)
            except BaseException as error:
                failed.append(error)

        self._team(work, helping)
        if failed:
            raise failed[0]


class Pool:
    """A `Team` of up to ``most`` helpers, which wait for the next call. A process that is forked has its own."""

    def __init__(self, most: int) -> None:
        self._most, self._process = max(1, most), 0
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, work: Callable[[], None], helping: int) -> None:
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self._most, thread_name_prefix="rows"), os.getpid()
        helpers: list[Future[None]] = []
        try:
            if threading.main_thread().is_alive():  # a pool takes no more work when the interpreter is about to end
                for _ in range(helping):
                    helpers.append(self._pool.submit(work))
            work()
        finally:
            _wait(helpers)


def _wait(helpers: Sequence[Future[None]]) -> None:
    """Return when all have ended, also if that is interrupted: they write into what the next call may write into."""
    interrupts: list[BaseException] = []
    is_waiting = True
    while is_waiting:
        try:
            wait([helper for helper in helpers if not helper.cancel()])  # one that has not begun is not needed
            is_waiting = False
        except BaseException as error:
            interrupts.append(error)
    if interrupts:
        raise interrupts[0]
