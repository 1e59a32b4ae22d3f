"""Look-up tables: which transmission each gray level of a panel gives, and which level comes nearest to a number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError

Float = NDArray[np.float64]
Levels = NDArray[np.unsignedinteger[Any]]
"""Gray levels of a panel, as integers of `level_dtype`."""


def level_dtype(levels: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned integers that hold the gray levels ``0 … levels − 1``: uint8 up to 256 levels."""
    return np.dtype(np.min_scalar_type(levels - 1))


@dataclass(frozen=True)
class Lut:
    """Gray level → transmission of one panel, relative to its brightest level.

    Attributes
    ----------
    transmission
        (levels,) non-decreasing, last entry 1, one entry for each of the panel's two or more gray levels [1]. Entry 0
        is the floor: the transmission of the darkest level, which is not zero.
    stderr
        (levels,) standard error of ``transmission`` [1].
    """

    transmission: Float
    stderr: Float

    def __post_init__(self) -> None:
        t = self.transmission
        if t.ndim != 1 or t.shape != self.stderr.shape or not np.isfinite(t).all() or np.any(np.diff(t) < 0):
            raise FitError("a LUT must be a finite, non-decreasing curve", action="building a LUT")
        if len(t) < 2:
            raise FitError(
                "a LUT needs a dark and a bright level at least",
                action="building a LUT",
                expected="two gray levels or more",
                seen=str(len(t)),
            )

    @property
    def levels(self) -> int:
        """How many gray levels the panel has."""
        return len(self.transmission)

    @property
    def floor(self) -> float:
        """Transmission of gray level 0: 1 / extinction ratio."""
        return float(self.transmission[0])

    @property
    def extinction_ratio(self) -> float:
        """1 / floor; infinite for a panel whose dark level is dark."""
        return 1.0 / self.floor if self.floor > 0 else float("inf")

    @property
    def quantisation(self) -> float:
        """Root-mean-square error of `encode` over operands spread evenly from 0 to 1, in units of the operand [1].

        An operand that falls between two levels a step d apart is shown with an error spread evenly over ±d/2, so
        the mean square is ``Σ d³ / 12`` over the steps of the curve. For n evenly spaced levels that is
        ``1 / (√12 (n − 1))``: 0.0011 for 256 levels, 0.29 for the two levels of a binary panel.
        """
        steps = np.diff(self.transmission) / (self.transmission[-1] - self.floor)
        return float(np.sqrt((steps**3).sum() / 12))

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
        Gray levels, same shape, in the integers of `level_dtype`.
        """
        target = self.floor + (1.0 - self.floor) * operand
        return np.searchsorted(self._midpoints, target, side="left").astype(level_dtype(self.levels))

    def realise(self, levels: Levels) -> Float:
        """Transmission that the panel really gives at ``levels``, same shape [1]: between the floor and 1."""
        return np.asarray(self.transmission[levels])
