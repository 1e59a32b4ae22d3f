"""Loops over pixels: compiled once per machine by numba, kept on disk, run in parallel over rows without the GIL."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_FASTMATH = {"contract", "nsz", "arcp"}  # NaN and infinity keep their meaning
_BANDS_PER_THREAD = 4


def kernel(function: F) -> F:
    """A function ``(first, last, …)`` that computes those rows of an image."""
    options = {"nogil": True, "cache": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    return cast(F, numba.njit(**options)(function))


def inline(function: F) -> F:
    """A function of scalars, for use in kernels."""
    return cast(F, numba.njit(inline="always", fastmath=_FASTMATH, error_model="numpy")(function))


class Workers:
    """Threads that share an image by bands of rows. What they compute does not depend on how many they are.

    Parameters
    ----------
    threads
        How many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mock-bench")

    def rows(self, function: Callable[..., None], count: int, *args: Any) -> None:
        """Run ``function(first, last, *args)`` over rows 0 … ``count`` − 1."""
        if self.threads == 1:
            function(0, count, *args)
            return
        step = max(1, -(-count // (self.threads * _BANDS_PER_THREAD)))
        bands = [(first, min(first + step, count)) for first in range(0, count, step)]
        for done in [self._pool.submit(function, first, last, *args) for first, last in bands]:
            done.result()
