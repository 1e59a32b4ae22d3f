"""Threads that share the rows of an array, for compiled loops that let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

BAND_ROWS = 64
"""Rows of an image that one thread takes at a time."""
_BANDS_EACH = 4
"""As many bands as a thread must find: to wake one takes longer than to compute fewer."""


class Threads:
    """Threads that share an array by bands of rows. What they compute does not depend on how many they are.

    Parameters
    ----------
    count
        How many, the one that asks among them.
    """

    def __init__(self, count: int) -> None:
        self._helpers = count - 1
        self._pool = ThreadPoolExecutor(max(1, self._helpers), thread_name_prefix="rows")

    def helping(self, count: int, band: int) -> int:
        """How many threads help the one that asks with ``count`` rows."""
        return max(0, min(self._helpers, -(-count // band) // _BANDS_EACH - 1))

    def rows(self, function: Callable[..., object], count: int, *args: Any, band: int = BAND_ROWS) -> None:
        """Run ``function(first, last, *args)`` over rows 0 … ``count`` − 1, ``band`` of them at a time."""
        helping = self.helping(count, band)
        if not helping:
            function(0, count, *args)
            return
        bands = deque((first, min(first + band, count)) for first in range(0, count, band))

        def work() -> None:
            with suppress(IndexError):
                while True:
                    function(*bands.popleft(), *args)

        helpers = [self._pool.submit(work) for _ in range(helping)]
        work()
        for helper in helpers:
            if not helper.cancel():  # one that has not begun is not needed any more
                helper.result()


@cache
def threads_of(count: int) -> Threads:
    """The same ``count`` threads for all who ask."""
    return Threads(count)


if hasattr(os, "register_at_fork"):  # a process that is forked has none of its parent's threads
    os.register_at_fork(after_in_child=threads_of.cache_clear)
