"""Fits that many tests would do alike, done once in a process."""

from __future__ import annotations

from calibration.bench.timing import Step, StepFit, fit_step

_fits: dict[tuple[bytes, float, float, str], StepFit] = {}


def fit_step_once(step: Step, panel: str) -> StepFit:
    """The step of a panel, fitted once for all who have the same readings, as all runs on one simulated bench do.

    That is a sixth of the time of a run, and half of that of an alignment; `tests/calibration` is where it is tested.
    """
    key = step.light_dn.tobytes(), step.exposure_s, step.period_s, panel
    if key not in _fits:
        _fits[key] = fit_step(step, panel)
    return _fits[key]
