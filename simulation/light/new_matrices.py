"""Matrices that are new with every call, as in attention, made ready for a few vectors in one compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.checksums import is_repeated
from groundwork.compiled import rounding_kernel, summing_kernel
from simulation.light.elements import Elements, show_signed
from simulation.light.few import Held, Placed
from simulation.light.percentile import kth_magnitude

Array = Any  # numba compiles these for the types it meets

_f32, _u32 = np.float32, np.uint32
_ZERO, _TINY = _f32(0), np.finfo(np.float32).tiny


@summing_kernel
def show_new(lies: Array, by_columns: bool, rank: int, elements: Elements, floor: np.float32, placed: Placed) -> Any:
    """Show matrices (B, M, K), each on the scale of its magnitude of that ``rank``.

    Parameters
    ----------
    lies, by_columns
        The matrices as they lie in memory, float32: (B, M, K), or (B, K, M) ``by_columns``.
    rank
        As of `simulation.light.percentile.kth_magnitude`.
    elements, floor
        As of `simulation.light.elements.show_signed`.
    placed
        Where they lie on the bench.

    Returns
    -------
    Whether all their numbers are finite; (B,) the weight that full transmission stands for; and what
    `simulation.light.few.multiply_at_once` holds.
    """
    (m, k), batch = elements.gain.shape, len(lies)
    words, which, alone = lies.reshape((batch, m * k)).view(_u32), np.empty(batch, np.int64), -1
    found = np.empty(batch, _u32)
    for b in range(batch):
        if b > 0 and is_repeated(words[b - 1], words[b]):  # heads of attention often share their keys
            found[b] = found[b - 1]
        else:
            alone += 1
            kth_magnitude(b, b + 1, words, rank, found)
            if found[b] == _u32(0):  # a matrix of few numbers that are not zero
                kth_magnitude(b, b + 1, words, m * k, found)
        which[b] = alone
    unit, scaled = np.maximum(found.view(_f32), _TINY), np.empty((alone + 1, m, k), _f32)
    for b in range(batch):
        if b == 0 or which[b] > which[b - 1]:
            _scale(lies[b], by_columns, unit[b], scaled[which[b]])
    tiles = alone + 1, len(placed.rows) - 1, 2, len(placed.columns) - 1
    signed, light = np.empty_like(scaled), np.empty_like(scaled)
    means, planes, scatter = np.empty((2, alone + 1, m), _f32), np.empty(tiles, _f32), np.empty(tiles, _f32)
    by_column = np.empty((alone + 1, 2, k), _f32)
    shown, each, moments = (signed, light), (means[0], means[1]), (planes, scatter, by_column)
    show_signed(0, alone + 1, scaled, elements, floor, shown, each, moments)
    lone, mean_light, brightness = means[0][which], means[1][which], np.empty(batch, _f32)
    for b in range(batch):
        brightness[b] = _sum(mean_light[b]) / _f32(m)
    in_bytes, nothing = np.empty((0, k), np.int8), np.zeros((batch, m), _f32)
    moments_of = planes[which], scatter[which]
    held = Held(
        signed, light, which, in_bytes, np.zeros(4), brightness, mean_light, lone, moments_of[0], moments_of[1], nothing
    )
    return np.isfinite(_sum(lies.reshape(batch * m * k))), unit, held


@summing_kernel
def _sum(values: Array) -> np.float32:
    total = _ZERO
    for i in range(len(values)):
        total += values[i]
    return total


@rounding_kernel
def _scale(lies: Array, by_columns: bool, unit: np.float32, out: Array) -> None:
    """A matrix by its ``unit``: ``out`` (M, K); of one that lies ``by_columns``, transposed."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = (lies[j, i] if by_columns else lies[i, j]) / unit
