"""What is computed of every element of a matrix that is shown, in compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import inline, summing_kernel

Array = Any  # numba compiles these for the types it meets


@summing_kernel
def weigh_neighbours(weight: Array, taps: Array, out: Array) -> None:
    """Sums of each element of ``weight`` (N, K) and its neighbours in the row, by ``taps`` (2r + 1, K): ``out``."""
    k, radius = weight.shape[1], len(taps) // 2
    padded = np.zeros(k + 2 * radius, weight.dtype)
    for n in range(len(weight)):
        padded[radius : radius + k] = weight[n]
        _add_neighbours(padded, taps, out[n])


@inline
def _add_neighbours(padded: Array, taps: Array, row: Array) -> None:
    """Write the sums of one row, ``padded`` by nothing at both ends, into ``row`` (K,)."""
    row[:] = 0
    for j in range(len(taps)):
        tap, near = taps[j], padded[j : j + len(row)]
        for i in range(len(row)):
            row[i] += tap[i] * near[i]


@summing_kernel
def weigh_and_clip(weight: Array, taps: Array, out: Array) -> None:
    """`weigh_neighbours` of single-precision ``weight`` (N, K) in doubles, clipped to −1 … 1: ``out``, single again."""
    k, radius = weight.shape[1], len(taps) // 2
    padded, row = np.zeros(k + 2 * radius), np.empty(k)
    for n in range(len(weight)):
        padded[radius : radius + k] = weight[n]
        _add_neighbours(padded, taps, row)
        for i in range(k):
            out[n, i] = np.float32(min(max(row[i], -1.0), 1.0))


@summing_kernel
def spill_over(shown: Array, gain: Array, outputs: Array, inputs: Array, out: Array) -> None:
    """Light ``out`` (N, M, K) by output and input, of transmissions ``shown`` (N, M, K) under a ``gain`` (M, K).

    ``outputs`` (2, M): shares of the light of each output that the ones before and after it collect. ``inputs`` (3, K):
    shares of the light of each input that are its own, of the one before, and of the one after it.
    """
    _, rows, columns = shown.shape
    seen = np.empty(columns, np.float32)
    for n in range(len(shown)):
        for m in range(rows):
            row = out[n, m]
            for k in range(columns):
                seen[k] = shown[n, m, k] * gain[m, k]
            if m + 1 < rows:
                for k in range(columns):
                    seen[k] += outputs[0, m + 1] * shown[n, m + 1, k] * gain[m + 1, k]
            if m > 0:
                for k in range(columns):
                    seen[k] += outputs[1, m - 1] * shown[n, m - 1, k] * gain[m - 1, k]
            for k in range(columns):
                row[k] = seen[k] * inputs[0, k]
            for k in range(columns - 1):
                row[k] += seen[k + 1] * inputs[1, k + 1]
            for k in range(columns - 1):
                row[k + 1] += seen[k] * inputs[2, k]


@summing_kernel
def tile_moments(shown: Array, rows: Array, columns: Array, planes: Array, scatter: Array, by_column: Array) -> None:
    """Mean and spread of the light of ``shown`` (P, B, M, K) in tiles between ``rows`` and ``columns``.

    ``planes`` (B, R, P, T), out: means. ``scatter`` (B, R, P, T), out: variances over the rows of a tile, mean over its
    columns. ``by_column`` (B, P, K), out: means over all rows.
    """
    k = shown.shape[3]
    total, power, whole = np.empty(k), np.empty(k), np.empty(k)
    for p in range(shown.shape[0]):
        for b in range(shown.shape[1]):
            whole[:] = 0.0
            for r in range(len(rows) - 1):
                total[:] = 0.0
                power[:] = 0.0
                for m in range(rows[r], rows[r + 1]):
                    row = shown[p, b, m]
                    for i in range(k):
                        light = np.float64(row[i])
                        total[i] += light
                        power[i] += light * light
                count = rows[r + 1] - rows[r]
                for t in range(len(columns) - 1):
                    mean, apart = 0.0, 0.0
                    for i in range(columns[t], columns[t + 1]):
                        each = total[i] / count
                        mean += each
                        apart += power[i] / count - each * each
                    width = columns[t + 1] - columns[t]
                    planes[b, r, p, t], scatter[b, r, p, t] = mean / width, max(apart / width, 0.0)
                for i in range(k):
                    whole[i] += total[i]
            for i in range(k):
                by_column[b, p, i] = whole[i] / shown.shape[2]
