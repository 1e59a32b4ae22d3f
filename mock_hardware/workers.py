"""Threads that share the rows of an image, and arrays that are used again from frame to frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BAND_ROWS = 64
_BANDS_EACH = 4
"""As many bands as a thread must find: to wake one takes longer than to compute fewer."""


class Scratch:
    """Arrays that are used again and again: new memory costs as much time as the loop that fills it."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.float32]] = {}

    def take(self, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The array of that name, with anything in it; one of another shape has the same memory."""
        size, memory = shape[0] * shape[1], self._arrays.get(name)
        if memory is None or memory.size < size:
            memory = self._arrays[name] = np.empty(size, np.float32)
        return memory[:size].reshape(shape)


class Workers:
    """Threads that share an image by bands of rows. What they compute does not depend on how many they are.

    Parameters
    ----------
    threads
        How many.
    """

    def __init__(self, threads: int) -> None:
        self._helpers = threads - 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mock-bench")

    def rows(self, function: Callable[..., None], count: int, *args: Any) -> None:
        """Run ``function(first, last, *args)`` over rows 0 … ``count`` − 1."""
        helping = min(self._helpers, -(-count // _BAND_ROWS) // _BANDS_EACH - 1)
        if helping <= 0:
            function(0, count, *args)
            return
        bands = deque((first, min(first + _BAND_ROWS, count)) for first in range(0, count, _BAND_ROWS))

        def work() -> None:
            with suppress(IndexError):
                while True:
                    function(*bands.popleft(), *args)

        helpers = [self._pool.submit(work) for _ in range(helping)]
        work()
        for helper in helpers:
            helper.result()
