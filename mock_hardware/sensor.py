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
_STREAMS = 2  # of random words that a pixel has in a frame


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
    responsivity : (rows, cols) float32
        Of each pixel, relative to the mean [1].
    offset_e : (rows, cols) float32
        Of each pixel, without light and dark current [e-].
    hot_e_per_s : (rows, cols) sparse as (flat index, rate) sorted by index
        What hot pixels add to the dark current at the sensor's temperature [e-/s].
    """

    def __init__(self, config: CameraConfig, seed: int, workers: Workers) -> None:
        self.config = config
        self._seed, self._workers = seed, workers
        self._key = noise.pixel_key(seed)
        shape = config.rows, config.cols
        self.responsivity = _pattern(shape, 1.0, config.prnu, noise.generator(seed, _PRNU))
        np.maximum(self.responsivity, 0, out=self.responsivity)
        self.offset_e = _pattern(shape, 0.0, config.dsnu_e, noise.generator(seed, _DSNU))
        rng = noise.generator(seed, _HOT)
        index = np.unique(rng.integers(0, config.rows * config.cols, round(config.hot_fraction * self.offset_e.size)))
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
        )
        self._workers.rows(
            _expose,
            roi.height,
            light,
            row_electrons.astype(np.float32),
            row_noise,
            self.responsivity,
            self.offset_e,
            (starts, index, rate * np.float32(exposure_s)),
            (roi.x, roi.y),
            tuple(np.float32(value) for value in numbers),
            (*self._key, np.uint32(_STREAMS * sequence)),
            noise.alias_table(),
            frame,
        )
        return frame


def _pattern(shape: tuple[int, int], mean: float, rms: float, rng: np.random.Generator) -> Floats:
    """Normal about ``mean``, pixel by pixel."""
    if rms == 0:
        return np.full(shape, mean, np.float32)
    pattern = rng.standard_normal(shape, np.float32)
    pattern *= np.float32(rms)
    pattern += np.float32(mean)
    return pattern


@kernel
def _expose(first, last, light, row_electrons, row_noise, responsivity, offset_e, hot, corner, numbers, key, alias, out):  # type: ignore[no-untyped-def]  # fmt: skip
    """Rows ``first`` … ``last`` of a frame; the loops without branches become vector instructions."""
    floor_e, dark_e, full_well_e, cubic, read_e, gain, black_dn, full_scale = numbers
    k0, k1, counter = key
    starts, hot_index, hot_e = hot
    x0, y0 = corner
    cols, width = responsivity.shape[1], light.shape[1]
    mean, counts, read = np.empty(width, np.float32), np.empty(width, np.float32), np.empty(width, np.float32)
    dice, chance = np.empty(width, _u32), np.empty(width, _u32)
    for r in range(first, last):
        y = y0 + r
        response, offset, source = responsivity[y, x0 : x0 + width], offset_e[y, x0 : x0 + width], light[r]
        electrons, pixel, row_e, target = row_electrons[r], _u32(y * cols + x0), row_noise[r], out[r]
        few = np.int32(0)
        for j in range(width):
            mean[j] = (source[j] * electrons + floor_e) * response[j] + dark_e
        for i in range(starts[r], starts[r + 1]):
            x = hot_index[i] - y * cols - x0
            if 0 <= x < width:
                mean[x] += hot_e[i]
        for j in range(width):
            a, b = noise.threefry(k0, k1, _u32(pixel + _u32(j)), counter)
            w, read[j] = noise.normal_pair(a, b)
            counts[j] = noise.poisson_large(mean[j], w)
        for j in range(width):
            few += np.int32(mean[j] < EXACT_BELOW)
        if few:
            for j in range(width):
                dice[j], chance[j] = noise.threefry(k0, k1, _u32(pixel + _u32(j)), _u32(counter + _u32(1)))
            for j in range(width):
                if mean[j] < EXACT_BELOW:
                    counts[j] = noise.poisson_small(mean[j], dice[j], chance[j], alias)
        for j in range(width):
            n = min(counts[j], full_well_e)
            n -= cubic * n * n * n * n
            dn = np.rint((n + offset[j] + row_e + read[j] * read_e) * gain + black_dn)
            target[j] = np.uint16(np.int32(min(max(dn, _f32(0)), full_scale)))
