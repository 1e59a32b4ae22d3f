"""The fitted response of a bench: mean and covariance of the readings of a row, and why it has this form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.observations import Observations, Rows
from calibration.statistics.choice import Choice

Float = NDArray[np.float64]


class Structure(Mapping[str, Choice]):
    """`Choice` by subject: gain, crosstalk, nonlinearity, noise, common noise, drift."""

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self._choices = dict(choices)

    def __getitem__(self, subject: str) -> Choice:
        return self._choices[subject]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def as_json(self) -> dict[str, dict[str, Any]]:
        """JSON types only."""
        return {name: asdict(choice) for name, choice in self._choices.items()}


@dataclass(frozen=True)
class NoiseLaw:
    """``var = s_m (σ² + κ μ + (ρ μ)²)``, μ the light above the offset, and what the outputs of a row have in common.

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
        By how much the χ² of the worst good rows exceeds that of normal noise; the bar for bad rows rises by it.
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


@dataclass(frozen=True)
class Response:
    """Everything that predicting needs.

    ``light_m = Σ_k gain_mk (x_k + curve·x_k²)``, ``y_m = offset_m + light_m + detector_m·light_m²``.

    Attributes
    ----------
    offset
        (M,) b [unit]
    gain
        (M, N) Σ_n (1 + X)_mn u_nk w_nk: what one unit of input k adds to output m [unit per input unit].
    weights
        (M, N) the weights that were on the bench.
    curve
        q of the input's transmission curve [1 per input unit].
    detector
        (M,) a of the detector's curve [1 per unit].
    noise, drift
        `NoiseLaw`, `DriftLaw`
    centre
        (M, N) or (1, N): where the mean of the fitted inputs lies.
    offset_variance
        (M,) of the prediction at the centre [unit²].
    factor
        (M, r, N) or (1, r, N): ``factorᵀ factor`` is the covariance of each row of `gain`, or, of a single detector,
        of the map u that all rows share.
    mean_variance
        (M,) what the errors of `gain` add to the variance of a prediction on average [unit²]; used instead of `factor`
        where so many rows were fitted that it hardly matters. None otherwise.
    row_variance
        (M,) of a relative gain error that all inputs of one output share [1].
    interval
        (M,) half width of the 95 % interval in standard deviations, by the held-out residuals (1.96 if normal).
    structure
        `Structure`
    single
        Whether one detector reads one output per row.
    input_range, reading_range
        Smallest and largest value of the fit.
    unit
        Of the readings.
    input_map, output_gain, crosstalk
        u (N,) [unit per input unit], g (M,) [1] and X (M, M) [1], as far as the structure has them.
    stderr
        Standard errors of gain (M, N), offset, input_map, output_gain, crosstalk, detector (arrays of their shapes)
        and curve, by name.
    evidence
        Figures of the fit; JSON types.
    parent
        Id of the response this one replaces.
    acquired
        When the data were taken or taken over; ISO 8601, UTC; empty when nobody said.
    provenance
        Bench, run and file; JSON types.
    """

    offset: Float
    gain: Float
    weights: Float
    curve: float
    detector: Float
    noise: NoiseLaw
    drift: DriftLaw
    centre: Float
    offset_variance: Float
    factor: Float
    row_variance: Float
    interval: Float
    structure: Structure
    single: bool
    input_range: tuple[float, float]
    reading_range: tuple[float, float]
    unit: str
    input_map: Float
    output_gain: Float
    crosstalk: Float
    stderr: Mapping[str, Float]
    evidence: Mapping[str, Any] = field(default_factory=dict)
    mean_variance: Float | None = None
    parent: str | None = None
    acquired: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_outputs(self) -> int:
        """M"""
        return len(self.offset)

    def light(self, rows: Rows) -> Float:
        """(rows, M) or, of a single detector, (rows, 1): readings above the offset without the detector's curve."""
        x = self.curved(rows.inputs)
        if rows.output is None:
            return np.asarray(x @ self.gain.T)
        return np.asarray(np.einsum("rk,rk->r", self.gain[rows.output], x)[:, None])

    def curved(self, inputs: Float) -> Float:
        """Inputs behind the transmission curve, x + q x²."""
        return inputs if self.curve == 0.0 else inputs + self.curve * inputs**2

    def per_output(self, values: Float, rows: Rows) -> Float:
        """(1, M) values of the outputs, or (rows, 1) of those that a single detector read."""
        return values[None, :] if rows.output is None else values[rows.output][:, None]

    def mean(self, light: Float, rows: Rows) -> Float:
        """Expected readings of a bench that has not drifted; like ``light`` [unit]."""
        return np.asarray(self.per_output(self.offset, rows) + light + self.per_output(self.detector, rows) * light**2)

    def slope(self, light: Float, rows: Rows) -> Float:
        """∂y/∂(gain deviation): light (1 + 2 a light) [unit]."""
        return np.asarray(light * (1 + 2 * self.per_output(self.detector, rows) * light))

    def noise_variance(self, light: Float, rows: Rows) -> Float:
        """Of the independent part [unit²]."""
        return np.asarray(self.noise.variance(light) * self.per_output(self.noise.scale, rows))

    def parameter_variance(self, light: Float, rows: Rows) -> Float:
        """What the errors of the parameters add [unit²]."""
        if self.mean_variance is not None:
            known = self.mean_variance + self.offset_variance
            return np.broadcast_to(self.per_output(known, rows), light.shape)
        x = self.curved(rows.inputs)
        if rows.output is None:
            variance = np.empty_like(light)
            for m in range(self.n_outputs):
                off = x - self.centre[min(m, len(self.centre) - 1)]
                variance[:, m] = ((off @ self.factor[m].T) ** 2).sum(1)
        else:
            off = x * self.weights[rows.output] - self.centre[0]
            variance = ((off @ self.factor[0].T) ** 2).sum(1)[:, None]
        shared = self.per_output(self.row_variance, rows) * light**2
        return np.asarray(variance + shared + self.per_output(self.offset_variance, rows))

    def check(self, observations: Observations) -> None:
        """Whether observations are of this bench.

        Raises
        ------
        OutOfDomain
            When the weights differ, or all outputs were read where a single detector was fitted, or the reverse.
        """
        seen = observations.weights.shape
        if seen != self.weights.shape or not np.allclose(observations.weights, self.weights, rtol=1e-6, atol=1e-9):
            raise OutOfDomain(
                "the response was fitted with other weights on the bench",
                expected=f"the {self.weights.shape} weights of the fit",
                seen=f"shape {seen}" if seen != self.weights.shape else "other values",
                hint="fit this bench of its own: labctl import FILE, then labctl fit RUN",
            )
        if observations.single != self.single and observations.readings is not None:
            raise OutOfDomain(
                "the response is of another kind of read-out",
                expected="one reading per row" if self.single else "one reading per row and output",
                seen="one reading per row" if observations.single else "one reading per row and output",
                hint="fit this bench of its own: labctl import FILE, then labctl fit RUN",
            )
