"""A bench that somebody else measured, under matrices that were never on it.

Signed operands are shown as non-negative ones between the ends of what the fit has seen, in tiles of its inputs and
outputs; every reading has the response's curve, noise, common jitter, rails and tails; what is decoded by the fit's own
numbers is added up digitally.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.errors import OutOfDomain
from calibration.machine.encoding import ENCODINGS, Encoding, encoding
from calibration.response.model import Response
from calibration.response.observations import Rows
from calibration.response.tails import student_degrees
from simulation.benches.carried import Cells, cannot
from simulation.benches.multiplier import Family, Scaled
from simulation.benches.partial_sums import PartialSums
from simulation.benches.tables import POINTS, Detectors, Table, backwards
from simulation.light.accounting import Tally
from simulation.light.optics import PAPER_CLIP
from simulation.light.settings import AS_IS, Noise, Range

Float = NDArray[np.float64]

OTHER_LIGHT = (
    "other light than its own: photons are those of the part of its noise that goes with the light, which is taken to "
    "do so in any light; the source is set for each vector, brighter than in the recording where its inputs are darker "
    "than they were there; the curves, and what does not go with the light, are taken to stay"
)
JITTER, DRIFT = 1, 2
"""Streams of random numbers besides that of single readings."""


@dataclass(frozen=True)
class Imported:
    """A response as something to multiply on.

    Attributes
    ----------
    response
        `Response`
    clip
        As of `simulation.light.optics.Optics`.
    device_seed
        None: the bench is what the fit says. A number: one of the benches that the fit could have come from.
    """

    response: Response
    clip: tuple[float, float] = PAPER_CLIP
    device_seed: int | None = None

    @property
    def name(self) -> str:
        """Of the calibration."""
        return self.response.id

    @property
    def quantum_efficiency(self) -> float:
        """1: its photons are given as those that would be detected."""
        return 1.0

    @property
    def electrons(self) -> float:
        """Above zero, for it has light of its own."""
        return 1.0 / self.response.noise.shot if self.response.noise.shot else 1.0

    def bench(self, family: Family, photons_per_mac: float | None) -> ImportedBench:
        """The bench, with the signs of a family, in its own light or, dimmer, in light of a stated level.

        Raises
        ------
        OutOfDomain
            When the response cannot carry other weights, or has no way for the family or the light.
        """
        if isinstance(family, PartialSums):
            return ImportedBench(self, encoding("sign-split"), family.bits, photons_per_mac)
        if family.name not in ENCODINGS:
            raise cannot(
                self.response,
                "one reading of an intensity at each output: sign-split, offset or partial-sums:BITS",
                f"--encoding {family.name}",
            )
        return ImportedBench(self, encoding(family.name), None, photons_per_mac)


@dataclass(frozen=True)
class Tiled:
    """B matrices on the bench, cut into R × T tiles of its size.

    Attributes
    ----------
    gain
        (P, B, T, R, M, N) float32 of each weight pass, as the bench has it [unit per input unit].
    level
        (P, B, T, R, M) of its readings besides [unit].
    bend
        (J, P, B, T, R, M, N) float32; J = 0 where no input is curved by itself.
    dark_sum
        (P, B, T, R, M) what the darkest inputs give [input unit].
    row_sum
        (P, B, T, R, M) of the operands 0 … 1.
    shape
        (M, K) of the matrices.
    """

    gain: NDArray[np.float32]
    level: Float
    bend: NDArray[np.float32]
    dark_sum: Float
    row_sum: Float
    shape: tuple[int, int]


@dataclass(frozen=True)
class Inputs:
    """How inputs transmit.

    Attributes
    ----------
    dark
        (N,) what the darkest input transmits [input unit].
    span
        What an operand of 1 adds at every input [input unit].
    back
        From what is transmitted to inputs; None if that is the same.
    range
        Darkest and brightest input [input unit].
    """

    dark: Float
    span: float
    back: Table | None
    range: tuple[float, float]


class ImportedBench:
    """See `simulation.benches.multiplier.Multiplier`.

    A light level is that of its source, whose brightness is set for each vector so that its inputs have so many photons
    in the mean, as those of other benches: no more than if all of them were as bright as the brightest of the
    recording, in whose light the detectors were seen. Photons are told by the part of the noise whose variance goes
    with the light; below the least light of the recording, at the same brightness, it stays what it was there. What the
    panels transmit stays; so do the noise and the offset that do not go with the light.
    """

    def __init__(self, source: Imported, code: Encoding, bits: int | None, photons_per_mac: float | None) -> None:
        self.response, self.clip = source.response, source.clip
        self.cells = Cells.of(self.response)
        self._code, self._bits = code, bits
        self._drawn = None
        if source.device_seed is not None:
            self._drawn = self.cells.drawn(np.random.default_rng(source.device_seed))
        if len(code.input_factors) == 1 and not (self.cells.proportional and not self.response.bend.powers):
            raise cannot(self.response, "gains in proportion to the weights, for what leaks must be known", code.name)
        if len(code.input_factors) == 1 and self.cells.low > 0:
            raise cannot(
                self.response, "weights from zero on", f"from {self.cells.low:g} on, encoded with an {code.name}"
            )
        self.inputs, self.outputs = len(self.cells.used), self.response.n_outputs
        self._detectors = Detectors.of(self.response.detector_curve, self.outputs)
        self._misfit = 0.0 if self.response.misfit is None else self.response.misfit**2
        if not self._detectors.rises:
            raise cannot(self.response, "readings that rise with the light", "a detector that falls again")
        self._inputs = self._curve_of_inputs()
        self._photons = None if photons_per_mac is None else self._possible(photons_per_mac)

    def _possible(self, photons_per_mac: float) -> float:
        """A light level, of which the noise and the curve of the readings are known."""
        response = self.response
        if not response.noise.shot:
            raise OutOfDomain(
                "the noise of this bench has no part that goes with the light, so that photons cannot be told",
                device=response.id,
                action="simulating",
                expected="no light level: its own light",
                seen=f"{photons_per_mac:g} photons per MAC; {response.noise.formula}",
                hint="leave out --photons-per-mac, or simulate a preset: labctl presets",
            )
        brightest = np.full((1, self.cells.slope.shape[1]), self._inputs.range[1])
        most = float(self._at_plane(self.response.curved(brightest))[0]) / (self.outputs * self.inputs)
        if photons_per_mac > most:
            raise OutOfDomain(
                "an imported bench cannot be brighter than it was measured: how it reads more light is not known",
                device=response.id,
                action="simulating",
                expected=f"at most {most:.4g} photons per MAC",
                seen=f"{photons_per_mac:g}",
                hint="leave out --photons-per-mac for its own light, or state less",
            )
        return photons_per_mac

    def not_measured(self, total: Tally) -> list[str]:
        """What is taken and not known, in words, after the products of ``total``."""
        found = self.cells.not_measured()
        if self._photons is not None:
            found.append(OTHER_LIGHT)
        if total.outside:
            low, high = self.response.reading_range
            percent = 100 * total.outside / total.output_conversions
            found.append(
                f"{percent:.3g} % of the readings are outside {low:.6g} … {high:.6g} "
                f"{self.response.unit}, the range of the fit: its curves go on as straight lines there, and its noise "
                "not below that of the least light"
            )
        return found

    def at(self, photons_per_mac: float) -> ImportedBench:
        other = copy(self)
        other._photons = self._possible(photons_per_mac)
        return other

    def show(self, scaled: Tensor, *, static: bool) -> Tiled:
        batch, m, k = scaled.shape
        n, outputs = self.inputs, self.outputs
        tiles, rows = -(-k // n), -(-m // outputs)
        padded = np.zeros((batch, rows * outputs, tiles * n))
        padded[:, :m, :k] = scaled.clamp(-1, 1).double().numpy()
        parts = self._code.split_weight(padded)
        parts[:, :, m:], parts[:, :, :, k:] = 0.0, 0.0
        parts = parts.reshape(len(parts), batch, rows, outputs, tiles, n).transpose(0, 1, 4, 2, 3, 5)
        weights = self._weights(parts)
        gain, bend = self.cells.gain(weights), self.cells.bend(weights)
        level = np.zeros(gain.shape[:-1])
        if self._drawn is not None:
            error, level = self.cells.error(self._drawn, weights)
            gain, level = gain + error, np.broadcast_to(level, gain.shape[:-1])
            bend = bend + self.cells.bend_error(self._drawn, weights)
        dark = parts @ self._inputs.dark[self.cells.used]
        return Tiled(gain.astype(np.float32), level, bend.astype(np.float32), dark, parts.sum(-1), (m, k))

    def _weights(self, parts: Float) -> Float:
        """Operands (…, M, n) 0 … 1 of the used inputs to weights (…, M, N) of the bench, which make all gains alike."""
        cells = self.cells
        weights = np.full((*parts.shape[:-1], cells.slope.shape[1]), cells.low)
        weights[..., cells.used] += (cells.high - cells.low) * parts * self._least[:, None] / cells.slope[:, cells.used]
        return weights

    @cached_property
    def _least(self) -> Float:
        """(M,) smallest slope of each output, to which all of its cells are dimmed [unit per input unit]."""
        return np.asarray(self.cells.slope[:, self.cells.used].min(1))

    def _curve_of_inputs(self) -> Inputs:
        """Between the darkest and the brightest input that the fit has seen."""
        cells = self.cells
        low, high = max(self.response.input_range[0], 0.0), self.response.input_range[1]
        step = (high - low) / (POINTS - 3)
        grid = np.asarray(low - step + step * np.arange(POINTS), np.float64)
        found = np.repeat(grid[:, None], cells.slope.shape[1], axis=1)
        found[:, cells.used] = cells.transmitted(found)[:, cells.used]
        if not (np.diff(found[1:-1, cells.used], axis=0) > 0).all():
            raise cannot(self.response, "inputs from zero on, of which more is brighter", f"{low:g} … {high:g}")
        span = float((found[-2] - found[1])[cells.used].min())
        is_straight = self.response.input_curve.straight and not self.response.bend.powers
        return Inputs(found[1], span, None if is_straight else backwards(grid, found), (low, high))

    def shown(self, operand: Float) -> Float:
        """Inputs of the bench (n, N) that transmit operands (n, used) 0 … 1; unused ones are dark [input unit]."""
        curve = self._inputs
        target = np.repeat(curve.dark[None], len(operand), axis=0)
        target[:, self.cells.used] += curve.span * operand
        return target if curve.back is None else np.clip(curve.back(target), *curve.range)

    def moments(self, inputs: Float, weights: Float) -> tuple[Float, Float]:
        """Expected readings (n, M) of inputs (n, N) behind weights (M, N), and their standard deviation [unit].

        Common jitter and the drift that is left are in it, what the fit does not know of its own numbers is not.
        """
        gain, bend = self.cells.gain(weights)[None], self.cells.bend(weights)[:, None]
        light = self._light(self._behind(inputs), gain, bend)[:, 0]
        mean, own, slope = self._reading(light)
        spread = self.response.drift.level_covariance + self.response.noise.jitter
        common = slope**2 * spread[0, 0] + 2 * slope * spread[0, 1] + spread[1, 1]
        return self.response.rails.censored(mean, np.sqrt(own + common))

    def _behind(self, inputs: Float) -> list[Float]:
        """What inputs (n, N) let through, and what bends it, each (n, N): the same for all weights."""
        bend = self.response.bend
        return [self.response.curved(inputs), *(bend.terms(inputs) if bend.powers else ())]

    def _light(self, behind: list[Float], gain: NDArray[Any], bend: NDArray[Any]) -> Float:
        """(n, R, M) behind R tiles of gains (R, M, N), with curvature (J, R, M, N)."""
        tiles, outputs, wide = gain.shape
        straight, *curves = behind
        light = straight.astype(gain.dtype) @ gain.reshape(-1, wide).T
        for each, curve in zip(bend, curves, strict=True):
            light += curve.astype(gain.dtype) @ each.reshape(-1, wide).T
        return np.asarray(light.reshape(len(straight), tiles, outputs), np.float64)

    def _reading(self, light: Float) -> tuple[Float, Float, Float]:
        """Of light (…, M): the mean reading, the variance of each by itself, and what a relative change would add."""
        flat = light.reshape(-1, light.shape[-1])
        every, r = Rows(0, np.empty((len(flat), 0)), None, None, np.zeros(len(flat))), self.response
        own = r.noise_variance(flat, every) + self._misfit
        found = r.mean(flat, every), own, r.slope(flat, every)
        mean, own, slope = (each.reshape(light.shape) for each in found)
        return mean, own, slope

    def product(
        self,
        x: Tensor,
        weights: Tiled,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        batch, n, _ = x.shape
        first = int(noise.next(batch)[2])
        sums = np.empty((batch, n, weights.shape[0]))
        for b in range(batch):
            vectors, key = Scaled.of(x[b], converters.clip), (*noise.key, first + b)
            decoded = self._sum(vectors.values.astype(np.float64), weights, b, key, tally)
            sums[b] = decoded * (vectors.scale.astype(np.float64) * float(unit[b]))[:, None]
        y = torch.from_numpy(sums.astype(np.float32))
        return converters.round(y if bias is None else y + bias)

    def _sum(self, scaled: Float, weights: Tiled, b: int, key: tuple[int, int, int], tally: Tally) -> Float:
        """(n, M) of one matrix: all frames, decoded and added."""
        n, k = scaled.shape
        passes, _, tiles, rows = weights.dark_sum.shape[:4]
        parts = self._code.split_input(np.pad(scaled, ((0, 0), (0, tiles * self.inputs - k))))
        parts[:, :, k:] = 0.0
        total = np.zeros((n, rows, self.outputs))
        level, brightness = self._drift(key), self._brightness(parts, tiles)
        counted, photons, frames = 0.0, 0.0, 0
        for t in range(tiles):
            for q, c in enumerate(self._code.input_factors):
                operand = parts[q][:, t * self.inputs : (t + 1) * self.inputs]
                lit = operand.any(1)
                behind = self._behind(self.shown(operand)[lit])
                frames += int(lit.sum())
                for p, a in enumerate(self._code.weight_factors):
                    light = self._light(behind, weights.gain[p, b, t], weights.bend[:, p, b, t])
                    light = brightness[lit, None, None] * light + weights.level[p, b, t]
                    frame = ((t * 2 + q) * 2 + p) * 3
                    read, seen = self._read(light, brightness[lit], level, (*key, frame), tally)
                    counted += seen
                    known = weights.dark_sum[p, b, t]
                    decoded = np.broadcast_to(known, total.shape).copy()
                    decoded[lit] = self._decode(read) / brightness[lit, None, None]
                    total += a * c * (decoded - (known if len(parts) == 1 else 0.0))
                photons += passes * rows * float((brightness[lit] * self._at_plane(behind[0])).sum())
        y = total.reshape(n, -1)[:, : weights.shape[0]] / self._inputs.span
        if len(parts) == 1:
            v = self._code.weight_constant * self._code.input_factors[0] * parts[0][:, :k].sum(1)
            w = self._code.input_constant * self._code.weight_factors[0] * weights.row_sum[0, b].sum(0).reshape(-1)
            y += v[:, None] + w[: weights.shape[0]] + self._code.weight_constant * self._code.input_constant * k
        shots = passes * rows * (self.outputs if self.response.single else 1)
        elements = passes * rows * self.outputs * self.inputs * frames
        tally.add(n, k * weights.shape[0], elements, photons, counted)
        tally.convert(shots * frames, shots * frames * self.inputs, passes * rows * self.outputs * frames)
        return np.asarray(y)

    def _brightness(self, parts: Float, tiles: int) -> Float:
        """(n,) the source over that of the measurement, for input passes (Q, n, K) of each vector; 1: the same."""
        ones = np.ones(parts.shape[1])
        if self._photons is None:
            return ones
        photons, frames = 0 * ones, 0 * ones
        for operand in (part[:, t * self.inputs : (t + 1) * self.inputs] for part in parts for t in range(tiles)):
            lit = operand.any(1)
            photons[lit] += self._at_plane(self.response.curved(self.shown(operand[lit])))
            frames += lit
        wanted = self._photons * self.outputs * self.inputs * frames
        return np.divide(wanted, photons, out=ones, where=photons > 0)

    def _read(
        self, light: Float, brightness: Float, level: Float, stream: tuple[int, ...], tally: Tally
    ) -> tuple[Float, float]:
        """Readings (n, R, M) above the offset, as the bench gives them, and the electrons of all of them.

        The noise is not below that of the least light of the recording, had its source had the ``brightness`` (n,).
        """
        r, shape = self.response, light.shape
        shared = (shape[0], shape[1], shape[2] if r.single else 1)
        jitter = _normal((*shared, 2), (*stream[:-1], stream[-1] + JITTER)) * np.sqrt(np.diag(r.noise.jitter))
        drifted = light * (1 + level[0] + jitter[..., 0])
        signal = drifted if self._detectors.forth is None else self._detectors.forth(drifted)
        law, least = replace(r.noise, least_light=0.0), r.noise.least_light * brightness[:, None, None]
        own = law.variance(np.maximum(signal, least)) * law.scale + self._misfit
        z = self._deviates(shape, stream)
        found = r.offset + signal + level[1] + jitter[..., 1] + np.sqrt(own) * z
        rails = r.rails
        found = np.clip(found, rails.floor, rails.ceiling)
        if self._bits is not None:
            steps = 2**self._bits - 1
            step = (r.reading_range[1] - min(r.reading_range[0], 0.0)) / steps
            found = np.clip(np.rint(found / step), -steps, steps) * step
        tally.outside += int(((found < r.reading_range[0]) | (found > r.reading_range[1])).sum())
        shot = r.noise.shot
        return found - r.offset, float(signal.sum() / shot) if shot else 0.0

    def _deviates(self, shape: tuple[int, ...], stream: tuple[int, ...]) -> Float:
        """Of unit variance: normal or Student's, correlated as the outputs of a row are."""
        if self._degrees is None:
            z = _normal(shape, stream)
        else:
            rng = np.random.Generator(np.random.SFC64(list(stream)))
            z = rng.standard_t(self._degrees, shape) * np.sqrt((self._degrees - 2) / self._degrees)
        return z if self._mixed is None else np.asarray(z @ self._mixed)

    @cached_property
    def _mixed(self) -> Float | None:
        """(M, M) what makes deviates correlated as the outputs of a row are; None where they are not."""
        correlation = self.response.noise.correlation
        return None if correlation is None else np.asarray(np.linalg.cholesky(correlation).T)

    @cached_property
    def _degrees(self) -> float | None:
        return student_degrees(self.response.noise.tail, self.outputs)

    def _drift(self, key: tuple[int, int, int]) -> Float:
        """(2,) gain and offset by which the bench has drifted, one for each matrix that is shown."""
        values, vectors = np.linalg.eigh(self.response.drift.level_covariance)
        return np.asarray(vectors @ (np.sqrt(np.maximum(values, 0.0)) * _normal((2,), (*key, DRIFT))))

    def _decode(self, reading: Float) -> Float:
        """Readings above the offset to sums of operands, in units of transmitted input: by the fit's own numbers."""
        light = reading if self._detectors.back is None else self._detectors.back(reading)
        unmixed = light if self._unmixing is None else light @ self._unmixing.T
        return np.asarray(unmixed / (self._least * (self.cells.high - self.cells.low)))

    @cached_property
    def _unmixing(self) -> Float | None:
        mix = self.cells.mix
        return None if np.array_equal(mix, np.eye(len(mix))) else np.asarray(np.linalg.inv(mix), np.float64)

    def _at_plane(self, transmitted: Float) -> Float:
        """(n,) photons of frames (n, N) under full weights, as far as they would be detected, in its own light."""
        shot = self.response.noise.shot
        if not shot:
            return np.zeros(len(transmitted))
        full = self.cells.slope * self.cells.high
        return np.asarray((transmitted @ full.T).sum(1) / shot)


def _normal(shape: tuple[int, ...], stream: tuple[int, ...]) -> Float:
    """Standard normal deviates: those of a row depend on the stream and the row's place alone."""
    return np.random.Generator(np.random.SFC64(list(stream))).standard_normal(shape)
