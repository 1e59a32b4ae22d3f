"""How compiled loops notice that memory has changed, whoever wrote into it, or holds the same twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import inline, kernel

Array = Any  # numba compiles these for the types it meets

BLOCK = 512
"""Words of eight bytes that are summed up before the sum is shifted on."""

_FACTORS = np.random.default_rng(35).integers(0, 1 << 64, BLOCK, np.uint64) | np.uint64(1)

_ODD = np.uint64(0x9E3779B97F4A7C15)


@kernel
def sum_of_words(words: Array) -> np.uint64:
    """Σ of mixed words (L, W) of eight bytes by odd factors, a polynomial of an odd number over blocks.

    Every step can be undone, so no change of a single word is lost. Words are mixed first: signs alone are top bits, of
    which an even number cancels in a sum.
    """
    total = np.uint64(0)
    for line in range(len(words)):
        total = add_words(words[line], total)
    return total


@inline
def add_words(words: Array, total: np.uint64) -> np.uint64:
    """`sum_of_words` after one more line (W,), for loops that read something else between the lines."""
    for start in range(0, len(words), BLOCK):
        part, block = words[start : start + BLOCK], np.uint64(0)
        for i in range(len(part)):
            word = (part[i] ^ (part[i] >> np.uint64(29))) * _ODD
            block += (word ^ (word >> np.uint64(32))) * _FACTORS[i]
        total = total * _ODD + block
    return total


@inline
def is_repeated(one: Array, other: Array) -> bool:
    """Whether two rows (N,) uint32 are the same; they are looked through up to where they are not."""
    for start in range(0, len(one), BLOCK):
        left, right, differs = one[start : start + BLOCK], other[start : start + BLOCK], np.uint32(0)
        for i in range(len(left)):
            differs |= left[i] ^ right[i]
        if differs:
            return False
    return True
