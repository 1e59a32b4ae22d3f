"""Rows of which some outputs may have been cut off: the others stay, and those are drawn from what is expected of them.

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
        return observations.with_readings(_Patched(observations.readings, place, self.readings))


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


def fill(response: Response, observations: Observations, sure: Indices, rows: Indices, cut: Mask) -> Filled:
    """Draw readings that may have been cut off, as a response expects them at the drift and flicker of their row.

    Parameters
    ----------
    observations
        Every row with its own readings.
    sure
        (n,) ascending numbers of rows of which no reading was cut off: they tell the drift.
    rows, cut
        (k,) ascending, and (k, M): the rows to fill, and what of them may be cut off.
    """
    parts = [observations.rows(int(row), int(row) + 1) for row in rows]
    if not parts:
        return Filled(rows, np.zeros((0, observations.n_outputs)), cut)
    readings = np.concatenate([p.readings for p in parts if p.readings is not None])
    of = Rows(0, np.concatenate([p.inputs for p in parts]), readings, None, np.concatenate([p.at_s for p in parts]))
    level, spread = _drift(response, observations, sure, rows)
    light = response.light(of)
    slope, sd = response.slope(light, of, level), np.sqrt(response.noise_variance(light, of))
    off = np.where(cut, 0.0, (readings - response.mean(light, of, level)) / sd)
    shared = np.where(cut[:, :, None], 0.0, np.stack([slope / sd, 1 / sd], axis=2))
    # gain and offset of the row by the outputs that were not cut off: the mean of a normal law given these
    information = np.einsum("kma,kmb->kab", shared, shared)
    pull = np.linalg.solve(np.eye(2) + information @ spread, np.einsum("kma,km->ka", shared, off)[:, :, None])
    level = level + (spread @ pull)[:, :, 0]
    noise = np.random.default_rng(SEED).normal(size=readings.shape)
    return Filled(rows, np.where(cut, response.mean(light, of, level) + sd * noise, readings), cut)


def _drift(response: Response, observations: Observations, sure: Indices, rows: Indices) -> tuple[Float, Float]:
    """(k, 2) and (k, 2, 2) gain and offset of some rows, by the sure row before each, and how far they scatter."""
    kept = observations.selected(sure, sure, np.arange(observations.n_outputs))
    try:
        followed = follow(reduce_all(response, kept), response.noise.jitter, tail=response.noise.tail)
    except FitError:
        return np.zeros((len(rows), 2)), np.broadcast_to(response.noise.jitter, (len(rows), 2, 2))
    near = np.clip(np.searchsorted(sure, rows, side="right") - 1, 0, len(sure) - 1)
    return followed.level[near], followed.covariance[near] + response.noise.jitter
