"""Where a detector's readings are cut off: a floor and a ceiling of each output, found by the readings that pile up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.statistics.tails import normal_cdf, normal_pdf, normal_sf, poisson_sf

Float = NDArray[np.float64]

FEWEST = 3  # readings at a rail
CHANCE = 1e-5  # that as many readings of a smooth distribution stand at its end
NEAR = 0.05  # of the range: where the density of the readings at its end is taken from
LUMPY = 8  # readings per value from which on ties are usual
NEAR_RAIL = 3.0  # standard deviations from a rail within which a reading may have been cut off


@dataclass(frozen=True)
class Rails:
    """The readings at which each output is cut off [unit].

    Attributes
    ----------
    floor, ceiling
        (M,), or (1,) of a single detector; infinite where an output has none.
    """

    floor: Float
    ceiling: Float

    @classmethod
    def none(cls, outputs: int) -> Rails:
        """Of detectors that are never cut off."""
        return cls(np.full(outputs, -np.inf), np.full(outputs, np.inf))

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(np.isfinite(self.floor).any() or np.isfinite(self.ceiling).any())

    def reached(self, readings: Float) -> NDArray[np.bool_]:
        """Which readings (n, M) stand at a rail."""
        return np.asarray((readings <= self.floor) | (readings >= self.ceiling))

    def near(self, mean: Float, sd: Float) -> NDArray[np.bool_]:
        """Which readings (n, M) may have been cut off, by what is expected of them."""
        return np.asarray((mean - NEAR_RAIL * sd < self.floor) | (mean + NEAR_RAIL * sd > self.ceiling))

    def censored(self, mean: Float, sd: Float) -> tuple[Float, Float]:
        """Mean and standard deviation of normal readings that are cut off at the rails.

        With φ and Φ of the standard normal law at ``a = (floor − mean)/sd`` and ``b = (ceiling − mean)/sd``.
        """
        if not self.any:
            return mean, sd
        a, b = (self.floor - mean) / sd, (self.ceiling - mean) / sd
        inside = normal_cdf(b) - normal_cdf(a)
        at_a, at_b = normal_pdf(a), normal_pdf(b)
        low, high = np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(b), b, 0.0)
        first = at_a - at_b + low * normal_cdf(a) + high * normal_sf(b)
        second = inside + low * at_a - high * at_b + low**2 * normal_cdf(a) + high**2 * normal_sf(b)
        variance = np.maximum(second - first**2, 1e-6)
        return np.asarray(mean + sd * first), np.asarray(sd * np.sqrt(variance))

    def as_json(self) -> dict[str, list[float | None]]:
        """JSON types only."""

        def plain(values: Float) -> list[float | None]:
            return [float(v) if np.isfinite(v) else None for v in values]

        return {"floor": plain(self.floor), "ceiling": plain(self.ceiling)}

    @classmethod
    def from_json(cls, document: dict[str, list[float | None]]) -> Rails:
        """Back from `as_json`."""
        floor = np.array([-np.inf if v is None else v for v in document["floor"]], np.float64)
        return cls(floor, np.array([np.inf if v is None else v for v in document["ceiling"]], np.float64))


def find_rails(readings: Float, good: NDArray[np.bool_]) -> Rails:
    """Floor and ceiling of each output of the good rows (n,) of ``readings`` (n, M)."""
    kept = readings[good]
    floor = _shared(np.array([_pile_up(-column) for column in kept.T]), (-kept).max(axis=0))
    return Rails(-floor, _shared(np.array([_pile_up(column) for column in kept.T]), kept.max(axis=0)))


def _shared(found: Float, highest: Float) -> Float:
    """Outputs of one camera have one ceiling: one that several have, and none passes, is that of all."""
    values, counts = np.unique(found[np.isfinite(found)], return_counts=True)
    shared = found.copy()
    for value in values:
        shared[highest == value] = value
    if len(values) == 1 and counts[0] > 1 and highest.max() <= values[0]:
        shared[:] = values[0]
    return shared


def _pile_up(values: Float) -> float:
    """The largest value if more readings stand there than a smooth distribution has at its end, else infinity.

    The density at the end is taken from the values just below. Where values repeat anyway (few levels, few different
    inputs), the largest must be clearly more frequent than any other.
    """
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) < 4 or counts[-1] < FEWEST:
        return np.inf
    top, at_top = float(levels[-1]), int(counts[-1])
    step = float(np.diff(levels).min())
    reach = max(NEAR * (top - float(levels[0])), 4 * step)
    near = (levels >= top - reach) & (levels < top)
    expected = (float(counts[near].sum()) + 1.0) / max(reach / step, 1.0)
    if float(poisson_sf(at_top - 1, expected)) > CHANCE:
        return np.inf
    usual = int(counts[1:-1].max())
    if len(values) > LUMPY * len(levels) or usual > at_top:
        return top if at_top > 2 * usual + 4 * np.sqrt(usual) else np.inf
    return top
