"""Normal deviates and Poisson counts for the simulated products, drawn inside compiled loops.

Each is a function of (key, call, stream, position), of nothing else: the noise of a layer does not depend on the number
of threads, and is the same normal deviate at every light level, so sweeps over photons compare like with like.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import inline
from groundwork.random_numbers import normal_pair, threefry

_u32 = np.uint32


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
