"""Look-up tables: which transmission each gray level gives, and back to the nearest available one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError

Float = NDArray[np.float64]
Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Lut:
    """Gray level → transmission of one panel, relative to its brightest level.

    Attributes
    ----------
    transmission
        (levels,) non-decreasing, last entry 1 [1]. Entry 0 is the floor: zero is not dark.
    stderr
        (levels,) standard error of ``transmission`` [1].
    """

    transmission: Float
    stderr: Float

    def __post_init__(self) -> None:
        t = self.transmission
        if t.ndim != 1 or t.shape != self.stderr.shape or not np.isfinite(t).all() or np.any(np.diff(t) < 0):
            raise FitError("a LUT must be a finite, non-decreasing curve", action="building a LUT")

    @property
    def floor(self) -> float:
        """Transmission of gray level 0: 1 / extinction ratio."""
        return float(self.transmission[0])

    @property
    def extinction_ratio(self) -> float:
        """1 / floor; infinite for a panel whose dark level is dark."""
        return 1.0 / self.floor if self.floor > 0 else float("inf")

    @cached_property
    def _midpoints(self) -> Float:
        return 0.5 * (self.transmission[1:] + self.transmission[:-1])

    def encode(self, operand: Float) -> Levels:
        """Levels whose transmission is nearest to ``floor + (1 − floor)·operand``.

        Parameters
        ----------
        operand
            Any shape, values in 0 … 1; values outside are shown as the nearest end.

        Returns
        -------
        Gray levels, same shape, uint8.
        """
        target = self.floor + (1.0 - self.floor) * operand
        return np.searchsorted(self._midpoints, target, side="left").astype(np.uint8)

    def realise(self, levels: Levels) -> Float:
        """Transmission that ``levels`` really give, floor included."""
        return np.asarray(self.transmission[levels])
