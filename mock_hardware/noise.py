"""Seeded noise: a counter-based generator, normal deviates and Poisson counts, as scalars for compiled loops.

Each deviate is a function of (seed, frame, pixel) alone, so a frame depends neither on the number of threads nor on
the region that is read.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mock_hardware.compiled import inline, rotate_left

Floats = NDArray[np.float32]

EXACT_BELOW = np.float32(16.0)
"""Means below this are drawn from the exact distribution; above, the error is 3e-4 in total variation and shrinking."""
_PER_UNIT = 16  # tabulated means per electron
_OUTCOMES = 64
_OUTCOME_MASK = np.uint32(_OUTCOMES - 1)
_UNIT = np.float32(2.0**-32)

_f32, _i32, _u32 = np.float32, np.int32, np.uint32


def generator(seed: int, *key: int) -> np.random.Generator:
    """A generator of its own for each ``key``: the same for the same numbers, whoever asks and when."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=key)))


def pixel_key(seed: int) -> tuple[np.uint32, np.uint32]:
    """The key of `threefry` that belongs to a seed."""
    first, second = np.random.SeedSequence(seed).generate_state(2)
    return np.uint32(first), np.uint32(second)


@inline
def _mix(x: np.uint32, y: np.uint32, bits: int) -> tuple[np.uint32, np.uint32]:
    x = _u32(x + y)
    return x, _u32(rotate_left(y, _u32(bits)) ^ x)


@inline
def threefry(k0: np.uint32, k1: np.uint32, c0: np.uint32, c1: np.uint32) -> tuple[np.uint32, np.uint32]:
    """Two words of 32 random bits for each counter ``(c0, c1)``: Threefry-2×32 with 13 rounds.

    References
    ----------
    J. K. Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC'11, table 2: thirteen rounds are the fewest
    that pass BigCrush.
    """
    k2 = _u32(_u32(0x1BD11BDA) ^ k0 ^ k1)
    x, y = _u32(c0 + k0), _u32(c1 + k1)
    x, y = _mix(x, y, 13)
    x, y = _mix(x, y, 15)
    x, y = _mix(x, y, 26)
    x, y = _mix(x, y, 6)
    x, y = _u32(x + k1), _u32(y + k2 + _u32(1))
    x, y = _mix(x, y, 17)
    x, y = _mix(x, y, 29)
    x, y = _mix(x, y, 16)
    x, y = _mix(x, y, 24)
    x, y = _u32(x + k2), _u32(y + k0 + _u32(2))
    x, y = _mix(x, y, 13)
    x, y = _mix(x, y, 15)
    x, y = _mix(x, y, 26)
    x, y = _mix(x, y, 6)
    x, y = _u32(x + k0), _u32(y + k1 + _u32(3))
    x, y = _mix(x, y, 17)
    return x, y


@inline
def normal_pair(first: np.uint32, second: np.uint32) -> tuple[np.float32, np.float32]:
    """Two independent standard normal deviates, by Box and Muller's transform, up to 6.8 in size."""
    radius = np.sqrt(_f32(-2) * _log((_f32(first) + _f32(0.5)) * _UNIT))
    sine, cosine = _sincos_pi(_f32(_i32(second)) * _f32(2.0**-31))
    return radius * cosine, radius * sine


@inline
def _log(x: np.float32) -> np.float32:
    """Natural logarithm of a positive number, within 2 units in the last place (polynomial of Cephes' ``logf``)."""
    bits = _f32(x).view(_i32)
    exponent = _i32((bits - _i32(0x3F3504F3)) >> _i32(23))  # mantissa in √½ … √2
    m = _i32(bits - (exponent << _i32(23))).view(_f32) - _f32(1)
    square = m * m
    p = _f32(7.0376836292e-2)
    p = p * m + _f32(-1.1514610310e-1)
    p = p * m + _f32(1.1676998740e-1)
    p = p * m + _f32(-1.2420140846e-1)
    p = p * m + _f32(1.4249322787e-1)
    p = p * m + _f32(-1.6668057665e-1)
    p = p * m + _f32(2.0000714765e-1)
    p = p * m + _f32(-2.4999993993e-1)
    p = p * m + _f32(3.3333331174e-1)
    return p * m * square - _f32(0.5) * square + m + _f32(exponent) * _f32(0.6931471806)


@inline
def _sincos_pi(t: np.float32) -> tuple[np.float32, np.float32]:
    """``sin(π t), cos(π t)`` for t in −1 … 1, within 1e-6: Taylor's series about the nearer quarter turn, h ≤ 1/2."""
    h = np.abs(t) - _f32(0.5)
    z = h * h
    s = _f32(-0.0073704309)  # −π¹¹/11!
    s = s * z + _f32(0.0821458866)
    s = s * z + _f32(-0.5992645293)
    s = s * z + _f32(2.5501640399)
    s = s * z + _f32(-5.1677127800)
    s = s * z + _f32(3.1415926536)
    c = _f32(0.0019295743)  # π¹²/12!
    c = c * z + _f32(-0.0258068913)
    c = c * z + _f32(0.2353306304)
    c = c * z + _f32(-1.3352627689)
    c = c * z + _f32(4.0587121264)
    c = c * z + _f32(-4.9348022005)
    c = c * z + _f32(1.0)
    return np.copysign(c, t), -s * h


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
    return bool(_f32(chance) * _UNIT < mean)


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
