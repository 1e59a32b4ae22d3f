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
    m, k = elements.gain.shape
    batch = len(lies)
    words, found = lies.reshape((batch, m * k)).view(_u32), np.empty(batch, _u32)
    kth_magnitude(0, batch, words, rank, found)
    if found.min() == _u32(0):  # a matrix of few numbers that are not zero
        largest = np.empty(batch, _u32)
        kth_magnitude(0, batch, words, m * k, largest)
        for b in range(batch):
            found[b] = found[b] if found[b] > _u32(0) else largest[b]
    unit, scaled = np.maximum(found.view(_f32), _TINY), np.empty((batch, m, k), _f32)
    for b in range(batch):
        if b > 0 and is_repeated(words[b - 1], words[b]):
            scaled[b] = scaled[b - 1]
        else:
            _scale(lies[b], by_columns, unit[b], scaled[b])
    rows, columns = len(placed.rows) - 1, len(placed.columns) - 1
    signed, light = np.empty((batch, m, k), _f32), np.empty((batch, m, k), _f32)
    lone, mean_light = np.empty((batch, m), _f32), np.empty((batch, m), _f32)
    planes, scatter = np.empty((batch, rows, 2, columns), _f32), np.empty((batch, rows, 2, columns), _f32)
    moments = planes, scatter, np.empty((batch, 2, k), _f32)
    show_signed(0, batch, scaled, elements, floor, (signed, light), (lone, mean_light), moments)
    brightness, nothing = np.empty(batch, _f32), np.zeros((batch, m), _f32)
    for b in range(batch):
        brightness[b] = _sum(mean_light[b]) / _f32(m)
    in_bytes, steps = np.empty((0, k), np.int8), np.zeros(4)
    held = Held(signed, light, in_bytes, steps, brightness, mean_light, lone, planes, scatter, nothing)
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
