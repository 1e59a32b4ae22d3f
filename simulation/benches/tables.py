"""Curves as tables, in both directions: a detector's curve is asked for every reading of every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.power_curve import PowerCurve

Float = NDArray[np.float64]

POINTS = 4097
BEYOND = 0.25
"""Of the largest reading: how far beyond the readings of the fit a curve is taken at its word."""


@dataclass(frozen=True)
class Table:
    """Straight lines between even points; the outermost go on beyond.

    Attributes
    ----------
    start, step
        (M,) first point of each output, and how far apart points are.
    values, slopes
        (POINTS, M) and (POINTS − 1, M).
    """

    start: Float
    step: Float
    values: Float
    slopes: Float

    @classmethod
    def through(cls, start: Float, step: Float, values: Float) -> Table:
        """Through (POINTS, M) values."""
        return cls(start, step, values, np.diff(values, axis=0) / step)

    def __call__(self, at: Float) -> Float:
        """Values (…, M)."""
        place = (at - self.start) / self.step
        cell = np.clip(place.astype(np.intp), 0, len(self.slopes) - 1)
        flat = cell * self.values.shape[1] + np.arange(self.values.shape[1])
        return np.asarray(self.values.take(flat) + (place - cell) * self.step * self.slopes.take(flat))


@dataclass(frozen=True)
class Detectors:
    """The curves of M detectors.

    Attributes
    ----------
    forth, back
        From light to readings above the offset, and from these to light; None where every curve is straight.
    rises
        Whether every reading has one light.
    """

    forth: Table | None
    back: Table | None
    rises: bool

    @classmethod
    def of(cls, curve: PowerCurve, outputs: int) -> Detectors:
        """Tables over the range of the curve, from no light on, and a point beyond at either end."""
        if curve.straight:
            return cls(None, None, True)
        low, high = curve.scale * max(min(curve.low, 0.0), -BEYOND), curve.scale * min(curve.high, 1 + BEYOND)
        step = (high - low) / (POINTS - 3)
        grid = np.asarray(low - step + step * np.arange(POINTS), np.float64)
        readings = curve.value(np.repeat(grid[:, None], outputs, axis=1))
        if not (np.diff(readings, axis=0) > 0).all():
            return cls(None, None, False)
        forth = Table.through(np.full(outputs, grid[0]), np.full(outputs, step), readings)
        return cls(forth, backwards(grid, readings), True)


def backwards(at: Float, values: Float) -> Table:
    """The table of what has some values: of rising curves with ``values`` (POINTS, M) ``at`` even points (POINTS,)."""
    steps = (values[-2] - values[1]) / (POINTS - 3)
    even = np.asarray(values[1] - steps + steps * np.arange(POINTS)[:, None], np.float64)
    columns = (_inverse(np.asarray(each, np.float64), at, of) for each, of in zip(even.T, values.T, strict=True))
    return Table.through(even[0], steps, np.stack(list(columns), axis=1))


def _inverse(readings: Float, light: Float, of: Float) -> Float:
    """Light of some readings, by straight lines between known ones ``of``; the outermost go on."""
    cell = np.clip(np.searchsorted(of, readings) - 1, 0, len(of) - 2)
    share = (readings - of[cell]) / (of[cell + 1] - of[cell])
    return np.asarray(light[cell] + share * (light[cell + 1] - light[cell]))
