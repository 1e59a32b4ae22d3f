"""Loops over pixels: compiled once per machine by numba, kept on disk, run in parallel over rows without the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

_FASTMATH = {"contract", "nsz", "arcp"}  # NaN and infinity keep their meaning
_BAND_ROWS = 64


def kernel(function: Callable[..., Any]) -> Any:
    """A function of arrays: a loop over a row, or ``(first, last, …)`` that computes those rows of an image."""
    return numba.njit(nogil=True, cache=True, fastmath=_FASTMATH, error_model="numpy")(function)


def inline(function: Callable[..., Any]) -> Any:
    """A function of scalars, for use in kernels."""
    return numba.njit(inline="always", fastmath=_FASTMATH, error_model="numpy")(function)


@intrinsic
def _rotate_left(typing_context, word, bits):  # type: ignore[no-untyped-def]
    """The one processor instruction; spelt as two shifts of 32-bit words, it would be vectorised as 64-bit ones."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i32 = ir.IntType(32)
        funnel = builder.module.declare_intrinsic("llvm.fshl", [i32], ir.FunctionType(i32, [i32, i32, i32]))
        return builder.call(funnel, [arguments[0], arguments[0], arguments[1]])

    return types.uint32(types.uint32, types.uint32), generate


rotate_left: Any = _rotate_left


class Scratch:
    """Arrays that are used again and again: new memory costs as much time as the loop that fills it."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[np.float32]] = {}

    def take(self, name: str, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The array of that name, with anything in it."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape:
            array = self._arrays[name] = np.empty(shape, np.float32)
        return array


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
        bands = deque((first, min(first + _BAND_ROWS, count)) for first in range(0, count, _BAND_ROWS))

        def work() -> None:
            with suppress(IndexError):
                while True:
                    function(*bands.popleft(), *args)

        helpers = [self._pool.submit(work) for _ in range(min(self._helpers, len(bands) - 1))]
        work()
        for helper in helpers:
            helper.result()
