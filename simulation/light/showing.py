"""From numbers to what the display shows, in compiled loops: levels, passes, and the light that they send."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.compiled import inline, rounding_kernel, summing_kernel

Array = Any  # numba compiles these for the types it meets

LEVEL_CELLS = 1 << 14
"""Cells of the root of a transmission, in each of which one level is nearest, or a search starts."""

CHUNK = 4096
"""Operands that are shown together, so that what is computed of them stays near."""

_f32, _i32, _u32, _i64 = np.float32, np.int32, np.uint32, np.int64
_HALF, _ZERO, _ONE = _f32(0.5), _f32(0), _f32(1)
_UNIT = _f32(1 << 28)  # whole numbers in full transmission, which still fits into 32 bits
_SIGN, _INFINITY, _NORMAL = _i32(-(1 << 31)), _i32(0x7F800000), _i32(0x00800000)  # bits of floats


class Levels(NamedTuple):
    """The transmissions that a panel can give, ready for `look_up`.

    Attributes
    ----------
    floor
        Transmission of the darkest level, as the calibration has it [1], float32.
    table
        (LEVEL_CELLS,) float32: the transmission of each cell; −1 − (first level to look at) where a midpoint between
        two levels lies in the cell. Empty if levels lie evenly, or form a continuum.
    midpoints
        (L,) float32 between neighbouring levels, the last one infinite.
    shown
        (L,) float32 transmissions that the levels really give.
    """

    floor: np.float32
    table: Array
    midpoints: Array
    shown: Array


class Shown(NamedTuple):
    """Vectors on the display, in Q input passes and T column tiles; float32.

    Attributes
    ----------
    signed
        (n, K): difference of the plus and the minus pass, in units of the vector's scale, without the light that the
        darkest level lets through.
    bright
        (n, K): transmissions of all passes together; (0, K) where nobody asks for them.
    scale
        (n, 3): the largest magnitude of the vector, and the scales of its plus and its minus pass relative to it.
    light
        (n, Q, T): sum of the transmissions of each pass on each column tile; 0 of a pass that is dark and is skipped.
    sums
        (3, Q, n): light, columns and tiles that are shown, of each pass.
    """

    signed: Array
    bright: Array
    scale: Array
    light: Array
    sums: Array


@summing_kernel
def split_signs(
    first: int, stop: int, x: Array, edges: Array, levels: Levels, per_pass: bool, limit: np.float32, shown: Shown
) -> None:
    """Show vectors as two passes of the display: one of their positive, one of their negative elements.

    Parameters
    ----------
    first, stop
        The vectors that are shown, of all n.
    x
        (n, K) float32.
    edges
        (T + 1,) int64, first column of each column tile.
    levels
        Of the display.
    per_pass
        Each pass is shown on the scale of its own maximum, as in the paper; else both on that of the whole vector.
    limit
        Magnitude at which ``x`` is clipped.
    shown
        Out; nothing is kept of ``bright`` where there is no room for it.

    Notes
    -----
    A vector with a NaN, or with an infinity that is not clipped, is dark and all of its ``signed`` is NaN.
    """
    signed, brights, scale, light, sums = shown
    keep, spare = len(brights) == len(x), np.empty((1, x.shape[1]), np.float32)
    target, cell = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.int32)
    tiles = len(edges) - 1
    highs, lows = np.empty(tiles, np.int32), np.empty(tiles, np.int32)
    for n in range(first, stop):
        sums[:, :, n] = _ZERO
        bright = brights[n] if keep else spare[0]
        highest, lowest = _i32(0), _i32(0)
        for t in range(tiles):
            highs[t], lows[t] = _peaks(x[n, edges[t] : edges[t + 1]])
            highest, lowest = max(highest, highs[t]), max(lowest, lows[t])
        known = max(highest, lowest) <= _INFINITY
        high, low = min(_i32(highest).view(_f32), limit), min(_i32(lowest).view(_f32), limit)
        peak = max(high, low)
        if not known or peak == _f32(np.inf):
            signed[n], scale[n], light[n] = _f32(np.nan), _ZERO, _ZERO
            bright[:] = _ZERO
            continue
        if not per_pass:
            high = low = peak
        inverse = _ONE / peak if peak > _ZERO else _ZERO
        scales = high * inverse, low * inverse
        scale[n, 0], scale[n, 1], scale[n, 2] = peak, scales[0], scales[1]
        plus_inverse = _ONE / high if high > _ZERO else _ZERO
        minus_inverse = _ONE / low if low > _ZERO else _ZERO
        _targets(x[n], plus_inverse, minus_inverse, levels.floor, target)
        look_up(target, cell, levels, bright)
        for t in range(tiles):
            k = slice(edges[t], edges[t + 1])
            lit = highs[t] > 0, lows[t] > 0
            passes = _by_pass(x[n, k], lit, scales, (levels.shown[0], levels.floor), signed[n, k], bright[k])
            for q in range(2):
                is_lit = lit[1] if q else lit[0]
                light[n, q, t] = passes[q] if is_lit else _ZERO
                sums[0, q, n] += light[n, q, t]
                sums[1, q, n] += _f32(edges[t + 1] - edges[t]) if is_lit else _ZERO
                sums[2, q, n] += _ONE if is_lit else _ZERO


@inline
def _by_pass(row: Array, lit: Any, scales: Any, darkness: Any, signed: Array, bright: Array) -> Any:
    """Turn the transmissions ``bright`` of one column tile into operands; returns the light of each pass.

    A pass without a positive element is dark and is skipped: the light of its dark pixels is then not there, but known.
    """
    if not (lit[0] or lit[1]):
        signed[:] = _ZERO
        bright[:] = _ZERO
        return _ZERO, _ZERO
    both = lit[0] and lit[1]
    dark, floor = darkness
    base = dark if both else floor  # what the other pass shows, or is known to show where it is skipped
    extra = dark if both else _ZERO
    return _signs(row, scales[0], scales[1], lit[0], base, extra, signed, bright)


@summing_kernel
def look_up(target: Array, cell: Array, levels: Levels, out: Array) -> None:
    """Find the transmissions (k,) of the levels that are nearest to ``target`` (k,); ``cell`` (k,) int32 is scratch.

    In most cells of the table one level is nearest throughout; in the others the midpoints between levels are searched.
    Levels that lie evenly are found by rounding, without a table; a single one stands for a continuum. All cells are
    computed before any is looked up, because processors do that for many at once. A NaN gives some level, never one
    beyond the table.
    """
    shown = levels.shown
    if len(levels.table) == 0:
        step = shown[1] - shown[0] if len(shown) > 1 else _ZERO
        inverse = _ONE / step if step > _ZERO else _ZERO
        for k in range(len(target)):
            level = np.floor((target[k] - shown[0]) * inverse + _HALF)
            out[k] = shown[0] + step * level if step > _ZERO else target[k]
        return
    table, midpoints = levels.table, levels.midpoints
    for k in range(len(target)):
        cell[k] = _i32(np.sqrt(target[k]) * _f32(LEVEL_CELLS - 1)) & _i32(LEVEL_CELLS - 1)
    for k in range(len(target)):
        d = table[_u32(cell[k])]
        if d < _ZERO:
            level = _u32(_i32(-d) - 1)
            while target[k] > midpoints[level]:
                level = _u32(level + 1)
            d = shown[level]
        out[k] = d


@rounding_kernel
def show_operands(operands: Array, factor: Array, span: np.float32, levels: Levels, out: Array) -> None:
    """Transmissions ``out`` (R, N) that a panel gives for ``operands`` (R, N), clipped to 0 … 1, on its ``span``.

    ``factor`` (N,) multiplies each row first; (0,): nothing does.
    """
    target, cell = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.int32)
    for r in range(len(operands)):
        for start in range(0, operands.shape[1], CHUNK):
            part, into = operands[r, start : start + CHUNK], target[: len(operands[r, start : start + CHUNK])]
            near = factor[start : start + CHUNK]
            for k in range(len(part)):
                operand = part[k] * near[k] if len(factor) else part[k]
                into[k] = levels.floor + span * min(max(operand, _ZERO), _ONE)
            look_up(into, cell, levels, out[r, start : start + CHUNK])


@summing_kernel
def _peaks(row: Array) -> tuple[np.int32, np.int32]:
    """Bits of the largest positive and negative part; as whole numbers, which are compared many at once.

    Subnormal parts, on whose scale nothing can be shown, are dark.
    """
    high, low = _i32(0), _i32(0)
    for k in range(len(row)):
        bits = _f32(row[k]).view(_i32)
        high, low = max(high, bits), max(low, _i32(bits ^ _SIGN))
    return (high if high >= _NORMAL else _i32(0)), (low if low >= _NORMAL else _i32(0))


@summing_kernel
def _targets(row: Array, plus: np.float32, minus: np.float32, floor: np.float32, target: Array) -> None:
    span = _ONE - floor
    for k in range(len(row)):
        target[k] = min(floor + span * max(row[k] * plus, -row[k] * minus), _ONE)


@summing_kernel
def _signs(
    row: Array,
    plus: np.float32,
    minus: np.float32,
    lit_plus: bool,
    base: np.float32,
    extra: np.float32,
    signed: Array,
    bright: Array,
) -> tuple[np.float32, np.float32]:
    """Transmissions in ``bright`` to signed operands and the sum of both passes; returns the light of each pass.

    Light is added up in whole numbers, which any order leaves the same: this loop becomes part of several others, and
    which copy runs depends on whether they were compiled in this process.
    """
    sum_plus, sum_minus, whole_extra = _i64(0), _i64(0), _i64(extra * _UNIT)
    for k in range(len(row)):
        d, positive = bright[k], lit_plus & (row[k] >= _ZERO)
        signed[k] = (d - base) * (plus if positive else -minus)
        bright[k] = d + extra
        whole = _i64(_i32(d * _UNIT))
        sum_plus += whole if positive else whole_extra
        sum_minus += whole_extra if positive else whole
    return _f32(sum_plus) / _UNIT, _f32(sum_minus) / _UNIT


@summing_kernel
def weigh_passes(signed: Array, bright: Array, weight: Array) -> None:
    """Scale ``bright`` (n, K) by ``weight`` (2, n) of the pass in which each element was shown."""
    for n in range(len(signed)):
        plus, minus = weight[0, n], weight[1, n]
        for k in range(signed.shape[1]):
            bright[n, k] *= minus if signed[n, k] < _ZERO else plus


@summing_kernel
def light_of_passes(first: int, stop: int, signed: Array, bright: Array, columns: Array, out: Array) -> None:
    """Light of each pass past a matrix whose elements transmit ``columns`` (B, K) in the mean: ``out`` (2, n).

    Of the vectors from ``first`` to ``stop``.
    """
    each = len(signed) // len(columns)
    for n in range(first, stop):
        column, plus, minus = columns[n // each], _ZERO, _ZERO
        for k in range(signed.shape[1]):
            light = bright[n, k] * column[k]
            plus += _ZERO if signed[n, k] < _ZERO else light
            minus += light if signed[n, k] < _ZERO else _ZERO
        out[0, n], out[1, n] = plus, minus


@summing_kernel
def column_light(first: int, stop: int, signed: Array, bright: Array, out: Array) -> None:
    """Add the light ``bright`` (n, K) of the vectors of each matrix up, by the pass that shows it: ``out`` (B, 2, K).

    Of the matrices from ``first`` to ``stop``.
    """
    each = len(signed) // len(out)
    for n in range(first * each, stop * each):
        plus, minus = out[n // each, 0], out[n // each, 1]
        for k in range(signed.shape[1]):
            plus[k] += bright[n, k] if signed[n, k] > _ZERO else _ZERO
            minus[k] += bright[n, k] if signed[n, k] < _ZERO else _ZERO


@summing_kernel
def round_bytes(
    first: int, stop: int, bright: Array, step: np.float32, out: Array, rests: Array, errors: Array, matrix: Any
) -> None:
    """``bright`` (n, K) ≥ 0 in bytes of ``step``, from vector ``first`` to ``stop``.

    ``rests`` (n,), out: Σ of what rounding takes away. ``errors`` (n,) float64, out: the largest expected relative
    error of each vector's products, squared. ``matrix``: mean of the other operand, and variances of its deviations
    from the mean of each row and of its own rounding.
    """
    bytes_of(first, stop, bright, step, out, rests, errors, matrix)


@inline
def bytes_of(
    first: int, stop: int, bright: Array, step: np.float32, out: Array, rests: Array, errors: Array, matrix: Any
) -> None:
    """`round_bytes` as a part of another loop, whose sums are then the same in whichever process it was compiled."""
    inverse, (mean, spread, rounding) = _ONE / step, matrix
    for n in range(first, stop):
        total, rest, squares, power = _ZERO, _ZERO, _ZERO, _ZERO
        for k in range(bright.shape[1]):
            value = bright[n, k] * inverse
            whole = np.floor(value + _HALF)
            out[n, k] = np.int8(_i32(whole))
            error = value - whole
            total += value
            rest += error
            squares += error * error
            power += value * value
        rests[n] = rest * step
        errors[n] = (squares * spread + power * rounding) / max(total * mean, 1e-15) ** 2


@summing_kernel
def multiply_few(vectors: Array, matrix: Array, out: Array) -> None:
    """A few ``vectors`` (n, K) by a ``matrix`` (M, K), which is read once: ``out`` (n, M)."""
    for m in range(len(matrix)):
        row = matrix[m]
        for n in range(len(vectors)):
            vector, total = vectors[n], _ZERO
            for k in range(len(row)):
                total += row[k] * vector[k]
            out[n, m] = total
