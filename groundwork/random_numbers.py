"""Random numbers for compiled loops: each is a function of a key and a counter, and of nothing else.

So noise has two words and a counter as its whole state, and does not depend on how many threads draw it or in which
order. These functions are scalars; a loop that calls them is a kernel of `groundwork.compiled`.
"""

from __future__ import annotations

import numpy as np

from groundwork.compiled import inline, rotate_left

_f32, _i32, _u32 = np.float32, np.int32, np.uint32

UNIT = np.float32(2.0**-32)
"""Turns a word of 32 random bits into a number from 0 to 1."""


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
    radius = np.sqrt(_f32(-2) * _log((_f32(first) + _f32(0.5)) * UNIT))
    sine, cosine = _sincos_pi(_f32(_i32(second)) * _f32(2.0**-31))
    return radius * cosine, radius * sine


@inline
def _mix(x: np.uint32, y: np.uint32, bits: int) -> tuple[np.uint32, np.uint32]:
    x = _u32(x + y)
    return x, _u32(rotate_left(y, _u32(bits)) ^ x)


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
