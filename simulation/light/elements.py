"""What is computed of every element of a matrix that is shown, in compiled loops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.checksums import is_repeated
from groundwork.compiled import inline, summing_kernel
from simulation.light.showing import Levels, show_operands

Array = Any  # numba compiles these for the types it meets

_f32 = np.float32
_ZERO = _f32(0)
FEW = 11
"""Neighbours, with an element itself, that a common bleed of up to half a per cent makes worth weighing."""


class Elements(NamedTuple):
    """What is done to each element of a matrix (M, K) that two passes show, one for each sign.

    Attributes
    ----------
    taps
        (2r + 1, K) float64, as of `weigh_neighbours`.
    flat
        (M, K) factors that make all macropixels equally bright, as of `simulation.light.showing.show_operands`.
    levels, span
        Of the SLM, as of the same.
    gain, outputs, inputs
        As of `spill_over`.
    rows, columns
        As of `tile_moments`.
    """

    taps: Array
    flat: Array
    levels: Levels
    span: np.float32
    gain: Array
    outputs: Array
    inputs: Array
    rows: Array
    columns: Array


@summing_kernel
def show_signed(
    first: int, stop: int, matrices: Array, elements: Elements, floor: np.float32, seen: Any, means: Any, moments: Any
) -> None:
    """Show ``matrices`` (B, M, K), ``first`` to ``stop``, each of which stays near the processor meanwhile.

    A matrix that is the same as the one before it is not computed anew: heads of attention often share their keys.

    ``seen``, out: signed and light (B, M, K) of `simulation.light.weights.Weights`. ``means``, out: lone and mean_light
    (B, M); ``floor`` is that of the display. ``moments``, out: as of `tile_moments`.
    """
    _, m, k = matrices.shape
    wanted, flat = np.empty((m, k), np.float32), elements.flat.reshape(m * k)
    magnitudes, bright = np.empty((1, m * k), np.float32), np.empty((1, m * k), np.float32)
    passes, lit = np.empty((2, m, k), np.float32), np.empty((2, 1, m, k), np.float32)
    darkest = np.zeros((1, 1), np.float32)
    show_operands(np.zeros((1, 1), np.float32), flat[:0], elements.span, elements.levels, darkest)
    dark, words = darkest[0, 0], matrices.reshape((len(matrices), m * k)).view(np.uint32)
    for b in range(first, stop):
        if b > first and is_repeated(words[b - 1], words[b]):
            _show_again(b, seen, means, moments)
            continue
        weigh_and_clip(matrices[b], elements.taps, wanted)
        for i in range(m):
            for j in range(k):
                magnitudes[0, i * k + j] = abs(wanted[i, j])
        show_operands(magnitudes, flat, elements.span, elements.levels, bright)
        for i in range(m):
            plus, minus, sign, level = passes[0, i], passes[1, i], wanted[i], bright[0, i * k : (i + 1) * k]
            for j in range(k):
                plus[j] = level[j] if sign[j] > _ZERO else dark
                minus[j] = level[j] if sign[j] < _ZERO else dark
        spill_over(passes, elements.gain, elements.outputs, elements.inputs, lit[:, 0])
        one = slice(b, b + 1)
        tile_moments(lit, elements.rows, elements.columns, moments[0][one], moments[1][one], moments[2][one])
        _add_passes(lit, (seen[0][b], seen[1][b]), (means[0][b], means[1][b]), floor)


@inline
def _show_again(b: int, seen: Any, means: Any, moments: Any) -> None:
    """What is seen of matrix ``b`` is what was seen of the one before."""
    for part in seen:
        part[b] = part[b - 1]
    for part in means:
        part[b] = part[b - 1]
    for part in moments[:2]:
        part[b] = part[b - 1]
    moments[2][b] = moments[2][b - 1]


@inline
def _add_passes(lit: Array, seen: Any, means: Any, floor: np.float32) -> None:
    """Difference and sum of both passes of one matrix, and what follows from their sums over the inputs."""
    (signed, light), (lone, mean_light), k = seen, means, lit.shape[3]
    for i in range(lit.shape[2]):
        difference, total = _ZERO, _ZERO
        plus, minus, apart, together = lit[0, 0, i], lit[1, 0, i], signed[i], light[i]
        for j in range(k):
            apart[j] = plus[j] - minus[j]
            together[j] = plus[j] + minus[j]
            difference += plus[j] - minus[j]
            total += plus[j] + minus[j]
        lone[i], mean_light[i] = floor * difference, total / _f32(k)


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
    side = max(radius, FEW // 2)
    few, padded, row = np.zeros((2 * side + 1, k)), np.zeros(k + 2 * side), np.empty(k)
    for j in range(len(taps)):
        for i in range(k):
            few[side - radius + j, i] = taps[j, i]
    for n in range(len(weight)):
        for i in range(k):
            padded[side + i] = weight[n, i]
        if side > FEW // 2:
            _add_neighbours(padded, few, row)
        else:
            for i in range(k):
                total = 0.0
                for j in range(FEW):  # known to the compiler, which then adds up many sums at once
                    total += few[j, i] * padded[i + j]
                row[i] = total
        for i in range(k):
            out[n, i] = _f32(min(max(row[i], -1.0), 1.0))


@summing_kernel
def spill_over(shown: Array, gain: Array, outputs: Array, inputs: Array, out: Array) -> None:
    """Light ``out`` (N, M, K) by output and input, of transmissions ``shown`` (N, M, K) under a ``gain`` (M, K).

    ``outputs`` (2, M): shares of the light of each output that the ones before and after it collect. ``inputs`` (3, K):
    shares of the light of each input that are its own, of the one before, and of the one after it.
    """
    _, rows, columns = shown.shape
    near, seen = np.empty((3, columns), np.float32), np.zeros(columns + 2, np.float32)
    after, before = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for k in range(columns - 1):
        after[k], before[k + 1] = inputs[1, k + 1], inputs[2, k]
    for n in range(len(shown)):
        near[:] = _ZERO
        _light_row(shown[n, 0], gain[0], near[1])
        for m in range(rows):
            above, own, below = near[m % 3], near[(m + 1) % 3], near[(m + 2) % 3]
            share_above, share_below = outputs[1, m - 1] if m > 0 else _ZERO, _ZERO
            if m + 1 < rows:
                share_below = outputs[0, m + 1]
                _light_row(shown[n, m + 1], gain[m + 1], below)
            row = out[n, m]
            for k in range(columns):
                seen[k + 1] = own[k] + share_below * below[k] + share_above * above[k]
            for k in range(columns):
                row[k] = seen[k + 1] * inputs[0, k] + seen[k + 2] * after[k] + seen[k] * before[k]


@inline
def _light_row(shown: Array, gain: Array, out: Array) -> None:
    for k in range(len(out)):
        out[k] = shown[k] * gain[k]


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
