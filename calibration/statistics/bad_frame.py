"""The report of a reading that cannot be used: which one, what it is instead, and how sure that is.

A frame of a scan and a row of somebody's file are the same thing here: the readings of all outputs at one time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.tails import chi2_sf, normal_isf

Float = NDArray[np.float64]


@dataclass(frozen=True)
class BadFrame:
    """One frame, or one row of a file, and what is wrong with it.

    Attributes
    ----------
    index
        Place in its scan or file, from 0.
    reason
        Kind, in a word or two: ``"stale"``, ``"swapped"``, ``"saturated"``, ``"garbage"``.
    chi2_per_dof
        χ² per output of the readings under what was asked for [1].
    evidence
        What speaks for the reason, in words.
    z
        The normal deviate that is as improbable as that χ² [1]; NaN where the readings were not compared with anything.
    """

    index: int
    reason: str
    chi2_per_dof: float
    evidence: str
    z: float = math.nan

    @property
    def in_words(self) -> str:
        """``"stale: fits the inputs of row 210"``"""
        return f"{self.reason}: {self.evidence}" if self.evidence else self.reason


def normal_score(chi2: Float, dof: int) -> Float:
    """χ² as the normal deviate with the same upper tail (Wilson–Hilferty beyond 1e-290)."""
    z = normal_isf(np.maximum(chi2_sf(chi2, dof), 1e-290))
    cube = (np.cbrt(chi2 / dof) - (1 - 2 / (9 * dof))) / np.sqrt(2 / (9 * dof))
    return np.asarray(np.where(z > 36, np.maximum(cube, 36), z))
