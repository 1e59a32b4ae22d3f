"""The numbers of a response by family, to be compared with those of another response of the bench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.response.laws import DriftLaw, NoiseLaw
from calibration.statistics.difference import Family

Float = NDArray[np.float64]


class Numbers(Protocol):
    """What a `Response` has of numbers and their errors, under the names that it has them."""

    @property
    def offset(self) -> Float: ...
    @property
    def gain(self) -> Float: ...
    @property
    def weights(self) -> Float: ...
    @property
    def input_map(self) -> Float: ...
    @property
    def crosstalk(self) -> Float: ...
    @property
    def factor(self) -> Float: ...
    @property
    def row_variance(self) -> Float: ...
    @property
    def stderr(self) -> Mapping[str, Float]: ...
    @property
    def evidence(self) -> Mapping[str, Any]: ...
    @property
    def noise(self) -> NoiseLaw: ...
    @property
    def drift(self) -> DriftLaw: ...
    @property
    def single(self) -> bool: ...
    @property
    def unit(self) -> str: ...


def families_of(r: Numbers) -> list[Family]:
    """Every block of parameters that the response has, each as far as its structure has it.

    Gains and offsets are those of the end of the file. How well the drift is known there belongs to their errors, and
    how far the bench goes by itself within one recording: another one of it ends somewhere else.
    """
    unit = f"{r.unit} per input"
    walked = r.drift.walk**2 * float(r.evidence.get("drift_span", 0.0))
    gain_level, offset_level = (float(v) for v in np.maximum(np.diag(r.drift.level_covariance), 0) + walked)
    common = float(np.sqrt(gain_level))
    found = []
    if "gain" in r.stderr:
        free = _independent(r, "gain", r.gain.size)
        found.append(Family("gain", unit, r.gain, r.stderr["gain"], free, common, scaled=True))
    else:
        free = _independent(r, "gain", r.input_map.size)
        found.append(Family("input map", unit, r.input_map, r.stderr["input_map"], free, common, True))
    found.append(_output_gain(r, unit, common))
    found.append(_offset(r, offset_level))
    if "crosstalk" in r.stderr:
        found.append(_crosstalk(r))
    law = r.noise
    units = {"read": r.unit, "shot": r.unit, "intensity": "1", "common_gain": "1", "common_offset": r.unit}
    for name, its_unit in units.items():
        if law.stderr.get(name):
            value, error = np.array([getattr(law, name)]), np.array([law.stderr[name]])
            found.append(Family(f"{name.replace('_', ' ')} noise", its_unit, value, error, 1))
    return found


def _output_gain(r: Numbers, unit: str, common: float) -> Family:
    """(M,) what all inputs together do to an output: much better known than the gain of any one of them."""
    total = r.gain.sum(axis=1)
    if r.single:
        variance = ((r.weights @ r.factor[0].T) ** 2).sum(axis=1) + r.row_variance * total**2
    else:
        variance = (r.factor.sum(axis=2) ** 2).sum(axis=1)
    free = _independent(r, "output gain", total.size)
    return Family("output gain", unit, total, np.sqrt(variance), free, common, scaled=True)


def _offset(r: Numbers, level: float) -> Family:
    """The last level of the drift moves all offsets alike: M correlated errors count as their effective number."""
    own = np.broadcast_to(np.asarray(r.stderr["offset"], np.float64), r.offset.shape) ** 2
    m = own.size
    apart = _independent(r, "offset", m)
    # errors of which all share the same part are as many as these
    trace, alike = own.sum() + m * level, own.sum() * m / apart
    of_square = own.sum() ** 2 / apart + 2 * level * alike + (m * level) ** 2
    free = max(round(float(trace**2 / of_square)), 1) if of_square > 0 else m
    return Family("offset", r.unit, r.offset, np.sqrt(own + level), free, alike=level > own.mean())


def _independent(r: Numbers, name: str, size: int) -> int:
    """As how many numbers the errors of ``size`` entries count; of an older fit, no more than its gains had."""
    known = r.evidence.get("independent_numbers", {}).get(name)
    if known is None:
        known = r.evidence.get("gain_parameters", {}).get("determined", size)
    return int(np.clip(round(float(known)), 1, size))


def _crosstalk(r: Numbers) -> Family:
    error = np.asarray(r.stderr["crosstalk"], np.float64)
    if error.shape == r.crosstalk.shape:
        return Family("crosstalk", "1", r.crosstalk, error, int((error > 0).sum()))
    return Family("crosstalk", "1", np.array([r.crosstalk[1, 0], r.crosstalk[0, 1]]), error, error.size)
