# mypy: disable-error-code="no-untyped-def,no-untyped-call"
"""The sensor's pixels in compiled loops, by rows: expected electrons → counts → DN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundwork.compiled import kernel
from groundwork.random_numbers import normal_pair, threefry
from mock_hardware import noise
from mock_hardware.noise import EXACT_BELOW

_u32, _f32 = np.uint32, np.float32
_JUST_BELOW = np.nextafter(EXACT_BELOW, np.float32(0))


class Fixed(NamedTuple):
    """What does not change from frame to frame: the same patterns for every region of the sensor.

    Attributes
    ----------
    responsivity, offset_e
        (rows, cols) int16, in steps of ``prnu`` [1] and of ``dsnu_e`` [e-].
    prnu, dsnu_e
        The size of a step: of the responsivity [1], of the offset [e-].
    full_well_e
        Electrons that a pixel holds [e-].
    cubic
        Of the nonlinearity: n electrons become n − cubic n⁴ [e-⁻³].
    read_e
        Read noise, standard deviation [e-].
    gain
        [DN/e-]
    black_dn, full_scale_dn
        What no electrons read, and the most that is read [DN].
    """

    responsivity: NDArray[np.int16]
    offset_e: NDArray[np.int16]
    prnu: np.float32
    dsnu_e: np.float32
    full_well_e: np.float32
    cubic: np.float32
    read_e: np.float32
    gain: np.float32
    black_dn: np.float32
    full_scale_dn: np.float32


class Frame(NamedTuple):
    """What one frame is exposed with, besides the light's image; rows are those of the region that is read.

    Attributes
    ----------
    corner
        Column and row of the region's first pixel [px].
    row_electrons, row_noise_e
        (H,) photo-electrons per unit of light, and offset, of each row [e-].
    floor_e, dark_e
        Electrons of every pixel without the image: stray and ambient light; dark current [e-].
    hot_starts, hot_index, hot_e
        Hot pixels: where each row begins in the list, (H + 1,); flat index on the sensor and electrons of each [e-].
    key
        Two words of the seed, and the counter of the frame's first stream of random words.
    """

    corner: tuple[int, int]
    row_electrons: NDArray[np.float32]
    row_noise_e: NDArray[np.float32]
    floor_e: np.float32
    dark_e: np.float32
    hot_starts: NDArray[np.int64]
    hot_index: NDArray[np.int64]
    hot_e: NDArray[np.float32]
    key: tuple[np.uint32, np.uint32, np.uint32]


@kernel
def expose(first, last, light, frame, fixed, alias, out):
    """Rows ``first`` … ``last`` of a frame: ``light`` (H, W) float32 becomes ``out`` (H, W) uint16 [DN].

    ``frame`` is a `Frame`, ``fixed`` a `Fixed`, ``alias`` the table of `mock_hardware.noise.alias_table`.
    """
    k0, k1, counter = frame.key
    x0, y0 = frame.corner
    cols, width = fixed.responsivity.shape[1], light.shape[1]
    mean, counts, read = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    dice, chance, entry = np.empty(width, np.uint32), np.empty(width, np.uint32), np.empty(width, np.uint32)
    rest = np.empty(width, np.float32)
    hits = np.zeros((width + 7) // 8 * 8, np.uint8)
    for r in range(first, last):
        y = y0 + r
        columns = slice(x0, x0 + width)
        responsivity = fixed.responsivity[y, columns]
        _collect(light[r], frame.row_electrons[r], frame.floor_e, responsivity, fixed.prnu, frame.dark_e, mean)
        for i in range(frame.hot_starts[r], frame.hot_starts[r + 1]):
            x = frame.hot_index[i] - y * cols - x0
            if 0 <= x < width:
                mean[x] += frame.hot_e[i]
        pixel = _u32(y * cols + x0)
        _draw(mean, k0, k1, pixel, counter, counts, read)
        if _any_few(mean):
            _words(k0, k1, pixel, _u32(counter + _u32(1)), dice, chance)
            _look_up(mean, dice, alias, entry)
            _draw_few(mean, dice, chance, entry, counts, rest, hits)
            _draw_rest(rest, chance, hits, counts)
        _convert(counts, fixed.offset_e[y, columns], frame.row_noise_e[r], read, fixed, out[r])


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
def _convert(counts, offset_e, row_e, read, fixed, out):
    full_well_e, cubic, read_e, step = fixed.full_well_e, fixed.cubic, fixed.read_e, fixed.dsnu_e
    gain, black_dn, full_scale = fixed.gain, fixed.black_dn, fixed.full_scale_dn
    for j in range(counts.size):
        n = min(counts[j], full_well_e)
        n -= cubic * n * n * n * n
        dn = np.rint((n + step * _f32(offset_e[j]) + row_e + read[j] * read_e) * gain + black_dn)
        out[j] = np.uint16(np.int32(min(max(dn, _f32(0)), full_scale)))
