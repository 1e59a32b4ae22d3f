"""An opened measurement as the fit and the prediction take it."""

from __future__ import annotations

from calibration.response.observations import Observations
from labctl.imports.archived import Archived
from labctl.imports.capture import Capture


def observations_of(measurement: Archived | Capture) -> Observations:
    """The same rows; what is on the disk stays there until it is sliced."""
    m = measurement
    return Observations(m.inputs, m.weights, m.readings, m.output, m.time_s, m.group, m.unit)
