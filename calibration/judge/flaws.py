"""Macropixels that differ from those around them: weak, bright or leaking, as stuck and dead pixels make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float64]
Kind = Literal["weak", "bright", "leaking"]

AROUND = 5
"""Rows and columns of macropixels that one is compared with, itself among them."""
SIGMAS = 5.0
SIZE_MIN = 0.03
"""Least difference, over the gain around it, that is listed: one pixel of sixteen makes twice as much [1]."""


@dataclass(frozen=True)
class Flaw:
    """A macropixel that differs.

    Attributes
    ----------
    row, column
        Of the layout, from 0.
    kind
        ``weak`` or ``bright``: its gain. ``leaking``: light that comes through it when it should be dark.
    size
        Difference from the median of those around it, over the gain there [1].
    sigmas
        That difference in its standard errors.
    """

    row: int
    column: int
    kind: Kind
    size: float
    sigmas: float

    def __str__(self) -> str:
        return f"({self.row}, {self.column}) {self.kind} by {abs(self.size):.0%}"


def flaws(gain_dn: Float, gain_stderr_dn: Float, dark_dn: Float | None, dark_stderr_dn: Float | None) -> list[Flaw]:
    """Macropixels that differ, the largest difference first.

    Parameters
    ----------
    gain_dn, gain_stderr_dn
        (M, K) light of each macropixel at full transmission and its standard error [DN].
    dark_dn, dark_stderr_dn
        (M, K) light that comes through it when it is dark, and its standard error; None where nobody measured it [DN].
    """
    around = ndimage.median_filter(gain_dn, AROUND, mode="nearest")
    found = _outliers(gain_dn - around, gain_stderr_dn, around, ("bright", "weak"))
    if dark_dn is not None and dark_stderr_dn is not None:
        excess = dark_dn - ndimage.median_filter(dark_dn, AROUND, mode="nearest")
        found += _outliers(excess, dark_stderr_dn, around, ("leaking", None))
    return sorted(found, key=lambda flaw: -abs(flaw.size))


def _outliers(apart: Float, stderr: Float, around: Float, kinds: tuple[Kind, Kind | None]) -> list[Flaw]:
    """Where a map is far from what is around, by its errors and by the spread of the whole map."""
    spread = 1.4826 * float(np.median(np.abs(apart - np.median(apart))))
    sigmas = apart / np.maximum(np.hypot(stderr, spread), 1e-300)
    size = apart / np.maximum(around, 1e-300)
    above, below = kinds
    found = []
    for row, column in np.argwhere((np.abs(sigmas) > SIGMAS) & (np.abs(size) > SIZE_MIN)):
        kind = above if apart[row, column] > 0 else below
        if kind is not None:
            at = (row, column)
            found.append(Flaw(int(row), int(column), kind, float(size[at]), float(abs(sigmas[at]))))
    return found
