"""The camera's chip: expected photo-electrons → DN (EMVA 1288, with the imperfections that the standard names)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from mock_hardware import noise
from mock_hardware.compiled import Workers, kernel
from mock_hardware.config import CameraConfig
from mock_hardware.noise import EXACT_BELOW, Floats

_u32, _f32 = np.uint32, np.float32
_PRNU, _DSNU, _HOT, _ROW_NOISE = range(1 << 40, (1 << 40) + 4)  # fixed patterns: no frame has these numbers
_JUST_BELOW = np.nextafter(EXACT_BELOW, np.float32(0))
_STEPS = 4096  # of a fixed pattern per standard deviation
_STREAMS = 2  # of random words that a pixel has in a frame


class Pattern:
    """A fixed pattern, normal from pixel to pixel, kept in 16 bits.

    Parameters
    ----------
    shape
        Of the sensor [px].
    mean, rms
        Of the pattern.
    rng
        Where it comes from.
    """

    def __init__(self, shape: tuple[int, int], mean: float, rms: float, rng: np.random.Generator) -> None:
        self.mean, self.step = np.float32(mean), np.float32(rms / _STEPS)
        self.steps = np.zeros(shape, np.int16)
        if rms:
            self.steps[:] = np.rint(np.clip(rng.standard_normal(shape, np.float32), -7.9, 7.9) * _STEPS)

    def of(self, roi: Roi) -> Floats:
        """(H, W) float32 of a region."""
        steps = self.steps[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        return np.asarray(self.mean + self.step * steps, np.float32)


class Sensor:
    """Turns light into numbers.

    Parameters
    ----------
    config
        Its parameters.
    seed
        Of the noise and of the fixed patterns.
    workers
        Who computes.

    Attributes
    ----------
    responsivity, offset_e
        Of each pixel, relative to the mean [1], and without light and dark current [e-].
    hot_e_per_s : (rows, cols) sparse as (flat index, rate) sorted by index
        What hot pixels add to the dark current at the sensor's temperature [e-/s].
    """

    def __init__(self, config: CameraConfig, seed: int, workers: Workers) -> None:
        self.config = config
        self._seed, self._workers = seed, workers
        self._key = noise.pixel_key(seed)
        shape = config.rows, config.cols
        self.responsivity = Pattern(shape, 1.0, config.prnu, noise.generator(seed, _PRNU))
        self.offset_e = Pattern(shape, 0.0, config.dsnu_e, noise.generator(seed, _DSNU))
        rng = noise.generator(seed, _HOT)
        index = np.unique(rng.integers(0, config.rows * config.cols, round(config.hot_fraction * config.rows * config.cols)))
        rate = rng.exponential(config.hot_e_per_s * config.dark_doublings, index.size)
        self.hot_e_per_s = index, rate.astype(np.float32)

    def dark_e_per_s(self) -> float:
        """Dark current of a pixel that is not hot [e-/s]."""
        return self.config.dark_current_e_per_s * self.config.dark_doublings

    def expose(
        self, light: Floats, row_electrons: Floats, floor_e: float, exposure_s: float, roi: Roi, sequence: int
    ) -> NDArray[np.uint16]:
        """One frame.

        Parameters
        ----------
        light : (H, W) float32
            Relative light on ``roi``.
        row_electrons : (H,) float32
            Photo-electrons per unit of it, row by row [e-].
        floor_e
            Photo-electrons everywhere: stray and ambient light [e-].
        exposure_s
            For the dark current [s].
        roi
            Region of the sensor.
        sequence
            The frame's number, which its noise belongs to.

        Returns
        -------
        (H, W) uint16 [DN]
        """
        chip = self.config
        frame = np.empty(light.shape, np.uint16)
        row_noise = np.zeros(roi.height, np.float32)
        if chip.row_noise_e:
            whole = noise.generator(self._seed, _ROW_NOISE, sequence).standard_normal(chip.rows, np.float32)
            row_noise = whole[roi.y : roi.y + roi.height] * np.float32(chip.row_noise_e)
        index, rate = self.hot_e_per_s
        starts = np.searchsorted(index, (roi.y + np.arange(roi.height + 1)) * chip.cols)
        numbers = (
            floor_e,
            self.dark_e_per_s() * exposure_s,
            chip.full_well_e,
            chip.nonlinearity / chip.full_well_e**3,
            chip.read_noise_e,
            chip.gain_dn_per_e,
            chip.black_level_dn,
            2**chip.bit_depth - 1,
            self.responsivity.step,
            self.offset_e.step,
        )
        self._workers.rows(
            _expose,
            roi.height,
            light,
            row_electrons.astype(np.float32),
            row_noise,
            self.responsivity.steps,
            self.offset_e.steps,
            (starts, index, rate * np.float32(exposure_s)),
            (roi.x, roi.y),
            tuple(np.float32(value) for value in numbers),
            (*self._key, np.uint32(_STREAMS * sequence)),
            noise.alias_table(),
            frame,
        )
        return frame


@kernel
def _expose(first, last, light, row_electrons, row_noise, responsivity, offset_e, hot, corner, numbers, key, alias, out):  # type: ignore[no-untyped-def]  # fmt: skip
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
def _collect(light, electrons, floor_e, responsivity, step, dark_e, mean):  # type: ignore[no-untyped-def]
    for j in range(mean.size):
        response = max(_f32(1) + step * _f32(responsivity[j]), _f32(0))
        mean[j] = (light[j] * electrons + floor_e) * response + dark_e


@kernel
def _draw(mean, k0, k1, pixel, counter, counts, read):  # type: ignore[no-untyped-def]
    for j in range(mean.size):
        a, b = noise.threefry(k0, k1, _u32(pixel + _u32(j)), counter)
        w, read[j] = noise.normal_pair(a, b)
        counts[j] = noise.poisson_large(mean[j], w)


@kernel
def _any_few(mean):  # type: ignore[no-untyped-def]
    few = 0
    for j in range(mean.size):
        few += 1 if mean[j] < EXACT_BELOW else 0
    return few > 0


@kernel
def _words(k0, k1, pixel, counter, first, second):  # type: ignore[no-untyped-def]
    for j in range(first.size):
        first[j], second[j] = noise.threefry(k0, k1, _u32(pixel + _u32(j)), counter)


@kernel
def _look_up(mean, dice, alias, entry):  # type: ignore[no-untyped-def]
    for j in range(mean.size):
        entry[j] = noise.alias_entry(min(mean[j], _JUST_BELOW), dice[j])
    for j in range(mean.size):
        entry[j] = alias[entry[j]]


@kernel
def _draw_few(mean, dice, chance, entry, counts, rest, hits):  # type: ignore[no-untyped-def]
    """The choice between the two ways to draw is arithmetic: a branch would be guessed wrong every other time."""
    for j in range(mean.size):
        small, left = noise.poisson_small(min(mean[j], _JUST_BELOW), dice[j], entry[j])
        few = _f32(mean[j] < EXACT_BELOW)
        counts[j] += few * (small - counts[j])
        rest[j] = left
        hits[j] = np.uint8(noise.is_rest(few * left, chance[j]))


@kernel
def _draw_rest(rest, chance, hits, counts):  # type: ignore[no-untyped-def]
    eights = hits.view(np.uint64)
    for i in range(eights.size):
        if eights[i]:
            for j in range(8 * i, 8 * i + 8):
                if hits[j]:
                    counts[j] += noise.poisson_rest(rest[j], chance[j])


@kernel
def _convert(counts, full_well_e, cubic, offset_e, read, read_e, offset, out):  # type: ignore[no-untyped-def]
    step, row_e, gain, black_dn, full_scale = offset
    for j in range(counts.size):
        n = min(counts[j], full_well_e)
        n -= cubic * n * n * n * n
        dn = np.rint((n + step * _f32(offset_e[j]) + row_e + read[j] * read_e) * gain + black_dn)
        out[j] = np.uint16(np.int32(min(max(dn, _f32(0)), full_scale)))
