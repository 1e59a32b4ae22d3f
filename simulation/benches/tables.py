"""Curves as tables, in both directions: a detector's curve is asked for every reading of every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.power_curve import PowerCurve

Float = NDArray[np.float64]

POINTS = 4097


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
        every = np.arange(self.values.shape[1])
        return np.asarray(self.values[cell, every] + (place - cell) * self.step * self.slopes[cell, every])


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
        """Tables over the range of the curve, from no light on, and a point of its straight parts at either end."""
        if curve.straight:
            return cls(None, None, True)
        low, high = (curve.scale * end for end in (min(curve.low, 0.0), curve.high))
        step = (high - low) / (POINTS - 3)
        grid = np.asarray(low - step + step * np.arange(POINTS), np.float64)
        readings = curve.value(np.repeat(grid[:, None], outputs, axis=1))
        if not (np.diff(readings, axis=0) > 0).all():
            return cls(None, None, False)
        steps = (readings[-2] - readings[1]) / (POINTS - 3)
        even = np.asarray(readings[1] - steps + steps * np.arange(POINTS)[:, None], np.float64)
        light = np.stack(
            [
                _inverse(np.asarray(even[:, m], np.float64), np.asarray(grid, np.float64), readings[:, m])
                for m in range(outputs)
            ],
            axis=1,
        )
        forth = Table.through(np.full(outputs, grid[0]), np.full(outputs, step), readings)
        return cls(forth, Table.through(even[0], steps, light), True)


def _inverse(readings: Float, light: Float, of: Float) -> Float:
    """Light of some readings, by straight lines between known ones ``of``; the outermost go on."""
    cell = np.clip(np.searchsorted(of, readings) - 1, 0, len(of) - 2)
    share = (readings - of[cell]) / (of[cell + 1] - of[cell])
    return np.asarray(light[cell] + share * (light[cell + 1] - light[cell]))
