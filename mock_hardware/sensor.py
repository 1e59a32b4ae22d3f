"""The camera's chip: expected photo-electrons → DN (EMVA 1288, with the imperfections that the standard names)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from groundwork.threads import Threads
from mock_hardware import chip, noise
from mock_hardware.config import CameraConfig
from mock_hardware.noise import Floats

_PRNU, _DSNU, _HOT, _ROW_NOISE = range(1 << 40, (1 << 40) + 4)  # fixed patterns: no frame has these numbers
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
        The generator that it is drawn from.
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
        From which the noise and the fixed patterns are drawn.
    threads
        The threads that compute frames, each a part of the rows.

    Attributes
    ----------
    responsivity, offset_e
        Of each pixel, relative to the mean [1], and without light and dark current [e-].
    hot_e_per_s : (rows, cols) sparse as (flat index, rate) sorted by index
        What hot pixels add to the dark current at the sensor's temperature [e-/s].
    """

    def __init__(self, config: CameraConfig, seed: int, threads: Threads) -> None:
        self.config = config
        self._seed, self._threads = seed, threads
        self._key = noise.pixel_key(seed)
        shape = config.rows, config.cols
        self.responsivity = Pattern(shape, 1.0, config.prnu, noise.generator(seed, _PRNU))
        self.offset_e = Pattern(shape, 0.0, config.dsnu_e, noise.generator(seed, _DSNU))
        rng = noise.generator(seed, _HOT)
        index = np.unique(
            rng.integers(0, config.rows * config.cols, round(config.hot_fraction * config.rows * config.cols))
        )
        rate = rng.exponential(config.hot_e_per_s * config.dark_doublings, index.size)
        self.hot_e_per_s = index, rate.astype(np.float32)
        self._fixed = chip.Fixed(
            self.responsivity.steps,
            self.offset_e.steps,
            prnu=self.responsivity.step,
            dsnu_e=self.offset_e.step,
            full_well_e=np.float32(config.full_well_e),
            cubic=np.float32(config.nonlinearity / config.full_well_e**3),
            read_e=np.float32(config.read_noise_e),
            gain=np.float32(config.gain_dn_per_e),
            black_dn=np.float32(config.black_level_dn),
            full_scale_dn=np.float32(2**config.bit_depth - 1),
        )

    def dark_e_per_s(self) -> float:
        """Dark current of a pixel that is not hot [e-/s]."""
        return self.config.dark_current_e_per_s * self.config.dark_doublings

    def mean_dark_e_per_s(self) -> float:
        """Dark current of a pixel, hot ones included: mean over the sensor [e-/s]."""
        return self.dark_e_per_s() + float(self.hot_e_per_s[1].sum()) / (self.config.rows * self.config.cols)

    def expose(
        self,
        light: Floats,
        row_electrons: NDArray[np.floating[Any]],
        floor_e: float,
        exposure_s: float,
        roi: Roi,
        sequence: int,
    ) -> NDArray[np.uint16]:
        """One frame.

        Parameters
        ----------
        light : (H, W) float32
            Relative light on ``roi``.
        row_electrons : (H,)
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
        read = np.empty(light.shape, np.uint16)
        index, rate = self.hot_e_per_s
        frame = chip.Frame(
            corner=(roi.x, roi.y),
            row_electrons=row_electrons.astype(np.float32),
            row_noise_e=self._row_noise_e(roi, sequence),
            floor_e=np.float32(floor_e),
            dark_e=np.float32(self.dark_e_per_s() * exposure_s),
            hot_starts=np.searchsorted(index, (roi.y + np.arange(roi.height + 1)) * self.config.cols),
            hot_index=index,
            hot_e=rate * np.float32(exposure_s),
            key=(*self._key, np.uint32(_STREAMS * sequence)),
        )
        self._threads.rows(chip.expose, roi.height, light, frame, self._fixed, noise.alias_table(), read)
        return read

    def _row_noise_e(self, roi: Roi, sequence: int) -> Floats:
        """(H,) offset that each row of ``roi`` has in this frame [e-]."""
        if not self.config.row_noise_e:
            return np.zeros(roi.height, np.float32)
        rng = noise.generator(self._seed, _ROW_NOISE, sequence)
        whole = rng.standard_normal(self.config.rows, np.float32)
        return np.asarray(whole[roi.y : roi.y + roi.height] * np.float32(self.config.row_noise_e), np.float32)
