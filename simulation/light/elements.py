"""What is computed of every element of a matrix that is shown, in compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundwork.compiled import summing_kernel

Array = Any  # numba compiles these for the types it meets


@summing_kernel
def weigh_neighbours(weight: Array, taps: Array, out: Array) -> None:
    """Sums of each element of ``weight`` (N, K) and its neighbours in the row, by ``taps`` (2r + 1, K): ``out``."""
    k, radius = weight.shape[1], len(taps) // 2
    padded = np.zeros(k + 2 * radius, weight.dtype)
    for n in range(len(weight)):
        row = out[n]
        padded[radius : radius + k] = weight[n]
        row[:] = 0
        for j in range(len(taps)):
            tap, near = taps[j], padded[j : j + k]
            for i in range(k):
                row[i] += tap[i] * near[i]


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
