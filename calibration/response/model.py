"""The fitted response of a bench: mean and covariance of the readings of a row, and why it has this form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.response.cards import card_of
from calibration.response.families import families_of
from calibration.response.laws import DriftLaw, NoiseLaw
from calibration.response.leverage import BEYOND
from calibration.response.observations import Observations, Rows
from calibration.response.power_curve import Bend, PowerCurve
from calibration.response.rails import Rails
from calibration.response.shown import Shown
from calibration.statistics.choice import Choice
from calibration.statistics.difference import Family
from calibration.statistics.tensors import canonical, content_id
from groundwork.notebook import Card, Carded

Float = NDArray[np.float64]

SCHEMA = "labctl.response/2"
FIRST_SCHEMA = "labctl.response/1"
"""Of files whose curves are one square each: of the inputs, and of each detector."""

ARRAYS = (
    "offset",
    "gain",
    "weights",
    "centre",
    "offset_variance",
    "interval",
    "factor",
    "row_variance",
    "input_map",
    "output_gain",
    "crosstalk",
)
"""Of a file, under their names here."""

LEAST_GRADIENT = 0.02
"""Of a detector that hardly answers: what one fiftieth of the slope at the start tells is no longer a measurement."""


@dataclass(frozen=True)
class Expected:
    """What a response says of some rows: (n, M), or (n, 1) of a single detector.

    Attributes
    ----------
    light
        Readings above the offset without the detector's curve, of a bench that has not drifted [unit].
    gradient
        Readings per light there, at the rows' own drift [1].
    still, mean
        Expected readings of that bench, and of the bench at the rows' own drift [unit].
    variance
        Of a new reading about ``mean`` [unit²].
    undetermined
        What of it is there because no row of the fit showed anything like these rows [unit²].
    """

    light: Float
    gradient: Float
    still: Float
    mean: Float
    variance: Float
    undetermined: Float


@dataclass(frozen=True, repr=False)
class Response(Carded):
    """Everything that predicting needs.

    ``light_m = Σ_k gain_mk f(x_k)`` and ``y_m = offset_m + d_m(light_m)`` with the curves f of the inputs and d of the
    detectors; where every input has a curvature of its own at every output, ``light_m`` has that, too (`Bend`).

    Attributes
    ----------
    offset
        (M,) b [unit]
    gain
        (M, N) Σ_n (1 + X)_mn u_nk w_nk: what one unit of input k adds to output m [unit per input unit].
    weights
        (M, N) the weights that were on the bench.
    input_curve, detector_curve
        `PowerCurve` f of all inputs, and d of all detectors or of each.
    noise, drift
        `NoiseLaw`, `DriftLaw`
    centre
        (M, N) or (1, N): where the mean of the fitted inputs lies.
    offset_variance
        (M,) of the prediction at the centre [unit²].
    factor
        (M, r, N) or (1, r, N): ``factorᵀ factor`` is the covariance of each row of `gain`, or, of a single detector,
        of the map u that all rows share.
    bend
        `Bend`, the curvature of single inputs.
    misfit
        (M,) rms of what follows the inputs and no gain or curve here describes [unit]; None where none is proven.
    shown
        `Shown`, what the rows of the fit determined; None of a file from before that was kept.
    squares
        What a file of the first schema says of its curves, q and a (M,): its id rests on it. None of a newer one.
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
        Standard errors of gain (M, N), offset, input_map, output_gain and crosstalk (arrays of their shapes), by
        name.
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
    noise: NoiseLaw
    drift: DriftLaw
    centre: Float
    offset_variance: Float
    factor: Float
    row_variance: Float
    interval: Float
    structure: Mapping[str, Choice]
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
    input_curve: PowerCurve = field(default_factory=PowerCurve)
    detector_curve: PowerCurve = field(default_factory=PowerCurve)
    bend: Bend = field(default_factory=Bend)
    misfit: Float | None = None
    shown: Shown | None = None
    squares: tuple[float, Float] | None = None
    parent: str | None = None
    acquired: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """``res-`` and 16 hexadecimal digits of the SHA-256 over header and arrays."""
        return content_id("res", _document(self), self.arrays())

    @property
    def valid_until(self) -> str:
        """Empty: nobody said for how long the response of a foreign bench holds."""
        return ""

    def card(self) -> Card:
        """What a notebook shows of it."""
        return card_of(self.header(), *self.gain.shape)

    def header(self) -> dict[str, Any]:
        """The JSON header of its file, id included."""
        return {"id": self.id, **json.loads(canonical(_document(self)))}

    def arrays(self) -> dict[str, Float]:
        """The arrays of its file."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        if self.squares is not None:
            arrays["detector"] = self.squares[1]
        arrays["noise_scale"] = self.noise.scale
        for name, curve in (("input_curve", self.input_curve), ("detector_curve", self.detector_curve)):
            if not curve.straight and self.squares is None:
                arrays[name] = curve.coefficients
        if self.bend.powers:
            arrays |= {"bend": self.bend.gain, "bend_level": self.bend.level, "bend_slope": self.bend.slope}
        if self.noise.correlation is not None:
            arrays["noise_correlation"] = self.noise.correlation
        if self.mean_variance is not None:
            arrays["mean_variance"] = self.mean_variance
        if self.misfit is not None:
            arrays["misfit"] = self.misfit
        if self.shown is not None:
            arrays |= self.shown.arrays()
        arrays["drift_walk"], arrays["drift_level_covariance"] = self.drift.walk, self.drift.level_covariance
        arrays |= {f"stderr_{name}": value for name, value in self.stderr.items()}
        return {name: np.ascontiguousarray(a, np.float64) for name, a in arrays.items()}

    def families(self) -> list[Family]:
        """Its numbers by family, to be compared with those of another response of the bench.

        Gains and offsets are those of the end of the file; how well the drift is known there belongs to their errors.
        """
        return families_of(self)

    @property
    def dead(self) -> dict[int, float]:
        """Outputs of the bench that read the same whatever was shown, and what; the response is of the others.

        NaN of one that was not read at all.
        """
        found: Mapping[str, float | None] = self.evidence.get("dead_outputs", {})
        return {int(output): np.nan if value is None else float(value) for output, value in found.items()}

    @property
    def live(self) -> NDArray[np.intp]:
        """(M,) numbers that the outputs of the response have on the bench."""
        dead = self.dead
        return np.array([m for m in range(self.n_outputs + len(dead)) if m not in dead], np.intp)

    @property
    def bench_weights(self) -> Float:
        """(all, N) of all outputs of the bench; 0 of dead ones, whose weights do not matter."""
        found = np.zeros((self.n_outputs + len(self.dead), self.weights.shape[1]))
        found[self.live] = self.weights
        return found

    @property
    def rails(self) -> Rails:
        """At which readings the outputs are cut off."""
        document = self.evidence.get("rails")
        return Rails.none(1 if self.single else self.n_outputs) if document is None else Rails.from_json(document)

    def predict(self, weights: Float, inputs: Float) -> tuple[Float, Float]:
        """Readings of a bench as it was at the end of the fit, and their standard deviation, both (n, M) [unit].

        Parameters
        ----------
        weights
            (M, N) those that the response was fitted with.
        inputs
            (n, N) in the unit of the fit.

        Raises
        ------
        OutOfDomain
            When the weights are others.
        """
        self.check(Observations(inputs, weights))
        n = len(inputs)
        rows = Rows(0, np.asarray(inputs, np.float64), None, None, np.zeros(n))
        spread = np.broadcast_to(self.drift.level_covariance + self.noise.jitter, (n, 2, 2))
        expected = self.expected(rows, np.zeros((n, 2)), spread)
        mean, sd = self.rails.censored(expected.mean, np.sqrt(expected.variance))
        return self.with_dead(mean), self.with_dead(sd, still=True)

    def with_dead(self, values: Float, *, still: bool = False) -> Float:
        """(n, all) of (n, M) values of the outputs: those of dead ones are what they read, or 0 with ``still``."""
        dead = self.dead
        if not dead or values.shape[1] != self.n_outputs:
            return values
        found = np.zeros((len(values), self.n_outputs + len(dead)))
        found[:, self.live] = values
        for output, value in dead.items():
            found[:, output] = 0.0 if still else value
        return found

    @property
    def n_outputs(self) -> int:
        """M"""
        return len(self.offset)

    def light(self, rows: Rows) -> Float:
        """(rows, M) or, of a single detector, (rows, 1): readings above the offset without the detector's curve."""
        x = self.curved(rows.inputs)
        if rows.output is None:
            light = np.asarray(x @ self.gain.T)
        else:
            light = np.asarray(np.einsum("rk,rk->r", self.gain[rows.output], x)[:, None])
        return light + self.bend.light(rows.inputs, rows.output) if self.bend.powers else light

    def curved(self, inputs: Float) -> Float:
        """Inputs behind the transmission curve that all have in common."""
        return self.input_curve.value(inputs)

    def per_output(self, values: Float, rows: Rows) -> Float:
        """(1, M) values of the outputs, or (rows, 1) of those that a single detector read."""
        return values[None, :] if rows.output is None else values[rows.output][:, None]

    def signal(self, light: Float, rows: Rows) -> Float:
        """Readings above the offset: light behind the detectors' curve [unit]."""
        return self.detector_curve.value(light, self._of_detectors(rows))

    def gradient(self, light: Float, rows: Rows) -> Float:
        """∂y/∂light, of a detector that is nearly saturated not quite zero [1]."""
        if self.detector_curve.straight:
            return np.ones_like(light)
        return np.maximum(self.detector_curve.slope(light, self._of_detectors(rows)), LEAST_GRADIENT)

    def _of_detectors(self, rows: Rows) -> Float | None:
        """(J, rows, 1) coefficients of the detectors that a single one stands for; None where each has its column."""
        c = self.detector_curve.coefficients
        return None if rows.output is None or c.shape[1] == 1 else c[:, rows.output][:, :, None]

    def mean(self, light: Float, rows: Rows, level: Float | None = None) -> Float:
        """Expected readings, of a bench that has not drifted or at the ``level`` (n, 2) of each row [unit]."""
        offset = self.per_output(self.offset, rows)
        if level is None:
            return np.asarray(offset + self.signal(light, rows))
        return np.asarray(offset + self.signal(light * (1 + level[:, :1]), rows) + level[:, 1:])

    def slope(self, light: Float, rows: Rows, level: Float | None = None) -> Float:
        """∂y/∂(gain deviation): light times the gradient [unit]."""
        return np.asarray(light * self.gradient(light if level is None else light * (1 + level[:, :1]), rows))

    def noise_variance(self, light: Float, rows: Rows) -> Float:
        """Of the independent part [unit²]."""
        return np.asarray(self.noise.variance(self.signal(light, rows)) * self.per_output(self.noise.scale, rows))

    def parameter_variance(self, light: Float, rows: Rows) -> Float:
        """What the errors of the parameters add, what the model cannot follow and what no row showed [unit²]."""
        return np.asarray(sum(self._parameters_and_open(light, rows)))

    def _parameters_and_open(self, light: Float, rows: Rows) -> tuple[Float, Float]:
        """The variance of a prediction as far as the fit's structure knows it, and what is open beyond [unit²]."""
        known = self._of_parameters(light, rows)
        if self.misfit is not None:
            known = known + self.per_output(self.misfit**2, rows)
        if self.shown is None:
            return known, np.zeros_like(light)
        lever = self.shown.leverage
        found, tested = sum(self.left_open(light, rows)), BEYOND * lever.reference
        steep = self.gradient(light, rows) ** 2
        beyond = np.maximum(found * steep - np.maximum(tested * steep, known), 0)
        return known, np.asarray(beyond + self._beyond_curves(light, rows))

    def _beyond_curves(self, light: Float, rows: Rows) -> Float:
        """Beyond their ranges curves go on as lines, or as parabolas: the variance between the two guesses [unit²]."""
        assert self.shown is not None
        found = np.zeros_like(light)
        if not self.detector_curve.straight:
            own = self._of_detectors(rows)
            c = self.detector_curve.coefficients[:, None, :] if own is None else own
            found += (c * self.detector_curve.parabola(light)).sum(0) ** 2
        if not self.input_curve.straight:
            more = (self.input_curve.coefficients[:, None, :] * self.input_curve.parabola(rows.inputs)).sum(0)
            light_more = more @ self.gain.T if rows.output is None else (self.gain[rows.output] * more).sum(1)[:, None]
            found += (light_more * self.gradient(light, rows)) ** 2
        if self.bend.powers:
            guessed = self.bend.guessed(rows.inputs, self.shown.inputs, rows.output)
            found += (guessed * self.gradient(light, rows)) ** 2
        return found

    def left_open(self, light: Float, rows: Rows) -> tuple[Float, Float]:
        """What the rows of the fit left open of the gains and of the curvatures at some rows, as light [unit²]."""
        assert self.shown is not None
        lever = self.shown.leverage
        if not self.single:
            phi, q = self.seen(light, rows)
            return lever.variance(phi, q, self.gain, self.weights)
        gain, ones = self.input_map[None], np.ones((1, self.weights.shape[1]))
        if rows.output is not None:
            return lever.variance(*self.seen(light, rows), gain, ones)
        parts = []
        for m in range(self.n_outputs):
            through = replace(rows, output=np.full(len(rows), m, np.intp))
            parts.append(lever.variance(*self.seen(light[:, m : m + 1], through), gain, ones))
        gains, curves = (np.concatenate([part[i] for part in parts], axis=1) for i in range(2))
        return gains, curves

    def input_weight(self, noise: Float) -> Float:
        """(N,) standard deviations of the reading that notices it most, per unit of each input; ``noise`` (S,)."""
        return np.asarray((np.abs(self.gain) / np.sqrt(np.maximum(noise, 1e-300))[:, None]).max(0))

    def seen(self, light: Float, rows: Rows, middle: Float | None = None) -> tuple[Float, Float]:
        """Features φ (n, N) of rows and curvatures (2, n, S) of inputs and detector, of a single one with its output.

        ``middle`` is that of `Shown`, which a fit does not have yet.
        """
        x = self.curved(rows.inputs)
        low, high = self.input_range
        squares = (x - self.curved(np.array([[(low + high) / 2]]))) ** 2
        if middle is None:
            assert self.shown is not None
            middle = self.shown.middle
        of_detector = (light - middle) ** 2
        if rows.output is None:
            return x, np.stack([squares @ self.gain.T, of_detector])
        of_inputs = np.einsum("nk,nk->n", squares, self.gain[rows.output])[:, None]
        return x * self.weights[rows.output], np.stack([of_inputs, of_detector])

    def _of_parameters(self, light: Float, rows: Rows) -> Float:
        if self.mean_variance is not None:
            known = self.mean_variance + self.offset_variance
            return np.broadcast_to(self.per_output(known, rows), light.shape)
        x = self.curved(rows.inputs)
        if rows.output is None:
            variance = np.empty_like(light)
            for m in range(self.n_outputs):
                seen = x * self.weights[m] if self.single else x
                off = seen - self.centre[min(m, len(self.centre) - 1)]
                variance[:, m] = ((off @ self.factor[min(m, len(self.factor) - 1)].T) ** 2).sum(1)
        else:
            off = x * self.weights[rows.output] - self.centre[0]
            variance = ((off @ self.factor[0].T) ** 2).sum(1)[:, None]
        shared = self.per_output(self.row_variance, rows) * light**2
        whole = variance + shared + self.per_output(self.offset_variance, rows)
        return np.asarray(whole * self.gradient(light, rows) ** 2)

    def expected(self, rows: Rows, level: Float, spread: Float) -> Expected:
        """Readings of some rows, each at its own drift.

        Parameters
        ----------
        level, spread
            (n, 2) gain deviation [1] and offset [unit] of each row, and (n, 2, 2) their covariance, what the outputs of
            a row have in common included.
        """
        light = self.light(rows)
        drifted = light * (1 + level[:, :1])
        gradient, still = self.gradient(drifted, rows), self.mean(light, rows)
        slope = light * gradient
        common = slope**2 * spread[:, :1, 0] + 2 * slope * spread[:, :1, 1] + spread[:, 1:, 1]
        known, undetermined = self._parameters_and_open(light, rows)
        whole = self.noise_variance(drifted, rows) + known + undetermined + common
        return Expected(light, gradient, still, self.mean(light, rows, level), whole, undetermined)

    def check(self, observations: Observations) -> None:
        """Whether observations are of this bench.

        Raises
        ------
        OutOfDomain
            When the weights differ, or all outputs were read where a single detector was fitted, or the reverse.
        """
        seen = observations.weights
        outputs = self.n_outputs + len(self.dead)
        if len(seen) == outputs != self.n_outputs:
            seen = seen[self.live]
        if seen.shape != self.weights.shape or not np.allclose(seen, self.weights, rtol=1e-6, atol=1e-9):
            alike = seen.shape == self.weights.shape
            raise OutOfDomain(
                "the response was fitted with other weights on the bench",
                expected=f"the {(outputs, self.weights.shape[1])} weights of the fit",
                seen="other values" if alike else f"shape {observations.weights.shape}",
                hint="fit this bench of its own: labctl import FILE, then labctl fit RUN",
            )
        if observations.single != self.single and observations.readings is not None:
            raise OutOfDomain(
                "the response is of another kind of read-out",
                expected="one reading per row" if self.single else "one reading per row and output",
                seen="one reading per row" if observations.single else "one reading per row and output",
                hint="fit this bench of its own: labctl import FILE, then labctl fit RUN",
            )


def _document(r: Response) -> dict[str, Any]:
    curves: dict[str, Any] = (
        {"curve": r.squares[0]}
        if r.squares
        else {
            "curves": {
                "input": r.input_curve.document(),
                "detector": r.detector_curve.document(),
                "each": r.bend.document(),
            }
        }
    )
    return {
        "schema": FIRST_SCHEMA if r.squares else SCHEMA,
        "parent": r.parent,
        "acquired": r.acquired,
        "provenance": dict(r.provenance),
        "unit": r.unit,
        "single": r.single,
        **curves,
        "noise": r.noise.document(),
        "drift": r.drift.document(),
        "domain": {"inputs": list(r.input_range), "readings": list(r.reading_range)},
        "structure": {name: choice.document() for name, choice in r.structure.items()},
        "stderr": sorted(r.stderr),
        "evidence": dict(r.evidence),
        **({} if r.shown is None else {"shown": r.shown.document()}),
    }
