"""What a run's drift means to the station: the gated figures, and words for those out of spec."""

from __future__ import annotations

import numpy as np

from calibration.fit.run_drift import RunDrift
from labctl.station.model import Limits
from labctl.summary import Metric

JUMPED = "the light jumped by more than a correction can be trusted with; see what switches the source"
MOVED = "the reference frames fit no change of gain and offset: something has moved, calibrate again"
"""What it means when a figure of drift is out of spec."""


def metrics_of(drift: RunDrift, limits: Limits) -> list[Metric]:
    """How far and how fast gain and offset drifted, where they jumped, and whether that was all that changed."""
    course = drift.track
    gain, offset_dn = course.value.T
    walk, error = course.walk_per_sqrt_s, course.walk_relative_stderr
    misfit_max = max(limits.reference_misfit_max, drift.change_by_chance)
    jump = max((abs(float(j.size[0])) for j in course.jumps), default=0.0)
    return [
        Metric.judge("gain_drift", float(np.ptp(gain)), "1"),
        Metric.judge("gain_walk", float(walk[0]), "1/√s", stderr=float(walk[0] * error[0])),
        Metric.judge("offset_drift", float(np.ptp(offset_dn)), "DN"),
        Metric.judge("jumps", len(course.jumps), "1"),
        Metric.judge("gain_jump", jump, "1", maximum=limits.gain_jump_max, words=JUMPED),
        Metric.judge("reference_misfit", drift.change_of_misfit, "1", maximum=misfit_max, words=MOVED),
    ]
