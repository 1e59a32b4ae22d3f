"""What a recording must be for a fit to begin: rows enough, and numbers that can be squared."""

from __future__ import annotations

import numpy as np

from calibration.errors import FitError
from calibration.response.observations import Observations
from calibration.response.residuals import columns

SHORTEST = 12  # rows
LARGEST = 1e60  # number whose fourth power is still one


def require_rows(observations: Observations) -> None:
    """Refuse fewer rows than any fit needs, and rows without readings."""
    if observations.readings is None or observations.count < SHORTEST:
        raise FitError(
            "too little to fit",
            action="fit response",
            expected=f"{SHORTEST} rows with readings at least",
            seen="no readings" if observations.readings is None else f"{observations.count} rows",
        )


def require_size(observations: Observations) -> None:
    """Refuse numbers whose squares and products are none any more."""
    largest = float(np.abs(observations.weights).max())
    for rows in observations.chunks():
        largest = max(largest, float(np.abs(rows.inputs).max()), float(np.abs(np.nan_to_num(columns(rows))).max()))
    if largest > LARGEST:
        raise FitError(
            "the numbers are too large to be measurements",
            action="fit response",
            expected=f"inputs, weights and readings up to {LARGEST:g}",
            seen=f"{largest:.3g}",
            hint="look for a unit or a missing value written as a huge number, and take it out",
        )
