# mypy: disable-error-code="no-untyped-def,no-untyped-call"
"""The sensor's pixels in compiled loops, by rows: expected electrons → counts → DN."""

from __future__ import annotations

import numpy as np

from groundwork.compiled import kernel
from groundwork.random_numbers import normal_pair, threefry
from mock_hardware import noise
from mock_hardware.noise import EXACT_BELOW

_u32, _f32 = np.uint32, np.float32
_JUST_BELOW = np.nextafter(EXACT_BELOW, np.float32(0))


@kernel
def expose(first, last, light, row_electrons, row_noise, responsivity, offset_e, hot, corner, numbers, key, alias, out):
    """Rows ``first`` … ``last`` of a frame."""
    floor_e, dark_e, full_well_e, cubic, read_e, gain, black_dn, full_scale, prnu, dsnu = numbers
    k0, k1, counter = key
    starts, hot_index, hot_e = hot
    x0, y0 = corner
    cols, width = responsivity.shape[1], light.shape[1]
    mean, counts, read = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    dice, chance, entry = np.empty(width, np.uint32), np.empty(width, np.uint32), np.empty(width, np.uint32)
    rest = np.empty(width, np.float32)
    hits = np.zeros((width + 7) // 8 * 8, np.uint8)
    for r in range(first, last):
        y = y0 + r
        columns = slice(x0, x0 + width)
        _collect(light[r], row_electrons[r], floor_e, responsivity[y, columns], prnu, dark_e, mean)
        for i in range(starts[r], starts[r + 1]):
            x = hot_index[i] - y * cols - x0
            if 0 <= x < width:
                mean[x] += hot_e[i]
        pixel = _u32(y * cols + x0)
        _draw(mean, k0, k1, pixel, counter, counts, read)
        if _any_few(mean):
            _words(k0, k1, pixel, _u32(counter + _u32(1)), dice, chance)
            _look_up(mean, dice, alias, entry)
            _draw_few(mean, dice, chance, entry, counts, rest, hits)
            _draw_rest(rest, chance, hits, counts)
        offset = (dsnu, row_noise[r], gain, black_dn, full_scale)
        _convert(counts, full_well_e, cubic, offset_e[y, columns], read, read_e, offset, out[r])


# One loop each, over a row: what has no branches becomes vector instructions.


@kernel
def _collect(light, electrons, floor_e, responsivity, step, dark_e, mean):
    for j in range(mean.size):
        response = max(_f32(1) + step * _f32(responsivity[j]), _f32(0))
        mean[j] = (light[j] * electrons + floor_e) * response + dark_e


@kernel
def _draw(mean, k0, k1, pixel, counter, counts, read):
    for j in range(mean.size):
        a, b = threefry(k0, k1, _u32(pixel + _u32(j)), counter)
        w, read[j] = normal_pair(a, b)
        counts[j] = noise.poisson_large(mean[j], w)


@kernel
def _any_few(mean):
    few = 0
    for j in range(mean.size):
        few += 1 if mean[j] < EXACT_BELOW else 0
    return few > 0


@kernel
def _words(k0, k1, pixel, counter, first, second):
    for j in range(first.size):
        first[j], second[j] = threefry(k0, k1, _u32(pixel + _u32(j)), counter)


@kernel
def _look_up(mean, dice, alias, entry):
    for j in range(mean.size):
        entry[j] = noise.alias_entry(min(mean[j], _JUST_BELOW), dice[j])
    for j in range(mean.size):
        entry[j] = alias[entry[j]]


@kernel
def _draw_few(mean, dice, chance, entry, counts, rest, hits):
    """The choice between the two ways to draw is arithmetic: a branch would be guessed wrong every other time."""
    for j in range(mean.size):
        small, left = noise.poisson_small(min(mean[j], _JUST_BELOW), dice[j], entry[j])
        few = _f32(mean[j] < EXACT_BELOW)
        counts[j] += few * (small - counts[j])
        rest[j] = left
        hits[j] = np.uint8(noise.is_rest(few * left, chance[j]))


@kernel
def _draw_rest(rest, chance, hits, counts):
    eights = hits.view(np.uint64)
    for i in range(eights.size):
        if eights[i]:
            for j in range(8 * i, 8 * i + 8):
                if hits[j]:
                    counts[j] += noise.poisson_rest(rest[j], chance[j])


@kernel
def _convert(counts, full_well_e, cubic, offset_e, read, read_e, offset, out):
    step, row_e, gain, black_dn, full_scale = offset
    for j in range(counts.size):
        n = min(counts[j], full_well_e)
        n -= cubic * n * n * n * n
        dn = np.rint((n + step * _f32(offset_e[j]) + row_e + read[j] * read_e) * gain + black_dn)
        out[j] = np.uint16(np.int32(min(max(dn, _f32(0)), full_scale)))
