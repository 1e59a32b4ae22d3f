"""Seeded noise: a counter-based generator, normal deviates and Poisson counts, as scalars for compiled loops.

Each deviate is a function of (seed, frame, pixel) alone, so a frame depends neither on the number of threads nor on
the region that is read.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from groundwork.compiled import inline
from groundwork.random_numbers import UNIT

Floats = NDArray[np.float32]

EXACT_BELOW = np.float32(16.0)
"""Means below this are drawn from the exact distribution; above, the error is 3e-4 in total variation and shrinking."""
_PER_UNIT = 16  # tabulated means per electron
_OUTCOMES = 64
_OUTCOME_MASK = np.uint32(_OUTCOMES - 1)

_f32, _i32, _u32 = np.float32, np.int32, np.uint32


def generator(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each ``key``: the same for the same numbers, whoever asks and when."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def pixel_key(seed: int) -> tuple[np.uint32, np.uint32]:
    """The key of `threefry` that belongs to a seed."""
    first, second = np.random.SeedSequence(seed).generate_state(2)
    return np.uint32(first), np.uint32(second)


@inline
def poisson_large(mean: np.float32, w: np.float32) -> np.float32:
    """A Poisson count from a standard normal deviate: ``⌊λ + √λ w + (1/3 + w²/6) − (w/36 + w³/72)/√λ⌋``.

    Giles's normal asymptotic expansion of the inverse distribution function, rounded down to an integer; from a mean of
    16 a χ² test needs 10⁷ draws of one mean to see the difference (measured against `scipy.stats.poisson`).

    References
    ----------
    M. B. Giles, Algorithm 955: Approximation of the inverse Poisson cumulative distribution function, ACM TOMS 42
    (2016) 7, expansion Q̃_N2.
    """
    root = np.sqrt(max(mean, EXACT_BELOW))
    square = w * w
    tail = (square * _f32(1 / 72) + _f32(1 / 36)) / root
    count = mean + w * (root - tail) + square * _f32(1 / 6) + _f32(1 / 3)
    return max(np.floor(count), _f32(0))


@inline
def alias_entry(mean: np.float32, dice: np.uint32) -> np.uint32:
    """Where `alias_table` has the outcome ``dice mod 64`` of the next lower tabulated mean."""
    return _u32(_u32(_i32(mean * _f32(_PER_UNIT))) * _u32(_OUTCOMES) + _u32(dice & _OUTCOME_MASK))


@inline
def poisson_small(mean: np.float32, dice: np.uint32, entry: np.uint32) -> tuple[np.float32, np.float32]:
    """A Poisson count of the next lower tabulated mean by Walker's alias method, and the rest of the mean.

    Poisson means add: with `poisson_rest` of the rest, the count is exact for any mean below `EXACT_BELOW`.
    """
    alias = _i32(entry & _OUTCOME_MASK)
    keep = _f32(dice < _u32(entry - _u32(alias)))
    count = _f32(alias) + keep * _f32(_i32(dice & _OUTCOME_MASK) - alias)
    return count, mean - _f32(_i32(mean * _f32(_PER_UNIT))) * _f32(1 / _PER_UNIT)


@inline
def is_rest(mean: np.float32, chance: np.uint32) -> bool:
    """May `poisson_rest` be more than 0? ``P(count ≥ 1) = 1 − exp(−r) ≤ r``"""
    return bool(_f32(chance) * UNIT < mean)


@inline
def poisson_rest(mean: np.float32, chance: np.uint32) -> np.float32:
    """A Poisson count of a mean below 1/16, by inversion."""
    u, r = (np.float64(chance) + 0.5) * 2.0**-32, np.float64(mean)
    term = np.exp(-r)
    beyond = 1.0 - term
    count = 0
    while u < beyond:
        count += 1
        term *= r / count
        beyond -= term
    return _f32(count)


@cache
def alias_table() -> NDArray[np.uint32]:
    """Walker's alias tables of the Poisson distributions of mean 0, 1/16, …: one word per (mean, outcome), flat.

    The upper 26 bits are the chance to keep the outcome, the lower 6 the outcome to take otherwise.
    """
    means = np.arange(int(EXACT_BELOW) * _PER_UNIT) / _PER_UNIT
    table = np.empty((len(means), _OUTCOMES), np.uint32)
    for entries, mean in zip(table, means, strict=True):
        share = _pmf(float(mean)) * _OUTCOMES
        entries[:] = np.arange(_OUTCOMES)
        small = [k for k in range(_OUTCOMES) if share[k] < 1]
        large = [k for k in range(_OUTCOMES) if share[k] >= 1]
        while small and large:
            k, donor = small.pop(), large[-1]
            entries[k] = (int(share[k] * 2**26) << 6) | donor
            share[donor] -= 1 - share[k]
            if share[donor] < 1:
                small.append(large.pop())
    return table.ravel()


def _pmf(mean: float) -> NDArray[np.float64]:
    """(64,) Poisson probabilities; what lies beyond is under 1e-17 for every tabulated mean."""
    ratios = np.concatenate([[np.exp(-mean)], mean / np.arange(1, _OUTCOMES)])
    pmf = np.cumprod(ratios)
    return np.asarray(pmf / pmf.sum())
