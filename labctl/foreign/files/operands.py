"""An opened measurement as the fit and the prediction take it: without the rows that are unusable."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations
from labctl.foreign.files.archived import Archived
from labctl.foreign.files.capture import Capture
from labctl.foreign.files.rows import KeptRows, RowArray


@dataclass(frozen=True)
class InFile:
    """Where observations lie in the file as given.

    Attributes
    ----------
    rows
        (n,) row of each observation, counted from 0 in the file.
    """

    rows: NDArray[np.int64]

    def row(self, index: int) -> int:
        """Of one observation."""
        return int(self.rows[min(index, len(self.rows) - 1)])

    def words(self, text: str) -> str:
        """A sentence in which rows are observations, with the rows of the file."""
        return re.sub(r"\brow (\d+)", lambda match: f"row {self.row(int(match[1]))}", text)

    def at(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places between observations, as a clock of rows has them."""
        return np.interp(index, np.arange(len(self.rows)), self.rows)


def in_file(measurement: Archived | Capture) -> InFile:
    """Where the observations of a measurement come from."""
    every = measurement.start + np.arange(len(measurement.inputs), dtype=np.int64)
    return InFile(np.setdiff1d(every, np.array(list(measurement.unusable), np.int64), assume_unique=True))


def observations_of(measurement: Archived | Capture) -> Observations:
    """The rows that are usable; what is on the disk stays there until it is sliced."""
    m = measurement
    kept = in_file(m).rows - m.start

    def part(rows: RowArray | None) -> RowArray | None:
        return rows if rows is None or len(kept) == len(rows) else KeptRows(rows, kept)

    return Observations(
        part(m.inputs), m.weights, part(m.readings), part(m.output), part(m.time_s), part(m.group), m.unit
    )
