"""Flicker of the source in sums of passes, in a compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import inline, summing_kernel
from simulation.light.randomness import fill_normal

Array = Any  # numba compiles these for the types it meets

_f32, _u32 = np.float32, np.uint32
_HALF, _ZERO, _ONE = _f32(0.5), _f32(0), _f32(1)


@summing_kernel
def draw_flicker(key: Array, out: Array) -> None:
    """Standard normal deviates of the products of one call, by their ``key``: ``out`` (n, R, 3)."""
    z = np.empty(out.size + (out.size & 1), np.float32)
    fill_normal(z, key[0], key[1], _u32(0), _u32(key[2] << _u32(2)) | _u32(3))
    out.reshape(-1)[:] = z[: out.size]


@summing_kernel
def find_flicker(
    first: int, stop: int, edges: Array, matrices: Any, strength: np.float32, shown: Any, products: Any, out: Array
) -> None:
    """`flicker_of_frames` as a loop of its own."""
    flicker_of_frames(first, stop, edges, matrices, strength, shown, products, out)


@inline
def flicker_of_frames(
    first: int, stop: int, edges: Array, matrices: Any, strength: np.float32, shown: Any, products: Any, out: Array
) -> None:
    """Relative excess light of sums of passes, each of whose frames flickers by itself, and of the offsets in them.

    A sum of frames of light a and of equal offsets b exceeds its expectation by Σ (a + b) δ = α Σ a + β b: α and β are
    correlated, for they come from the same δ. By how much frames weigh differently in each output adds noise of each
    output alone. It is a part of each loop that needs it, whose sums are then the same in whichever process that was
    compiled.

    Parameters
    ----------
    first, stop
        The products that are looked at, of all n.
    edges
        (T + 1,) first column of each column tile.
    matrices
        Planes and scatter (B, R, P, T): light of each weight pass over row tile and column tile, its mean, and its
        variance from output to output.
    strength
        Standard deviation of the factor by which one frame is brighter or darker than its expectation [1].
    shown
        `simulation.light.showing.Shown`, in Q = P passes.
    products
        `simulation.light.detection.Products`; to ``read`` the noise of outputs alone is added.
    out
        (n, R, 3): what `draw_flicker` drew; out: α of those that count positive and negative, 0 if dark; β+ − β−.
    """
    planes, scatter = matrices
    light, electrons, read = shown.light, products.electrons, products.read
    passes, tiles, rows = light.shape[1], light.shape[2], planes.shape[1]
    each, alone = max(len(light) // max(len(planes), 1), 1), strength * strength / _f32(rows)
    squares = np.empty((passes, tiles), np.float32)
    for n in range(first, stop):
        _squares(shown.signed[n], edges, squares)
        plane, spread, uneven = planes[n // each], scatter[n // each], _ZERO
        for r in range(rows):
            offset, rest = _ZERO, _ZERO
            for sign in range(2):
                total, power, apart, frames = _ZERO, _ZERO, _ZERO, _ZERO
                for q in range(passes if sign < passes else 0):
                    for t in range(tiles):
                        a = light[n, q, t] * plane[r, q ^ sign, t]
                        total += a
                        power += a * a
                        frames += _ONE if light[n, q, t] > _ZERO else _ZERO
                        apart += squares[q, t] * spread[r, q ^ sign, t]
                share = np.sqrt(power) / total if total > _ZERO else _ZERO
                inverse = _ONE / share if share > _ZERO else _ZERO
                offset += inverse * out[n, r, sign] * (_ONE if sign == 0 else -_ONE)
                rest += max(frames - inverse * inverse, _ZERO)
                out[n, r, sign] *= strength * share
                uneven += alone * apart * max(_ONE - share * share, _ZERO)
            out[n, r, 2] = strength * (offset + np.sqrt(rest) * out[n, r, 2])
        e = electrons[n] if electrons[n] > _ZERO else _ONE
        read[n] += uneven * (e * e)


@inline
def _squares(signed: Array, edges: Array, out: Array) -> None:
    """Σ_k ``signed``² (K,) of each pass and column tile between ``edges``: ``out`` (Q, T)."""
    for t in range(len(edges) - 1):
        both, difference = _ZERO, _ZERO  # no maxima: those are not taken many at once, because of NaN
        row = signed[edges[t] : edges[t + 1]]
        for k in range(len(row)):
            both += row[k] * row[k]
            difference += row[k] * np.abs(row[k])
        if len(out) == 1:
            out[0, t] = both
        else:
            out[0, t], out[1, t] = _HALF * (both + difference), _HALF * (both - difference)
