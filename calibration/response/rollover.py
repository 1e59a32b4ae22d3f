"""Single readings that a type without signs has turned over: a dark level a little below zero that reads 65535."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations
from calibration.response.preview import Light, preview

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

BITS = (8, 10, 12, 14, 16, 24, 32)
TOP = 1 / 32  # of the numbers of a type: how far below zero readings may have been
OVER = 1 / 4  # of them: how far over the top
NEAR = 0.05  # of the range of the other readings
SIGMAS = 6.0
MOSTLY = 0.9  # of the readings there, that a turn explains
MOST_ROWS = 0.7  # with such a reading: the rest must tell what to expect
FEWEST = 24  # rows without one
FEWEST_OVER = 3  # readings that went over the top


@dataclass(frozen=True)
class Turned:
    """Readings that were put right.

    Attributes
    ----------
    readings
        (n, M) put right; NaN where there are none.
    where
        (n, M) which.
    bits
        Of the type; 0 where nothing was turned over.
    """

    readings: Float
    where: Mask
    bits: int = 0

    def in_words(self, single: bool) -> str:
        """``"12 readings went round below 0 to 65536 − …"``; empty where there are none."""
        if not self.bits:
            return ""
        by = self.where.sum(axis=0)
        which = ", ".join(f"{m} {k}" for m, k in enumerate(by) if k)
        of = "" if single else f" (output {which})"
        rows = np.nonzero(self.where.any(axis=1))[0]
        below = bool((self.readings[self.where] < 0).any())
        how = (
            "below 0 and were stored as the largest numbers" if below else "over the top and were stored as small ones"
        )
        return (
            f"{int(by.sum())} readings wrapped{of}, first in row {rows[0]}: they went {how} of {self.bits} bits; put "
            f"right by {2**self.bits}"
        )


def turned_over(observations: Observations, readings: Float, light: Light | None) -> Turned:
    """Readings at one end of an integer type that the inputs expect just beyond its other end.

    They are put right and not left out: readings left out because they are small would bend the noise of the dark.

    Parameters
    ----------
    readings
        (n, M) or (n, 1), NaN where there are none.
    light
        What a response expects, if the bench is known.
    """
    none = Turned(readings, np.zeros(readings.shape, bool))
    read = ~np.isnan(readings)
    values = readings[read]
    if not len(values) or values.min() < 0 or (values != np.round(values)).any():
        return none
    bits = next((b for b in BITS if values.max() < 2.0**b), 0)
    if not bits:
        return none
    size = 2.0**bits
    high = read & (readings >= size * (1 - TOP))
    if high.any():
        found = _turned(observations, readings, light, high, -size)
        if found is not None:
            return Turned(np.where(found, readings - size, readings), found, bits)
    low = read & (readings < size * OVER)
    if values.max() >= size * (1 - TOP) and low.any():
        found = _over_the_top(observations, readings, light, low, size)
        if found is not None:
            return Turned(np.where(found, readings + size, readings), found, bits)
    return none


def _turned(observations: Observations, readings: Float, light: Light | None, there: Mask, turn: float) -> Mask | None:
    """Which of some readings a turn brings to what the other rows expect; None where that does not explain most."""
    usable: Mask = np.asarray(~(there | np.isnan(readings)).any(axis=1))
    if usable.sum() < max(FEWEST, (1 - MOST_ROWS) * len(usable)):
        return None
    line = preview(observations, np.nan_to_num(readings), usable, light=light)
    range_ = np.ptp(readings[usable], axis=0)
    turned = np.abs(readings + turn - line.mean) < SIGMAS * line.sd + NEAR * range_
    as_read = np.abs(readings - line.mean) < SIGMAS * line.sd + NEAR * range_
    odd = there & ~as_read
    found = odd & turned
    return found if found.any() and found.sum() >= MOSTLY * odd.sum() else None


def _over_the_top(
    observations: Observations, readings: Float, light: Light | None, low: Mask, size: float
) -> Mask | None:
    """The same of small readings, of which a few may be true ones that lie far from the line."""
    found = _turned(observations, readings, light, low, size)
    return found if found is not None and found.sum() >= FEWEST_OVER else None


def put_right(observations: Observations, readings: Float, light: Light | None) -> tuple[Observations, Float, Turned]:
    """The recording with readings that were turned over put right, and which these are."""
    found = turned_over(observations, readings, light)
    if not found.bits:
        return observations, readings, found
    y = found.readings
    return observations.with_readings(y[:, 0] if observations.single else y), y, found
