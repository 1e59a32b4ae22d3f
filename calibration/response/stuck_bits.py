"""Converters of which a bit is stuck: whole numbers in which a bit never changes that must."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from groundwork.listing import listed

Float = NDArray[np.float64]

LEVELS = 64  # different readings of an output, at least
LARGEST = 2.0**52  # reading whose bits a float still has
HALF = 4.0  # ranges of a bit's two values that the readings go through, at least


def stuck_bits(readings: Float) -> dict[int, list[int]]:
    """Value of each bit that stands still, and the columns of (n, M) in which it does.

    A bit below the highest must change where the readings go through several times its value. The lowest bits that
    never change are of a converter with fewer bits than its type, and are not meant.
    """
    found: dict[int, list[int]] = {}
    for m, column in enumerate(readings.T):
        values = column[np.isfinite(column)]
        if not len(values) or (values != np.round(values)).any() or values.min() < 0 or values.max() >= LARGEST:
            continue
        levels = np.unique(values.astype(np.int64))
        if len(levels) < LEVELS:
            continue
        ones, zeros = int(np.bitwise_or.reduce(levels)), int(np.bitwise_or.reduce(~levels & ((1 << 52) - 1)))
        changing = ones & zeros
        bit = changing & -changing  # the lowest bit that changes
        while HALF * bit < float(levels[-1] - levels[0]):
            if not changing & bit:
                found.setdefault(bit, []).append(m)
            bit <<= 1
    return found


def bits_in_words(found: dict[int, list[int]], names: NDArray[np.intp]) -> str:
    """``"the bit of value 64 never changes in output 1"``, with what to do; empty where there is none."""
    if not found:
        return ""
    parts = []
    for bit, columns in sorted(found.items()):
        parts.append(f"the bit of value {bit} never changes in the readings of output {listed(names[columns])}")
    return f"{'; '.join(parts)}: a converter or a cable is out of order; record again without it"
