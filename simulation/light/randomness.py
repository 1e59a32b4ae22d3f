"""Random numbers for compiled loops: each is a function of (key, call, stream, position), of nothing else.

So the noise of a layer has two words and a counter as its whole state, does not depend on the number of threads, and
is the same normal deviate at every light level: sweeps over photons compare like with like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_FASTMATH = {"contract", "nsz", "arcp", "reassoc"}  # NaN and infinity keep their meaning
_f32, _i32, _u32 = np.float32, np.int32, np.uint32
_UNIT = np.float32(2.0**-32)


def kernel(function: Callable[..., Any]) -> Any:
    """A compiled loop over arrays, kept on disk, that runs without the GIL."""
    return numba.njit(nogil=True, cache=True, fastmath=_FASTMATH, error_model="numpy")(function)


def inline(function: Callable[..., Any]) -> Any:
    """A compiled function of scalars, for use in kernels."""
    return numba.njit(inline="always", fastmath=_FASTMATH, error_model="numpy")(function)


@intrinsic
def _rotate_left(typing_context, word, bits):  # type: ignore[no-untyped-def]
    """The one processor instruction; spelt as two shifts it would not be vectorised as one."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        i32 = ir.IntType(32)
        funnel = builder.module.declare_intrinsic("llvm.fshl", [i32], ir.FunctionType(i32, [i32, i32, i32]))
        return builder.call(funnel, [arguments[0], arguments[0], arguments[1]])

    return types.uint32(types.uint32, types.uint32), generate


rotate_left: Any = _rotate_left


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
def fill_normal(out: np.ndarray[Any, Any], k0: np.uint32, k1: np.uint32, first: np.uint32, stream: np.uint32) -> None:
    """Standard normal deviates into a (m,) buffer of even length; uses m/2 counters from ``first`` on."""
    half = len(out) // 2
    for i in range(half):
        a, b = threefry(k0, k1, _u32(first + _u32(i)), stream)
        u, v = normal_pair(a, b)
        out[i] = u
        out[half + i] = v


_RECIPROCALS = 1.0 / np.maximum(np.arange(256), 1)


@inline
def poisson(mean: float, word: np.uint32) -> float:
    """A Poisson count of a mean up to 64, by inversion of its distribution function: exact to 2⁻³²."""
    u = (np.float64(word) + 0.5) * 2.0**-32
    term = np.exp(-mean)
    count = 0
    while u > term and count < 255:
        u -= term
        count += 1
        term *= mean * _RECIPROCALS[count]
    return np.float64(count)
