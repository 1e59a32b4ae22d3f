"""Fits that many tests would do alike, done once in a process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from calibration.bench.timing import Step, StepFit, fit_step
from calibration.fit.screening import ScreenedFit

_steps: dict[tuple[bytes, float, float, str], StepFit] = {}
_channels: dict[str, ScreenedFit] = {}


def fit_step_once(step: Step, panel: str) -> StepFit:
    """The step of a panel, fitted once for all who have the same readings, as all runs on one simulated bench do.

    That is a sixth of the time of a run, and half of that of an alignment; `tests/calibration` is where it is tested.
    """
    key = step.light_dn.tobytes(), step.exposure_s, step.period_s, panel
    if key not in _steps:
        _steps[key] = fit_step(step, panel)
    return _steps[key]


def fit_channel_once(*given: Any) -> ScreenedFit:
    """Gain, crosstalk and noise, likewise: a quarter of the time of a run."""
    *asked, _tell = given
    digest = hashlib.sha256()
    _add(digest, asked)
    if (key := digest.hexdigest()) not in _channels:
        _channels[key] = ScreenedFit(*given)
    return _channels[key]


def _add(digest: Any, value: Any) -> None:
    """All that a value is made of."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape} ".encode() + value.tobytes())
    elif is_dataclass(value):
        _add(digest, [type(value).__name__, *(getattr(value, field.name) for field in fields(value))])
    elif isinstance(value, Mapping):
        _add(digest, [part for item in value.items() for part in item])
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)} parts ".encode())
        for part in value:
            _add(digest, part)
    else:
        assert value is None or isinstance(value, str | int | float | np.generic), type(value)
        digest.update(f"{value!r} ".encode())
