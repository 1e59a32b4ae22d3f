"""The two loops around a folded product: operands to what the panels show, and light to counts to numbers."""

from __future__ import annotations

from typing import Any

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
LEVEL_CELLS = 1 << 14
"""Cells of the root of a transmission, in each of which one level is nearest, or a search starts."""

_f32, _i32, _u32 = np.float32, np.int32, np.uint32
_HALF, _ZERO, _ONE = _f32(0.5), _f32(0), _f32(1)
_SIGN, _INFINITY = _i32(-(1 << 31)), _i32(0x7F800000)  # bits of floats


@summing_kernel
def _peaks(row: Array) -> tuple[np.int32, np.int32]:
    """Bits of the largest positive and negative part; as whole numbers, which are compared many at once."""
    high, low = _i32(0), _i32(0)
    for k in range(len(row)):
        bits = _f32(row[k]).view(_i32)
        high, low = max(high, bits), max(low, _i32(bits ^ _SIGN))
    return high, low


@summing_kernel
def _targets(row: Array, plus: np.float32, minus: np.float32, floor: np.float32, target: Array) -> None:
    span = _ONE - floor
    for k in range(len(row)):
        target[k] = min(floor + span * max(row[k] * plus, -row[k] * minus), _ONE)


@summing_kernel
def look_up(target: Array, cell: Array, table: Array, midpoints: Array, shown: Array, out: Array) -> None:
    """Transmissions (k,) that the levels nearest to ``target`` (k,) give; ``cell`` (k,) int32 is scratch.

    From the table, or by search where a midpoint between two levels lies in the cell. Without a table levels lie
    evenly and are found by rounding; or a single one stands for a continuum. Cells first, by themselves, because
    processors do that for many at once. NaN is taken for any level, but never read beyond the table.
    """
    if len(table) == 0:
        step = shown[1] - shown[0] if len(shown) > 1 else _ZERO
        inverse = _ONE / step if step > _ZERO else _ZERO
        for k in range(len(target)):
            level = np.floor((target[k] - shown[0]) * inverse + _HALF)
            out[k] = shown[0] + step * level if step > _ZERO else target[k]
        return
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
    """Transmissions in ``bright`` to signed operands and the sum of both passes; returns the light of each pass."""
    sum_plus, sum_minus = _ZERO, _ZERO
    for k in range(len(row)):
        d, positive = bright[k], lit_plus & (row[k] >= _ZERO)
        signed[k] = (d - base) * (plus if positive else -minus)
        bright[k] = d + extra
        sum_plus += d if positive else extra
        sum_minus += extra if positive else d
    return sum_plus, sum_minus


@summing_kernel
def split_signs(
    x: Array,
    edges: Array,
    table: Array,
    midpoints: Array,
    shown: Array,
    floor: np.float32,
    per_pass: bool,
    limit: np.float32,
    signed: Array,
    lit: Array,
    scale: Array,
    light: Array,
    sums: Array,
) -> None:
    """Show vectors as a plus and a minus pass of the display.

    Parameters
    ----------
    x
        (n, K) float32.
    edges
        (T + 1,) int64, first column of each column tile.
    table, midpoints, shown, floor
        Of the display: `Panel`.
    per_pass
        Each pass on the scale of its own maximum, as in the paper; else both on the vector's.
    limit
        Magnitude at which ``x`` is clipped.
    signed
        (n, K), out: D₊ − D₋ in units of the vector's scale, floors removed.
    lit
        (n, K), out: D₊ + D₋ over the passes that are shown; or (1, K), if nobody asks for it.
    scale
        (n, 3), out: the vector's scale, and the plus and the minus pass' relative to it; 0 for what is dark.
    light
        (n, 2, T), out: Σ_k D of each pass and tile; 0 for a pass that is not shown.
    sums
        (3, 2, n), out: light, columns and tiles that are shown, of each pass.

    Notes
    -----
    A vector with a NaN, or with an infinity that is not clipped, is dark and all of its ``signed`` is NaN.
    """
    dark, keep = shown[0], len(lit) == len(x)
    target, cell = np.empty(x.shape[1], np.float32), np.empty(x.shape[1], np.int32)
    tiles = len(edges) - 1
    highs, lows = np.empty(tiles, np.int32), np.empty(tiles, np.int32)
    for n in range(len(x)):
        sums[:, :, n] = _ZERO
        bright = lit[n if keep else 0]
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
        plus, minus = high * inverse, low * inverse
        scale[n, 0], scale[n, 1], scale[n, 2] = peak, plus, minus
        plus_inverse = _ONE / high if high > _ZERO else _ZERO
        minus_inverse = _ONE / low if low > _ZERO else _ZERO
        _targets(x[n], plus_inverse, minus_inverse, floor, target)
        look_up(target, cell, table, midpoints, shown, bright)
        for t in range(tiles):
            k = slice(edges[t], edges[t + 1])
            lit_plus, lit_minus = highs[t] > 0, lows[t] > 0
            light[n, 0, t] = light[n, 1, t] = _ZERO
            if not (lit_plus or lit_minus):
                signed[n, k] = _ZERO
                bright[k] = _ZERO
                continue
            both = lit_plus and lit_minus
            base = dark if both else floor  # what the other pass shows, or what is known of a pass that is not shown
            extra = dark if both else _ZERO
            passes = _signs(x[n, k], plus, minus, lit_plus, base, extra, signed[n, k], bright[k])
            for q in range(2):
                if lit_minus if q else lit_plus:
                    light[n, q, t] = passes[q]
                    sums[0, q, n] += passes[q]
                    sums[1, q, n] += _f32(edges[t + 1] - edges[t])
                    sums[2, q, n] += _ONE


@summing_kernel
def weigh_passes(signed: Array, bright: Array, weight: Array) -> None:
    """Scale ``bright`` (n, K) by ``weight`` (2, n) of the pass in which each element was shown."""
    for n in range(len(signed)):
        plus, minus = weight[0, n], weight[1, n]
        for k in range(signed.shape[1]):
            bright[n, k] *= minus if signed[n, k] < _ZERO else plus


@summing_kernel
def column_light(signed: Array, bright: Array, out: Array) -> None:
    """Add the light ``bright`` (n, K) of vectors without floor up, by the pass that shows it: ``out`` (2, K)."""
    for n in range(len(signed)):
        for k in range(signed.shape[1]):
            out[0, k] += bright[n, k] if signed[n, k] > _ZERO else _ZERO
            out[1, k] += bright[n, k] if signed[n, k] < _ZERO else _ZERO


@summing_kernel
def squares_of_passes(signed: Array, edges: Array, out: Array) -> None:
    """Σ_k ``signed``² (n, K) of each pass and column tile between ``edges``: ``out`` (n, Q, T)."""
    for n in range(len(signed)):
        for t in range(len(edges) - 1):
            both, difference = _ZERO, _ZERO  # no maxima: those are not taken many at once, because of NaN
            row = signed[n, edges[t] : edges[t + 1]]
            for k in range(len(row)):
                both += row[k] * row[k]
                difference += row[k] * np.abs(row[k])
            if out.shape[1] == 1:
                out[n, 0, t] = both
            else:
                out[n, 0, t], out[n, 1, t] = _HALF * (both + difference), _HALF * (both - difference)


@summing_kernel
def flicker_of_frames(
    light: Array,
    squares: Array,
    planes: Array,
    scatter: Array,
    intensity: np.float32,
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
    intensity
        Relative rms of one frame.
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
    each = intensity * intensity / _f32(rows)
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
                    out[b, n, r, sign] *= intensity * share
                    uneven[b, n] += each * apart * max(_ONE - share * share, _ZERO)
                out[b, n, r, 2] = intensity * (offset + np.sqrt(rest) * out[b, n, r, 2])


@summing_kernel
def round_bytes(bright: Array, step: np.float32, out: Array, stats: Array) -> None:
    """``bright`` (n, K) ≥ 0 in bytes of ``step``.

    ``stats`` (n, 4), out, in steps: Σ bright, Σ rest, Σ rest², Σ bright², the rest being what rounding takes away.
    """
    inverse = _ONE / step
    for n in range(len(bright)):
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
        stats[n, 0], stats[n, 1], stats[n, 2], stats[n, 3] = total, rest, squares, power


@inline
def bent(z: np.float32, mean: np.float32, sigma: np.float32, skewness: np.float32, fourth: np.float32) -> Any:
    """A normal deviate with a third cumulant ``skewness·σ³`` and a fourth ``fourth·σ⁴`` (Cornish and Fisher)."""
    square = z * z
    tail = fourth * _f32(1 / 24) * (square - _f32(3)) - skewness * skewness * _f32(1 / 36) * (
        _f32(2) * square - _f32(5)
    )
    return mean + sigma * (z + skewness * _f32(1 / 6) * (square - _ONE) + z * tail)


@summing_kernel
def _few(
    row: Array,
    counts: Array,
    lone: Array,
    z: Array,
    other: Array,
    e: np.float32,
    read: np.float32,
    sign: np.float32,
    one_sided: bool,
    key: Array,
    first: np.uint32,
) -> None:
    """One row of `detect` with few counts: Poisson, output by output, where they are few."""
    stream = _u32(key[2] << _u32(2)) | _u32(2)
    apart = np.sqrt(read)
    for i in range(len(row)):
        mean = row[i] * e
        third = counts[i] if one_sided else mean + sign * lone[i] * e
        if counts[i] < FEW_COUNTS:
            up, down = threefry(key[0], key[1], _u32(_u32(2) * first + _u32(i)), stream)
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


@summing_kernel
def detect(
    signal: Array,
    light: Array,
    factors: Array,
    column: Array,
    rank_one: bool,
    one_sided: bool,
    tiles: Array,
    flicker: Array,
    taps: Array,
    add: Array,
    step: np.float32,
    limit: np.float32,
    key: Array,
    electrons: Array,
) -> None:
    """Light to counts to numbers, in place.

    Parameters
    ----------
    signal
        (n, M): expectation of the signed sum of passes in units of full transmission; on return, the numbers.
    light
        (n, M): what all passes detect together, in units of ``factors[:, 1]``; not read if ``rank_one``.
    factors
        (n, 8) float32: electrons per unit of signal (0: without shot noise); per unit of ``light`` the units of
        signal; a rank-one part of the light; read noise per output [e-²]; what one unit of signal is in the result;
        a term of the result; a factor of ``add[0]`` in the result; sign of the one pass that was shown.
    column
        (2, M): the rank-one part's factor; the light that a lone pass has beside the signal (finite extinction).
    one_sided
        All passes count with the same sign (offset encoding): one Poisson count.
    tiles
        (R + 1,) first row of each row tile.
    flicker
        (n, R, 3) relative intensity, less 1, of the passes that count positive and negative; and of the light past the
        modulators, the frames that count negative subtracted.
    taps
        (2r + 1, M) undoes the crosstalk: each output from its neighbours.
    add
        (3, M): see ``factors``; the bias; light past the modulators in one frame, in units of ``signal``.
    step, limit
        Rounding of the result and its largest size; 0: neither.
    key
        (4,) uint32: two words of the layer's key, the number of the call, 0.
    electrons
        (n,) float64, out: detected electrons of all outputs and passes.
    """
    rows, m = signal.shape
    radius = (len(taps) - 1) // 2
    even = m + (m & 1)
    z, other = np.empty(even, np.float32), np.zeros(even, np.float32)
    counts = np.empty(m, np.float32)
    padded = np.zeros(m + 2 * radius, np.float32)
    k0, k1 = key[0], key[1]
    streams = _u32(key[2] << _u32(2))
    half = _u32(even // 2)
    inverse_step = _ONE / step if step > _ZERO else _ZERO
    top = np.floor(limit * inverse_step + _HALF)
    for n in range(rows):
        row = signal[n]
        e, unit_light, rank, read = factors[n, 0], factors[n, 1], factors[n, 2], factors[n, 3]
        unit, term, factor, sign = factors[n, 4], factors[n, 5], factors[n, 6], factors[n, 7]
        if e > _ZERO or read > _ZERO:
            shot = _ONE if e > _ZERO else _ZERO
            e = e if e > _ZERO else _ONE
            inverse_e = _ONE / e
            first = _u32(_u32(n) * half)
            if rank_one:
                for i in range(m):
                    counts[i] = rank * column[0, i] * e
            else:
                for i in range(m):
                    counts[i] = (_f32(light[n, i]) * unit_light + rank * column[0, i]) * e
            least, total = _INFINITY, _ZERO
            for i in range(m):
                counts[i] = max(counts[i], _ZERO)
                least = min(least, _f32(counts[i]).view(_i32))
                total += counts[i]
            fewest = _i32(least).view(_f32)
            electrons[n] = total
            if factors[n, 0] <= _ZERO:
                for i in range(m):
                    counts[i] = _ZERO
                fewest = FEW_COUNTS
            for t in range(len(tiles) - 1):
                up, down = flicker[n, t, 0], flicker[n, t, 1]
                if up != _ZERO or down != _ZERO:
                    part, light_e = row[tiles[t] : tiles[t + 1]], counts[tiles[t] : tiles[t + 1]]
                    for i in range(len(part)):
                        bright, signed = light_e[i] * inverse_e, part[i]
                        part[i] = signed + _HALF * (up * (bright + signed) - down * (bright - signed))
            fill_normal(z, k0, k1, first, streams)
            lattice = read < VISIBLE_LATTICE and factors[n, 0] > _ZERO
            if read > _ZERO and (lattice or fewest < FEW_COUNTS):
                fill_normal(other, k0, k1, first, streams | _u32(1))
            if fewest < FEW_COUNTS:
                _few(row, counts, column[1], z, other, e, read, sign, one_sided, key, first)
            elif lattice:
                apart = np.sqrt(read)
                for i in range(m):
                    mean = row[i] * e
                    third = counts[i] if one_sided else mean + sign * column[1, i] * e
                    variance = counts[i] + _f32(1 / 12)  # with the uniform distribution that rounding takes away
                    root = _ONE / np.sqrt(variance)
                    square = root * root
                    whole = np.floor(
                        bent(
                            z[i],
                            third,
                            variance * root,
                            third * square * root,
                            (counts[i] - _f32(1 / 120)) * square * square,
                        )
                        + _HALF
                    )
                    row[i] = (whole - third + mean) * inverse_e
                if apart > _ZERO:
                    for i in range(m):
                        row[i] += apart * inverse_e * other[i]
            else:
                for i in range(m):
                    mean = row[i] * e
                    third = shot * (counts[i] if one_sided else mean + sign * column[1, i] * e)
                    variance = max(counts[i] + read, _f32(1e-30))
                    root = _ONE / np.sqrt(variance)
                    square = root * root
                    row[i] = inverse_e * bent(
                        z[i], mean, variance * root, third * square * root, counts[i] * square * square
                    )
            for t in range(len(tiles) - 1):
                excess, part, stray = flicker[n, t, 2], row[tiles[t] : tiles[t + 1]], add[2, tiles[t] : tiles[t + 1]]
                if excess != _ZERO:
                    for i in range(len(part)):
                        part[i] += excess * stray[i]
        if radius > 0:
            padded[radius : radius + m] = row
            row[:] = _ZERO
            for j in range(len(taps)):
                tap, near = taps[j], padded[j : j + m]
                for i in range(m):
                    row[i] += tap[i] * near[i]
        for i in range(m):
            row[i] = row[i] * unit + (term + factor * add[0, i] + add[1, i])
        if step > _ZERO:
            for i in range(m):
                row[i] = min(max(np.floor(row[i] * inverse_step + _HALF), -top), top) * step
