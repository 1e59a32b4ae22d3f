"""The rows of a fitted import as a page draws them: measured, predicted, left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.response.fit import ResponseFit
from calibration.response.model import Response
from calibration.response.predict import DriftCourse, predict

Floats = NDArray[np.float64]

MOST_ROWS = 20_000


@dataclass(frozen=True)
class FittedRows:
    """The first rows of a fit in the order recorded; NaN where an output was not read.

    Attributes
    ----------
    at, clock
        (n,) when each row was read, in ``clock``: ``"s"`` or ``"rows"``.
    readings, mean, sd
        (n, M) measured, fitted with the drift followed, and predicted standard deviation [unit].
    bad
        (n,) whether the row was found bad.
    heldout_percent
        (M,) rms error on held-out rows [% of range].
    drift
        `DriftCourse`, None where none could be followed.
    gain
        (M, N) reading per unit of input.
    unit
        Of the readings.
    """

    at: Floats
    clock: str
    readings: Floats
    mean: Floats
    sd: Floats
    bad: NDArray[np.bool_]
    heldout_percent: Floats
    drift: DriftCourse | None
    gain: Floats
    unit: str

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return int(self.readings.shape[1])

    def percent_of_range(self) -> Floats:
        """(n, M) residual in per cent of the range of each output's good readings."""
        good = self.readings[~self.bad]
        read = np.isfinite(good)
        spread = np.where(read, good, -np.inf).max(axis=0) - np.where(read, good, np.inf).min(axis=0)
        return np.asarray(100 * (self.readings - self.mean) / np.where(spread > 0, spread, 1))


def fitted_rows(fit: ResponseFit, response: Response) -> FittedRows:
    """The first rows of an import run as the fit took them, and what it says of them."""
    assert fit.screened is not None
    observations = fit.screened.first(MOST_ROWS)
    rows = np.arange(observations.count) if observations.place is None else np.asarray(observations.place)
    found = predict(response, observations)
    n, m = observations.count, observations.n_outputs
    readings, mean, sd = (np.full((n, m), np.nan) for _ in range(3))
    if response.single:
        which = np.zeros(n, np.intp) if observations.output is None else observations.output.astype(np.intp)
        at: tuple[Any, ...] = (np.arange(n), which)
    else:
        at = (slice(None), slice(None))
    for target, values in ((readings, observations.readings), (mean, found.mean), (sd, found.sd)):
        target[at] = values
    bad = np.isin(rows, [b.index for b in fit.bad_rows])
    clock = rows.astype(np.float64) if observations.at_s is None else observations.at_s.astype(np.float64)
    return FittedRows(
        at=clock,
        clock=observations.clock,
        readings=readings,
        mean=mean,
        sd=sd,
        bad=bad,
        heldout_percent=fit.gate.rms_percent_of_range,
        drift=found.drift,
        gain=response.gain,
        unit=observations.unit,
    )
