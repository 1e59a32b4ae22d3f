"""Rows of which some outputs may be cut off, or are missing: the others stay, and those are drawn as they are expected.

The fit weighs whole rows. A reading that is missing is therefore filled in as its own fit expects it, with noise of the
noise law: at the fixed point of that (Dempster, Laird & Rubin 1977; with noise, Tanner & Wong 1987) it says nothing of
its own, and a fit without it is what is found. What was read at a rail is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.following import follow
from calibration.response.model import Response
from calibration.response.observations import Array, Observations, Rows
from calibration.response.rails import Rails
from calibration.response.residuals import reduce_all

Float = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

MOST = 0.5  # of the outputs of a row: where more are cut off, the row is left out
SEED = 0  # the same recording gives the same fit


@dataclass(frozen=True)
class Filled:
    """Readings of some rows, of which some were drawn.

    Attributes
    ----------
    rows
        (k,) ascending numbers of the rows.
    readings
        (k, M)
    drawn
        (k, M) which of them were drawn, not read.
    """

    rows: Indices
    readings: Float
    drawn: Mask

    def into(self, observations: Observations, rows: Indices) -> Observations:
        """The same observations, of the rows ``rows`` (n,), with the readings that were drawn in place of others."""
        if not len(self.rows) or observations.readings is None:
            return observations
        place = np.searchsorted(rows, self.rows)
        drawn = np.zeros(observations.readings.shape, bool)
        drawn[place] = self.drawn
        return observations.with_readings(_Patched(observations.readings, place, self.readings), drawn)


class _Patched:
    """An array with some rows replaced when it is sliced."""

    def __init__(self, array: Array, places: Indices, values: Float) -> None:
        self._array, self._places, self._values = array, places, values
        self.shape = array.shape

    def __getitem__(self, key: slice) -> Float:
        start, stop, _ = key.indices(self.shape[0])
        found = np.array(self._array[start:stop], np.float64)
        first, last = np.searchsorted(self._places, [start, stop])
        found[self._places[first:last] - start] = self._values[first:last]
        return found


@dataclass(frozen=True)
class Course:
    """Gain and offset of every row, by the nearest row before it that was followed.

    Attributes
    ----------
    level, spread
        (n, 2) and (n, 2, 2): how far they are known, and what they scatter by from row to row.
    """

    level: Float
    spread: Float

    @classmethod
    def of(cls, response: Response, observations: Observations, sure: Indices) -> Course:
        """By the rows ``sure`` (k,), ascending, of which no reading stands at a rail."""
        n, jitter = observations.count, response.noise.jitter
        kept = observations.selected(sure, sure, np.arange(observations.n_outputs))
        try:
            followed = follow(reduce_all(response, kept), jitter, tail=response.noise.tail)
        except FitError:
            return cls(np.zeros((n, 2)), np.broadcast_to(jitter, (n, 2, 2)))
        near = np.clip(np.searchsorted(sure, np.arange(n), side="right") - 1, 0, len(sure) - 1)
        return cls(followed.level[near], followed.covariance[near] + jitter)


def near_rails(response: Response, observations: Observations, rails: Rails, course: Course) -> Mask:
    """(n, M) or (n, 1) which readings may have been cut off, by what is expected of them."""
    found = np.zeros((observations.count, len(rails.floor) if not observations.single else 1), bool)
    for rows in observations.chunks():
        at = slice(rows.start, rows.start + len(rows))
        light, level = response.light(rows), course.level[at]
        sd = np.sqrt(response.noise_variance(light * (1 + level[:, :1]), rows))
        found[at] = rails.near(response.mean(light, rows, level), sd)
    return found


def fill(response: Response, observations: Observations, course: Course, rows: Indices, cut: Mask) -> Filled:
    """Draw readings that may have been cut off, as a response expects them at the drift and flicker of their row.

    Parameters
    ----------
    observations
        Every row with its own readings.
    rows, cut
        (k,) ascending, and (k, M): the rows to fill, and what of them may be cut off.
    """
    if not len(rows):
        return Filled(rows, np.zeros((0, observations.n_outputs)), cut)
    parts = [observations.rows(int(row), int(row) + 1) for row in rows]
    readings = np.concatenate([p.readings for p in parts if p.readings is not None])
    of = Rows(0, np.concatenate([p.inputs for p in parts]), readings, None, np.concatenate([p.at_s for p in parts]))
    level, spread, light = course.level[rows], course.spread[rows], response.light(of)
    sd = np.sqrt(response.noise_variance(light * (1 + level[:, :1]), of))
    slope = response.slope(light, of, level)
    off = np.where(cut, 0.0, (readings - response.mean(light, of, level)) / sd)
    shared = np.where(cut[:, :, None], 0.0, np.stack([slope / sd, 1 / sd], axis=2))
    # gain and offset of the row by the outputs that were not cut off: the mean of a normal law given these
    information = np.einsum("kma,kmb->kab", shared, shared)
    pull = np.linalg.solve(np.eye(2) + information @ spread, np.einsum("kma,km->ka", shared, off)[:, :, None])
    level = level + (spread @ pull)[:, :, 0]
    noise = np.random.default_rng(SEED).normal(size=readings.shape)
    return Filled(rows, np.where(cut, response.mean(light, of, level) + sd * noise, readings), cut)
