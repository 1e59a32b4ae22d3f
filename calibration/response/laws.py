"""The noise law of a response, and how its bench drifts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NoiseLaw:
    """``var = s_m (σ² + κ μ + (ρ μ)²)``, μ the reading above the offset, and what the outputs of a row have in common.

    Attributes
    ----------
    read
        σ [unit]
    shot
        κ [unit]: 1/κ is the number of photons per unit.
    intensity
        ρ [1], independent for each output.
    scale
        (M,) s, variance of each output relative to the law [1].
    common_gain, common_offset
        Standard deviation of a gain [1] and of an offset [unit] that all outputs of a row share.
    stderr
        Standard errors by name of the fitted ones.
    unit
        Of the readings.
    correlation
        (M, M) of the outputs of one row beyond the common gain and offset (mis-measured inputs do that); None where
        they are independent.
    least_light
        Light below which the law was not seen and is not continued [unit].
    tail
        By how much the χ² of the worst good rows exceeds that of normal noise; the bar for bad rows rises by it
        (`calibration.response.tails`).
    """

    read: float
    shot: float
    intensity: float
    scale: Float
    common_gain: float = 0.0
    common_offset: float = 0.0
    stderr: Mapping[str, float] = field(default_factory=dict)
    unit: str = "DN"
    correlation: Float | None = None
    least_light: float = 0.0
    tail: float = 1.0

    @property
    def whitening(self) -> Float | None:
        """(M, M) that makes the outputs of one row independent once each is over its own standard deviation."""
        return None if self.correlation is None else np.asarray(np.linalg.inv(np.linalg.cholesky(self.correlation)))

    def variance(self, light: Float) -> Float:
        """Of the independent part; ``light`` (rows, M) above the offset [unit]; result [unit²]."""
        mu = np.maximum(light, self.least_light)
        return np.asarray(self.read**2 + self.shot * mu + (self.intensity * mu) ** 2)

    @property
    def jitter(self) -> Float:
        """(2, 2) covariance of the gain and the offset that the outputs of one row share."""
        return np.diag([self.common_gain**2, self.common_offset**2])

    @property
    def formula(self) -> str:
        """The law with its numbers."""

        def number(name: str, value: float, unit: str) -> str:
            error = self.stderr.get(name)
            shown = f"{value:.4g}" + (f" ± {error:.1g}" if error else "")
            return f"({shown}{' ' + unit if unit else ''})"

        parts = []
        if self.read:
            parts.append(f"{number('read', self.read, self.unit)}²")
        if self.shot:
            parts.append(f"{number('shot', self.shot, self.unit)}·μ")
        if self.intensity:
            parts.append(f"({number('intensity', self.intensity, '')}·μ)²")
        text = "var(y) = " + (" + ".join(parts) or "0")
        if self.common_gain:
            text += f"; common to a row: gain {number('common_gain', self.common_gain, '')}"
        if self.common_offset:
            text += f"; common to a row: offset {number('common_offset', self.common_offset, self.unit)}"
        if self.correlation is not None:
            largest = float(np.abs(self.correlation - np.eye(len(self.correlation))).max())
            text += f"; outputs of a row correlated by up to {largest:.2f}"
        if np.ptp(self.scale) > 0:
            text += f"; variance of the outputs × {self.scale.min():.3g} … {self.scale.max():.3g}"
        return text

    def document(self) -> dict[str, Any]:
        """JSON types of everything but the arrays, for a file's header."""
        return {
            "read": self.read,
            "shot": self.shot,
            "intensity": self.intensity,
            "common_gain": self.common_gain,
            "common_offset": self.common_offset,
            "least_light": self.least_light,
            "tail": self.tail,
            "stderr": dict(self.stderr),
            "formula": self.formula,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any], scale: Float, correlation: Float | None, unit: str) -> NoiseLaw:
        """Read back from `document` and its arrays."""
        names = ("read", "shot", "intensity", "common_gain", "common_offset", "least_light", "tail")
        numbers = {name: float(document[name]) for name in names}
        return cls(scale=scale, stderr=document["stderr"], unit=unit, correlation=correlation, **numbers)


@dataclass(frozen=True)
class DriftLaw:
    """How gain and offset went on, as far as the fitted file says.

    Attributes
    ----------
    model
        ``"still"``, ``"walk"``, … (`calibration.statistics.drift.track`).
    clock
        ``"s"`` or ``"rows"``.
    walk
        (2,) standard deviation of gain [1] and offset [unit] after one second or row.
    level_covariance
        (2, 2) of the last level, which the response is referred to.
    last_at
        Clock of the last row of the fit.
    """

    model: str
    clock: str
    walk: Float
    level_covariance: Float
    last_at: float

    def document(self) -> dict[str, Any]:
        """JSON types of everything but the arrays, for a file's header."""
        return {"model": self.model, "clock": self.clock, "last_at": self.last_at}
