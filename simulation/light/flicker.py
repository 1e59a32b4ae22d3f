"""Flicker of the source in sums of passes, in a compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import summing_kernel
from simulation.light.randomness import fill_normal

Array = Any  # numba compiles these for the types it meets

_f32, _u32 = np.float32, np.uint32
_ZERO, _ONE = _f32(0), _f32(1)


@summing_kernel
def flicker_of_frames(
    light: Array,
    squares: Array,
    planes: Array,
    scatter: Array,
    flicker: np.float32,
    key: Array,
    out: Array,
    uneven: Array,
) -> None:
    """Relative excess light of sums of passes, each of whose frames flickers by itself, and of the offsets in them.

    A sum of frames of light a and of equal offsets b exceeds its expectation by Σ (a + b) δ = α Σ a + β b: α and β are
    correlated, for they come from the same δ.

    Parameters
    ----------
    light, squares
        (B, n, Q, T) sum of the light of each input pass and column tile, and of its squares.
    planes, scatter
        (B, R, P, T) light of each weight pass over row tile and column tile: its mean, and its variance from output to
        output; P = Q.
    flicker
        Standard deviation of the factor by which one frame is brighter or darker than its expectation [1].
    key
        As in `detect`.
    out
        (B, n, R, 3), out: α of those that count positive and negative, 0 if dark; β+ − β−.
    uneven
        (B, n), out: mean variance that outputs have besides, because frames weigh differently in each.
    """
    passes, tiles, rows = light.shape[2], light.shape[3], planes.shape[1]
    z = np.empty(out.size + (out.size & 1), np.float32)
    fill_normal(z, key[0], key[1], _u32(0), _u32(key[2] << _u32(2)) | _u32(3))
    out.reshape(-1)[:] = z[: out.size]
    each = flicker * flicker / _f32(rows)
    for b in range(len(light)):
        for n in range(light.shape[1]):
            uneven[b, n] = _ZERO
            for r in range(rows):
                offset, rest = _ZERO, _ZERO
                for sign in range(2):
                    total, power, apart, frames = _ZERO, _ZERO, _ZERO, _ZERO
                    for q in range(passes if sign < passes else 0):
                        for t in range(tiles):
                            a = light[b, n, q, t] * planes[b, r, q ^ sign, t]
                            total += a
                            power += a * a
                            frames += _ONE if light[b, n, q, t] > _ZERO else _ZERO
                            apart += squares[b, n, q, t] * scatter[b, r, q ^ sign, t]
                    share = np.sqrt(power) / total if total > _ZERO else _ZERO
                    inverse = _ONE / share if share > _ZERO else _ZERO
                    offset += inverse * out[b, n, r, sign] * (_ONE if sign == 0 else -_ONE)
                    rest += max(frames - inverse * inverse, _ZERO)
                    out[b, n, r, sign] *= flicker * share
                    uneven[b, n] += each * apart * max(_ONE - share * share, _ZERO)
                out[b, n, r, 2] = flicker * (offset + np.sqrt(rest) * out[b, n, r, 2])
