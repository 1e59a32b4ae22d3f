"""The camera's chip: expected electrons → DN, with shot noise, read noise and quantisation (EMVA 1288, linear)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mock_hardware import noise
from mock_hardware.config import CameraConfig

_CHUNK_ROWS = 32


class Sensor:
    """Turns light into numbers.

    Each chunk of rows has a generator of its own, made from (seed, frame, chunk), so a frame does not depend on how
    many threads draw it.

    Parameters
    ----------
    config
        Its parameters.
    seed, threads
        Of the noise.
    """

    def __init__(self, config: CameraConfig, seed: int, threads: int) -> None:
        self.config = config
        self._seed = seed
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mock-sensor")

    def expose(self, light: NDArray[np.float32], electrons: float, floor_e: float, sequence: int) -> NDArray[np.uint16]:
        """One frame of ``electrons × light + floor_e`` expected electrons.

        Parameters
        ----------
        light : (H, W) float32
            Relative light.
        electrons
            Per unit of it [e-].
        floor_e
            Everywhere [e-].
        sequence
            The frame's number, which its noise belongs to.

        Returns
        -------
        (H, W) uint16 [DN]
        """
        frame = np.empty(light.shape, np.uint16)

        def draw(first: int) -> None:
            rows = slice(first, first + _CHUNK_ROWS)
            mean_e = light[rows] * np.float32(electrons)
            mean_e += np.float32(floor_e)
            rng = noise.generator(self._seed, sequence, 1 + first // _CHUNK_ROWS)
            shot, read = noise.normal_pair(mean_e.shape, rng)
            frame[rows] = self._convert(noise.poisson(mean_e, shot, rng), read)

        for _ in self._pool.map(draw, range(0, len(light), _CHUNK_ROWS)):
            pass
        return frame

    def _convert(self, counts_e: NDArray[np.float32], read: NDArray[np.float32]) -> NDArray[np.float32]:
        """Full well, read noise, K, black level, rounding to the nearest DN, and the converter's range."""
        chip = self.config
        signal = np.minimum(counts_e, np.float32(chip.full_well_e), out=counts_e)
        read *= np.float32(chip.read_noise_e)
        signal += read
        signal *= np.float32(chip.gain_dn_per_e)
        signal += np.float32(chip.black_level_dn)
        np.rint(signal, out=signal)
        return np.clip(signal, 0, 2**chip.bit_depth - 1, out=signal)
