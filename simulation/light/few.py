"""Products of a few vectors, in one compiled call that reads each matrix once.

For one token, reading matrices is what costs, and calls of Python are: a call for each step of a product takes longer
than the products of a layer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.checksums import add_words
from groundwork.compiled import inline, summing_kernel
from simulation.light.detection import FEW_COUNTS, Outputs, Products, Reading, detect
from simulation.light.preparing import prepare
from simulation.light.showing import Shown, bytes_of

Array = Any  # numba compiles these for the types it meets

FEW_ROWS = 4
"""Vectors of each matrix up to which a product is bound by reading it."""
ENOUGH = 16 * float(FEW_COUNTS)
"""Mean counts of a row from which on its outputs can be taken to have more than `FEW_COUNTS`, all but a few."""
BYTE_ERROR = 0.005
"""Largest expected error of a row's shot-noise variance for which magnitudes are multiplied as bytes: 0.25 % of σ."""
BYTE = 127
"""The largest magnitude of a byte product's operands."""

READ, CHANGED, UNKNOWN = 0.0, 1.0, 2.0
"""What became of a product: it was computed; its matrix is another by now; a vector has numbers that are not finite."""

_f32, _i32 = np.float32, np.int32
_ZERO, _ONE = _f32(0), _f32(1)


class Live(NamedTuple):
    """What a matrix was shown of, as it lies in memory now.

    Attributes
    ----------
    words
        (L, W) uint64, see `groundwork.checksums.sum_of_words`.
    total
        Their sum when it was shown.
    """

    words: Array
    total: np.uint64


NOT_LOOKED_AT = Live(np.empty((0, 0), np.uint64), np.uint64(0))
"""Of a matrix that is new."""


class Held(NamedTuple):
    """`simulation.light.weights.Weights` in arrays.

    Attributes
    ----------
    signed, light
        (U, M, K) float32.
    which
        (B,) int64: which of them each matrix is.
    values
        (M, K) int8 of the only matrix, its light in steps; (0, K) if there are none.
    steps
        (4,) float64: the step, the mean of the values, and variances of their deviations from the mean of each row and
        of their rounding.
    brightness, mean_light, lone, planes, scatter
        As of the same.
    nothing
        (B, M) zeros.
    """

    signed: Array
    light: Array
    which: Array
    values: Array
    steps: Array
    brightness: Array
    mean_light: Array
    lone: Array
    planes: Array
    scatter: Array
    nothing: Array


class Placed(NamedTuple):
    """`simulation.light.weights.Placement` in arrays, by the same names."""

    rows: Array
    columns: Array
    taps: Array
    stray: Array


@summing_kernel
def multiply_at_once(
    vectors: Array, live: Live, held: Held, placed: Placed, unit: Array, panel: Any, light: Any, keys: Array,
    added: Any, y: Array,
) -> Any:  # fmt: skip
    """Multiply ``vectors`` (B·n, K) on the bench by matrices (B, M, K): ``y`` (B·n, M).

    Parameters
    ----------
    live
        What the matrix was shown of; without words nobody looks.
    unit
        (B,) the weight that full transmission stands for.
    panel, light
        Levels of the display, and the magnitude at which vectors are clipped; `simulation.light.counting.Exposure`, and
        the flicker of a frame.
    keys
        (2, 4) uint32, of the last product and of this one.
    added
        (M,) bias; step and limit of the results, float32.

    Returns
    -------
    What became of it; `simulation.light.counting.Expected.columns` and ``electrons``; column tiles that were shown, and
    electrons that were detected.
    """
    (n, k), tiles = vectors.shape, len(placed.columns) - 1
    if not _is_finite(vectors):
        return UNKNOWN, 0.0, 0.0, 0.0, 0.0
    shown, products = _dark(n, k, tiles)
    gathered, counted = np.empty(n, np.float32), np.zeros(n)
    flicker = np.zeros((n, len(placed.rows) - 1, 3), np.float32)
    matrices = unit, held.brightness, held.planes, held.scatter
    columns, electrons, fewest, _ = prepare(
        vectors, placed.columns, panel, light[0], matrices, light[1], keys[0], shown, products, (gathered, flicker)
    )
    outputs = Outputs(held.mean_light, held.lone, held.nothing, added[0], placed.stray, placed.taps, placed.rows)
    reading = Reading(fewest == np.inf, False, added[1], added[2])
    is_same, in_bytes = True, False
    seen = np.empty(y.shape if fewest != np.inf else (0, 0), np.float32)
    if fewest != np.inf and fewest >= ENOUGH and len(held.values) > 0:
        step = _f32(max(np.float64(_largest(shown.bright)), 1e-30) / BYTE)
        rounded, (unit_of_light, mean, spread, rounding) = np.empty((n, k), np.int8), held.steps
        errors = np.empty(n)
        bytes_of(0, n, shown.bright, step, rounded, products.even_light, errors, (mean, spread, rounding))
        in_bytes = errors.max() <= BYTE_ERROR**2
        if in_bytes:
            products.light_unit[:] = _f32(step * _f32(unit_of_light))
            is_same = _read_bytes(shown.signed, held.signed[0], y, rounded, held.values, seen, live)
        else:
            products.even_light[:] = _ZERO
    if not in_bytes:
        products.light_unit[:] = _ONE
        is_same = _read_floats(shown.signed, held.signed, y, shown.bright, held.light, seen, held.which, live)
    if is_same:
        detect(0, n, y, seen, products, outputs, reading, flicker, keys[1], counted)
    lit, detected = _added_up(shown.sums, counted)
    return (READ if is_same else CHANGED), columns, electrons, lit, detected


@inline
def _dark(n: int, k: int, tiles: int) -> Any:
    """Room for n vectors that are shown, and for what is known of their products."""
    z, scale, sums = np.zeros((8, n), np.float32), np.zeros((n, 3), np.float32), np.zeros((3, 2, n), np.float32)
    signed, bright = np.empty((n, k), np.float32), np.empty((n, k), np.float32)
    shown = Shown(signed, bright, scale, np.zeros((n, 2, tiles), np.float32), sums)
    return shown, Products(z[0], z[1], z[2], z[3], z[4], z[5], z[6], z[7])


@inline
def _added_up(sums: Array, counted: Array) -> Any:
    lit, detected = 0.0, 0.0
    for n in range(len(counted)):
        lit += sums[2, 0, n] + sums[2, 1, n]
        detected += counted[n]
    return lit, detected


@inline
def _is_finite(vectors: Array) -> bool:
    total = _ZERO
    for n in range(len(vectors)):
        for k in range(vectors.shape[1]):
            total += vectors[n, k]
    return bool(np.isfinite(total))  # sums of finite numbers that overflow go the slow way, where each is looked at


@inline
def _largest(bright: Array) -> np.float32:
    """Of numbers that are not negative; as whole numbers, which are compared many at once."""
    found = _i32(0)
    for n in range(len(bright)):
        for k in range(bright.shape[1]):
            found = max(found, _f32(bright[n, k]).view(_i32))
    return _i32(found).view(_f32)


@inline
def _read_bytes(x: Array, matrix: Array, y: Array, lit: Array, values: Array, seen: Array, live: Live) -> bool:
    """Products ``y`` (n, M) by a ``matrix`` (M, K), and ``seen`` (n, M) by its ``values``; is it still the same?"""
    total, line = np.uint64(0), 0
    for m in range(len(matrix)):
        row, value = matrix[m], values[m]
        for n in range(len(x)):
            vector, dot = x[n], _ZERO
            for k in range(len(row)):
                dot += row[k] * vector[k]
            y[n, m] = dot
            whole, sum_of_bytes = lit[n], _i32(0)
            for k in range(len(value)):
                sum_of_bytes += _i32(value[k]) * _i32(whole[k])
            seen[n, m] = _f32(sum_of_bytes)
        while line < (m + 1) * len(live.words) // len(matrix):
            total = add_words(live.words[line], total)
            line += 1
    return len(live.words) == 0 or total == live.total


@inline
def _read_floats(
    x: Array, matrices: Array, y: Array, lit: Array, light: Array, seen: Array, which: Array, live: Live
) -> bool:
    """The same by ``matrices`` (U, M, K), ``which`` each is; and by ``light`` where there is room for it."""
    total, line, each, outputs = np.uint64(0), 0, len(x) // len(which), matrices.shape[1]
    for b in range(len(which)):
        for m in range(outputs):
            row, bright = matrices[which[b], m], light[which[b], m]
            for n in range(b * each, (b + 1) * each):
                vector, dot = x[n], _ZERO
                for k in range(len(row)):
                    dot += row[k] * vector[k]
                y[n, m] = dot
            for n in range(b * each, (b + 1) * each if len(seen) else 0):
                vector, dot = lit[n], _ZERO
                for k in range(len(bright)):
                    dot += bright[k] * vector[k]
                seen[n, m] = dot
            while line < (b * outputs + m + 1) * len(live.words) // (len(which) * outputs):
                total = add_words(live.words[line], total)
                line += 1
    return len(live.words) == 0 or total == live.total
