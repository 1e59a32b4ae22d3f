"""What changes slowly: power and pointing as functions of device time, the same whenever and however often asked."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mock_hardware import noise
from mock_hardware.config import DriftConfig

STEP_S = 0.1
"""Power and pointing are constant for so long, so that a frame that follows another costs no more than it must [s]."""
_BLOCK = 4096
_OCTAVES = 10  # of the 1/f noise: 1 Hz down to 1 mHz
_POWER, _POINTING_X, _POINTING_Y, _FLICKER = range(1 << 41, (1 << 41) + 4)


class Drift:
    """Slow changes of a bench.

    Parameters
    ----------
    config
        Its parameters.
    seed
        Of the random walks.
    """

    def __init__(self, config: DriftConfig, seed: int) -> None:
        self.config = config
        self._seed = seed
        self._walks: dict[int, NDArray[np.float64]] = {}
        self._octaves: dict[int, tuple[int, float]] = {}  # the step that each octave is in, and its value

    def power(self, at_s: float) -> float:
        """Factor on the light of the source, never negative [1]."""
        config = self.config
        change = 0.0
        if config.power_walk_per_sqrt_s:
            change += config.power_walk_per_sqrt_s * self._walk(_POWER, at_s)
        if config.power_flicker_rms:
            change += config.power_flicker_rms * self._pink(at_s)
        return max(1.0 + change, 0.0)

    def pointing(self, at_s: float) -> tuple[float, float]:
        """(x, y) by which the image has moved on the sensor [camera pixels]."""
        config = self.config
        x, y = (config.knock_x_px, config.knock_y_px) if at_s >= config.knock_at_s else (0.0, 0.0)
        if config.pointing_walk_px_per_sqrt_s:
            x += config.pointing_walk_px_per_sqrt_s * self._walk(_POINTING_X, at_s)
            y += config.pointing_walk_px_per_sqrt_s * self._walk(_POINTING_Y, at_s)
        return x, y

    def display_pointing(self, at_s: float) -> tuple[float, float]:
        """(x, y) by which the display's image has moved against the SLM's [camera pixels]."""
        config = self.config
        return (config.knock_display_x_px, config.knock_display_y_px) if at_s >= config.knock_at_s else (0.0, 0.0)

    def _walk(self, which: int, at_s: float) -> float:
        """Standard Brownian motion in steps of `STEP_S`, from 0 at time 0."""
        step = int(at_s / STEP_S)
        known = self._walks.get(which, np.zeros(1))
        while len(known) <= step:
            block = noise.generator(self._seed, which, len(known)).standard_normal(_BLOCK)
            known = np.concatenate([known, known[-1] + math.sqrt(STEP_S) * np.cumsum(block)])
        self._walks[which] = known
        return float(known[step])

    def _pink(self, at_s: float) -> float:
        """1/f noise of unit variance: equal power in each octave, as a sum of random steps of length 2^k seconds.

        R. F. Voss's algorithm (M. Gardner, Scientific American 238 (1978) 4, p. 16), the steps out of phase.
        """
        total = 0.0
        for octave in range(_OCTAVES):
            length_s = 2.0**octave
            step = int(at_s / length_s + octave / _OCTAVES)
            if self._octaves.get(octave, (None, 0.0))[0] != step:
                value = float(noise.generator(self._seed, _FLICKER, octave, step).standard_normal())
                self._octaves[octave] = step, value
            total += self._octaves[octave][1]
        return total / math.sqrt(_OCTAVES)
