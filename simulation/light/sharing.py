"""Loops over vectors on the threads that torch computes with.

Threads of our own would fight with those of torch for the processors: OpenMP's go on looking for work for some
milliseconds after each product, and a loop that shares a processor with one of them takes longer than alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from groundwork.threads import Team, Threads

_BAND = 1 << 14
"""Elements that one thread takes at a time, at least: a tenth of a millisecond."""
_BANDS_EACH = 4
"""Bands for each thread, at most: more would make them wait less for each other, and cost a call each."""
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def share_rows(function: Callable[..., object], rows: int, width: int, *args: Any) -> None:
    """Run ``function(first, stop, *args)`` over ``rows`` of ``width`` elements.

    What is computed does not depend on how many threads there are.
    """
    count = torch.get_num_threads()
    _threads(count).rows(function, rows, *args, band=max(_band(width), -(-rows // (_BANDS_EACH * count))))


def is_shared(rows: int, width: int) -> bool:
    """Whether more than one thread would have a part in ``rows`` of ``width`` elements."""
    return _threads(torch.get_num_threads()).helping(rows, _band(width)) > 0


def _band(width: int) -> int:
    return max(1, _BAND // max(width, 1))


@cache
def _threads(count: int) -> Threads:
    return Threads(count, _team_of_torch())


@cache
def _team_of_torch() -> Team | None:
    """The threads of torch's OpenMP; None where torch comes without GNU's, or has none."""
    package = Path(torch.__file__).parent
    found = [*package.glob("lib/libgomp*.so*"), *package.parent.glob("torch.libs/libgomp*.so*")]
    if not found or not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return None
    try:
        openmp = ctypes.CDLL(str(found[0]))
        start, end = openmp.GOMP_parallel_start, openmp.GOMP_parallel_end
    except (OSError, AttributeError):
        return None
    start.argtypes, start.restype = [_WORK, ctypes.c_void_p, ctypes.c_uint], None
    end.argtypes, end.restype = [], None

    def run(work: Callable[[], None], helping: int) -> None:
        in_others, nothing, threads = _WORK(lambda _: work()), None, helping + 1
        try:
            start(in_others, nothing, threads)  # signals are looked for after a call: none comes before it
            work()  # not called by OpenMP, in which an interrupt would be lost
        finally:
            end()

    return run
