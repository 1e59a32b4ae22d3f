"""Macropixels that differ from those around them: weak, bright, leaking or lit, as stuck and dead pixels make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibration.statistics.tails import normal_isf

Float = NDArray[np.float64]
Kind = Literal["weak", "bright", "leaking", "lit"]

AROUND = 5
"""Rows and columns of macropixels that one is compared with, itself among them."""
SIGMAS = 5.0
SIZE_MIN = 0.03
"""Least difference, over the gain around it, that is listed: one pixel of sixteen makes twice as much [1]."""
LIT_MIN = 0.01
"""Least light of a stuck display pixel, over a macropixel's gain: a pixel half of which lies on the guard makes it."""
BESIDE = np.array([1, 1, 0, 1, 1], np.bool_)
"""The rows that one is compared with, itself in the middle."""
PLACED_CHANCE, PLACED_SHARE = 0.01, 0.5
"""Named is the one macropixel of a lit row that is weaker than noise makes any in so many rows, and by so much of the
light."""


@dataclass(frozen=True)
class Flaw:
    """A macropixel that differs.

    Attributes
    ----------
    row, column
        Of the layout, from 0; no column where light is seen in a row and it cannot be told through which macropixel.
    kind
        ``weak`` or ``bright``: its gain. ``leaking``: light that comes through it when it should be dark, as a stuck
        pixel of the SLM makes it. ``lit``: light that comes through it though the display is dark, as a stuck pixel of
        the display makes it.
    size
        Difference from the median of those around it, over the gain there [1].
    sigmas
        That difference in its standard errors.
    """

    row: int
    column: int | None
    kind: Kind
    size: float
    sigmas: float

    def __str__(self) -> str:
        place = f"row {self.row}" if self.column is None else f"({self.row}, {self.column})"
        return f"{place} {self.kind} by {abs(self.size):.0%}"


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


def lit_rows(still_dn: Float, gain_dn: Float, gain_stderr_dn: Float) -> list[Flaw]:
    """Rows that read light through a bright SLM while the display is dark, more than the rows beside them.

    A pixel of the display that is stuck bright sends its light whatever is shown, and what its macropixel can be
    modulated by is less by as much. That tells the column where one macropixel of the row is weak enough for it.

    Parameters
    ----------
    still_dn
        (n, M) dark-subtracted readings with the display dark and the SLM bright [DN].
    gain_dn, gain_stderr_dn
        As in `flaws`.
    """
    if still_dn.shape[0] < 2 or still_dn.shape[1] < BESIDE.size:
        return []
    mean, stderr = still_dn.mean(axis=0), still_dn.std(axis=0, ddof=1) / np.sqrt(len(still_dn))
    excess = mean - ndimage.median_filter(mean, footprint=BESIDE, mode="mirror")
    spread = 1.4826 * float(np.median(np.abs(excess - np.median(excess))))
    sigmas, size = excess / np.maximum(np.hypot(stderr, spread), 1e-300), excess / np.median(gain_dn, axis=1)
    apart = gain_dn - ndimage.median_filter(gain_dn, AROUND, mode="nearest")
    found = []
    for row in np.flatnonzero((sigmas > SIGMAS) & (size > LIT_MIN)):
        by_noise = float(normal_isf(PLACED_CHANCE / gain_dn.shape[1])) * gain_stderr_dn[row]
        weak = np.flatnonzero(-apart[row] > np.maximum(by_noise, PLACED_SHARE * excess[row]))
        column = int(weak[0]) if len(weak) == 1 else None
        found.append(Flaw(int(row), column, "lit", float(size[row]), float(sigmas[row])))
    return sorted(found, key=lambda flaw: -flaw.size)


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
