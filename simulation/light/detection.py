"""From light to counts to numbers, in compiled loops: shot noise, read noise, flicker, crosstalk undone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from groundwork.compiled import inline, summing_kernel
from groundwork.random_numbers import threefry
from simulation.light.randomness import fill_normal, poisson

Array = Any  # numba compiles these for the types it meets

FEW_COUNTS = np.float32(32.0)
"""Outputs that expect fewer counts than this are drawn as two Poisson counts. From here on one normal deviate is
bent to the law's skewness and kurtosis (Cornish and Fisher) and rounded to a whole count: its distribution function is
then nowhere more than 7e-4 from the exact one (4.7e-2 for a plain normal deviate)."""
VISIBLE_LATTICE = np.float32(0.25)
"""Read noise [e-²] above which whole electrons can no longer be told apart, and counts need not be whole."""

_f32, _i32, _u32 = np.float32, np.int32, np.uint32
_HALF, _ZERO, _ONE = _f32(0.5), _f32(0), _f32(1)
_INFINITY = _i32(0x7F800000)  # bits of a float


class Products(NamedTuple):
    """What each of n products needs on the way from light to a number; (n,) float32 each.

    Products of one matrix follow one another, as many of each.

    Attributes
    ----------
    electrons
        Detected electrons per unit of signal [e-]; 0 where there is no shot noise.
    light_unit
        What one unit of ``light`` is in units of signal.
    even_light
        Light that all elements of the vector have in common: it is multiplied by `Outputs.mean_light` and added.
    read
        Read noise of each output [e-²].
    unit
        What one unit of signal is in the result.
    term
        A number added to every output of the result.
    factor
        What `Outputs.digital` is multiplied by before it is added to the result.
    sign
        +1 if only the pass of positive inputs was shown, −1 if only that of negative ones, 0 if both or neither.
    """

    electrons: Array
    light_unit: Array
    even_light: Array
    read: Array
    unit: Array
    term: Array
    factor: Array
    sign: Array


class Outputs(NamedTuple):
    """What each of the M outputs of B matrices adds.

    Attributes
    ----------
    mean_light
        (B, M) light of the output's macropixels, mean over the inputs.
    lone
        (B, M) counts, in units of signal, that a single input pass adds even where the input is zero, because the
        darkest level of the panel still transmits (finite extinction). With both passes shown it cancels.
    digital
        (B, M) a digital sum, see `Products.factor`.
    bias
        (M,) added to the result.
    stray
        (M,) light that the source sends past the modulators in one frame, in units of signal.
    taps
        (2r + 1, M) by which each output's neighbours are weighted to undo the crosstalk.
    tiles
        (R + 1,) first output of each row tile.
    """

    mean_light: Array
    lone: Array
    digital: Array
    bias: Array
    stray: Array
    taps: Array
    tiles: Array


class Reading(NamedTuple):
    """How a reading becomes a number.

    Attributes
    ----------
    rank_one
        The light of all passes is ``even_light`` times ``mean_light``; ``light`` is not read.
    one_sided
        All passes count with the same sign (offset encoding): one Poisson count.
    step, limit
        Rounding of the result and its largest size, float32; 0: neither.
    """

    rank_one: bool
    one_sided: bool
    step: np.float32
    limit: np.float32


@summing_kernel
def detect(
    first: int,
    stop: int,
    signal: Array,
    light: Array,
    products: Products,
    outputs: Outputs,
    reading: Reading,
    flicker: Array,
    key: Array,
    electrons: Array,
) -> None:
    """Turn light into counts and counts into numbers, in place.

    Parameters
    ----------
    first, stop
        The products that are looked at, of all n.
    signal
        (n, M): expectation of the signed sum of passes in units of full transmission; on return, the numbers.
    light
        (n, M): what all passes detect together, in units of `Products.light_unit`.
    flicker
        (n, R, 3) relative excess light of the passes that count positive and negative; and of the light past the
        modulators, the frames that count negative subtracted.
    key
        (4,) uint32: two words of the layer's key, the number of the call for the first matrix, 0.
    electrons
        (n,) float64, out: detected electrons of all outputs and passes.
    """
    m = signal.shape[1]
    all_electrons, light_unit, even_light, all_read, unit, term, factor, signs = products
    bias, stray, taps, tiles = outputs.bias, outputs.stray, outputs.taps, outputs.tiles
    even = m + (m & 1)
    z, other = np.empty(even, np.float32), np.zeros(even, np.float32)
    counts = np.empty(m, np.float32)
    padded = np.zeros(m + len(taps) - 1, np.float32)
    half, each = _u32(even // 2), len(signal) // len(outputs.lone)
    flickers = np.any(flicker[first:stop])
    for matrix in range(first // max(each, 1), len(outputs.lone)):
        mean_light, lone, digital = outputs.mean_light[matrix], outputs.lone[matrix], outputs.digital[matrix]
        streams = _u32(_u32(key[2] + _u32(matrix)) << _u32(2))
        for n in range(max(first, matrix * each), min(stop, (matrix + 1) * each)):
            row, read, has_shot = signal[n], all_read[n], all_electrons[n] > _ZERO
            if has_shot or read > _ZERO:
                e = all_electrons[n] if has_shot else _ONE
                scales = light_unit[n], even_light[n], e
                electrons[n], fewest = _expect(light, n, mean_light, reading.rank_one, scales, counts)
                if not has_shot:
                    counts[:] = _ZERO
                    fewest = FEW_COUNTS
                if flickers:
                    _flicker(row, counts, flicker, n, tiles, _ONE / e)
                counter = _u32(_u32(n - matrix * each) * half)
                fill_normal(z, key[0], key[1], counter, streams)
                lattice = read < VISIBLE_LATTICE and has_shot
                if read > _ZERO and (lattice or fewest < FEW_COUNTS):
                    fill_normal(other, key[0], key[1], counter, streams | _u32(1))
                known = e, read, signs[n], reading.one_sided
                if fewest < FEW_COUNTS:
                    _draw_few(row, counts, lone, (z, other), known, (key[0], key[1], counter, streams))
                elif lattice:
                    _draw_whole(row, counts, lone, (z, other), known)
                else:
                    _draw_smooth(row, counts, lone, z, known, _ONE if has_shot else _ZERO)
                if flickers:
                    _add_stray(row, flicker, n, stray, tiles)
            if len(taps) > 1:
                _undo_crosstalk(row, taps, padded)
            _convert(row, (unit[n], term[n], factor[n]), digital, bias, reading.step, reading.limit)


@inline
def _expect(light: Array, n: int, mean_light: Array, rank_one: bool, scales: Any, counts: Array) -> Any:
    """Expected ``counts`` (M,) of product n, all passes together; returns their sum and the smallest."""
    light_unit, even_light, e = scales
    if rank_one:
        for i in range(len(counts)):
            counts[i] = even_light * mean_light[i] * e
    else:
        for i in range(len(counts)):
            counts[i] = (_f32(light[n, i]) * light_unit + even_light * mean_light[i]) * e
    least, total = _INFINITY, _ZERO
    for i in range(len(counts)):
        counts[i] = max(counts[i], _ZERO)
        least = min(least, _f32(counts[i]).view(_i32))
        total += counts[i]
    return total, _i32(least).view(_f32)


@inline
def _flicker(row: Array, counts: Array, flicker: Array, n: int, tiles: Array, inverse_e: np.float32) -> None:
    """Brighten the passes of each row tile that count positive and those that count negative, each by its own."""
    for t in range(len(tiles) - 1):
        up, down = flicker[n, t, 0], flicker[n, t, 1]
        if up != _ZERO or down != _ZERO:
            part, light_e = row[tiles[t] : tiles[t + 1]], counts[tiles[t] : tiles[t + 1]]
            for i in range(len(part)):
                bright, signed = light_e[i] * inverse_e, part[i]
                part[i] = signed + _HALF * (up * (bright + signed) - down * (bright - signed))


@inline
def bent(z: np.float32, mean: np.float32, sigma: np.float32, skewness: np.float32, fourth: np.float32) -> Any:
    """A normal deviate with a third cumulant ``skewness·σ³`` and a fourth ``fourth·σ⁴`` (Cornish and Fisher)."""
    square = z * z
    tail = fourth * _f32(1 / 24) * (square - _f32(3)) - skewness * skewness * _f32(1 / 36) * (
        _f32(2) * square - _f32(5)
    )
    return mean + sigma * (z + skewness * _f32(1 / 6) * (square - _ONE) + z * tail)


@summing_kernel
def _draw_few(row: Array, counts: Array, lone: Array, deviates: Any, known: Any, counter: Any) -> None:
    """Draw a row that has few counts somewhere: outputs with few as two Poisson counts, the others as `_draw_whole`."""
    (z, other), (e, read, sign, one_sided), (k0, k1, first, streams) = deviates, known, counter
    apart = np.sqrt(read)
    for i in range(len(row)):
        mean = row[i] * e
        third = counts[i] if one_sided else mean + sign * lone[i] * e
        if counts[i] < FEW_COUNTS:
            up, down = threefry(k0, k1, _u32(_u32(2) * first + _u32(i)), streams | _u32(2))
            plus = max(np.float64(_HALF * (counts[i] + third)), 0.0)
            minus = max(np.float64(_HALF * (counts[i] - third)), 0.0)
            whole = _f32(poisson(plus, up) - poisson(minus, down))
        else:
            variance = counts[i] + _f32(1 / 12)
            root = _ONE / np.sqrt(variance)
            square = root * root
            fourth = (counts[i] - _f32(1 / 120)) * square * square
            whole = np.floor(bent(z[i], third, variance * root, third * square * root, fourth) + _HALF)
        row[i] = (whole - third + mean + apart * other[i]) / e


@inline
def _draw_whole(row: Array, counts: Array, lone: Array, deviates: Any, known: Any) -> None:
    """Draw a row of many counts as whole counts, with read noise that is too small to hide that they are whole."""
    (z, other), (e, read, sign, one_sided) = deviates, known
    inverse_e, apart = _ONE / e, np.sqrt(read)
    for i in range(len(row)):
        mean = row[i] * e
        third = counts[i] if one_sided else mean + sign * lone[i] * e
        variance = counts[i] + _f32(1 / 12)  # with the uniform distribution that rounding takes away
        root = _ONE / np.sqrt(variance)
        square = root * root
        fourth = (counts[i] - _f32(1 / 120)) * square * square
        whole = np.floor(bent(z[i], third, variance * root, third * square * root, fourth) + _HALF)
        row[i] = (whole - third + mean) * inverse_e
    if apart > _ZERO:
        for i in range(len(row)):
            row[i] += apart * inverse_e * other[i]


@inline
def _draw_smooth(row: Array, counts: Array, lone: Array, z: Array, known: Any, shot: np.float32) -> None:
    """Draw a row of many counts under read noise that hides that they are whole: one deviate for both."""
    e, read, sign, one_sided = known
    inverse_e = _ONE / e
    for i in range(len(row)):
        mean = row[i] * e
        third = shot * (counts[i] if one_sided else mean + sign * lone[i] * e)
        variance = max(counts[i] + read, _f32(1e-30))
        root = _ONE / np.sqrt(variance)
        square = root * root
        row[i] = inverse_e * bent(z[i], mean, variance * root, third * square * root, counts[i] * square * square)


@inline
def _add_stray(row: Array, flicker: Array, n: int, stray: Array, tiles: Array) -> None:
    """Add what flicker makes of the light past the modulators."""
    for t in range(len(tiles) - 1):
        excess = flicker[n, t, 2]
        if excess != _ZERO:
            part, past = row[tiles[t] : tiles[t + 1]], stray[tiles[t] : tiles[t + 1]]
            for i in range(len(part)):
                part[i] += excess * past[i]


@summing_kernel
def _undo_crosstalk(row: Array, taps: Array, padded: Array) -> None:
    """Replace each output by the weighted sum of its neighbours; ``padded`` (M + 2r,) is scratch with a dark rim."""
    m, radius = len(row), len(taps) // 2
    padded[radius : radius + m] = row
    row[:] = _ZERO
    for j in range(len(taps)):
        tap, near = taps[j], padded[j : j + m]
        for i in range(m):
            row[i] += tap[i] * near[i]


@inline
def _convert(row: Array, terms: Any, digital: Array, bias: Array, step: np.float32, limit: np.float32) -> None:
    """Scale the readings, add what is digital, and round as the converters do."""
    unit, term, factor = terms
    for i in range(len(row)):
        row[i] = row[i] * unit + (term + factor * digital[i] + bias[i])
    if step > _ZERO:
        inverse_step = _ONE / step
        top = np.floor(limit * inverse_step + _HALF)
        for i in range(len(row)):
            row[i] = min(max(np.floor(row[i] * inverse_step + _HALF), -top), top) * step
