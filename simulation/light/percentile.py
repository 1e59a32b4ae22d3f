"""The k-th smallest of many magnitudes, without sorting them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from groundwork.checksums import is_repeated
from groundwork.compiled import kernel

Array = Any  # numba compiles these for the types it meets

_u32 = np.uint32
SHIFT = 20
"""Magnitudes fall into boxes by their bits from here on: the exponent and three bits of the fraction."""


def rank_of(percentile: float, count: int) -> int:
    """Of the magnitude that so many per cent of ``count`` ones do not exceed."""
    return min(count, max(1, math.ceil(percentile / 100 * count)))


@kernel
def kth_magnitude(first: int, stop: int, values: Array, rank: int, out: Array) -> None:
    """Of each row of ``values`` (B, N) from ``first`` to ``stop``, the magnitude of that ``rank``: ``out``.

    It has ``rank`` − 1 smaller or equal ones before it.

    The bits of positive floats are in the order of the floats; a NaN comes after them all. A row that is the same as
    the one before it is not looked through again.
    """
    boxes = np.empty(1 << (31 - SHIFT), np.int64)
    near = np.empty(values.shape[1], np.uint32)
    for b in range(first, stop):
        row = values[b]
        if b > first and is_repeated(values[b - 1], row):
            out[b] = out[b - 1]
            continue
        boxes[:] = 0
        for i in range(len(row)):
            boxes[(_u32(row[i]) & _u32(0x7FFFFFFF)) >> _u32(SHIFT)] += 1
        box, before = 0, 0
        while before + boxes[box] < rank:
            before += boxes[box]
            box += 1
        count = 0
        for i in range(len(row)):
            bits = _u32(row[i]) & _u32(0x7FFFFFFF)
            near[count] = bits
            count += bits >> _u32(SHIFT) == _u32(box)
            if count == len(row):
                break
        out[b] = _smallest(near[:count], rank - before, _u32(box) << _u32(SHIFT))


@kernel
def _smallest(values: Array, rank: int, base: np.uint32) -> np.uint32:
    """The ``rank``-th of ``values`` that differ from ``base`` in their lower bits only, bit by bit."""
    found = base
    for shift in range(SHIFT - 1, -1, -1):
        bit = _u32(1) << _u32(shift)
        below, limit = 0, _u32(found | bit)
        for i in range(len(values)):
            below += (values[i] >= found) & (values[i] < limit)
        if below < rank:
            rank -= below
            found = limit
    return found
