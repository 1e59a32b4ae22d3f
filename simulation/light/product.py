"""Products on the bench, all passes folded: what they come out as, with the noise that they would have.

With V = V⁺ − V⁻ and v = v⁺ − v⁻ the realised operands and T, D the transmissions shown, the light of the passes that
count positive, (++) and (−−), and of those that count negative, (+−) and (−+), is

    Z± = (Z ± S) / 2,    S = Σ_k (T⁺ − T⁻)(D⁺ − D⁻)       one matmul of signed operands
                         Z = Σ_k (T⁺ + T⁻)(D⁺ + D⁻)       one of magnitudes,

and sums of independent Poisson counts are Poisson: the four passes fold into two counts of means e·Z± with no
approximation, e being electrons per unit of light. `simulation.light.kernels.detect` draws their difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulation.light.accounting import Tally
from simulation.light.kernels import (
    FEW_COUNTS,
    column_light,
    detect,
    flicker_of_frames,
    round_bytes,
    split_signs,
    squares_of_passes,
    weigh_passes,
)
from simulation.light.optics import Optics
from simulation.light.weights import BYTE, Placement, Weights

Variance = Literal["exact", "rank-one", "constant"]
VARIANCES: tuple[Variance, ...] = ("exact", "rank-one", "constant")

BYTE_ERROR = 0.005
"""Largest expected error of a row's shot-noise variance for which magnitudes are multiplied as bytes: 0.25 % of σ."""
ENOUGH = 16 * float(FEW_COUNTS)
"""Mean counts of a row from which on its outputs can be taken to have more than `FEW_COUNTS`, all but a few."""


@dataclass(frozen=True)
class Range:
    """What the converters on both sides take.

    Attributes
    ----------
    clip
        Magnitude at which vectors are clipped.
    step, limit
        Rounding of the results and their largest size; 0: neither.
    """

    clip: float = np.inf
    step: float = 0.0
    limit: float = 0.0

    def round(self, y: Tensor) -> Tensor:
        """Results as converted."""
        return (
            y
            if not self.step
            else (y / self.step).round().clamp(-round(self.limit / self.step), round(self.limit / self.step))
            * self.step
        )


@dataclass
class Noise:
    """The state of a layer's noise: two words of key, and how many products were drawn."""

    key: tuple[int, int]
    calls: int = 0

    def next(self) -> NDArray[np.uint32]:
        """Key of the next product."""
        self.calls += 1
        return self.now()

    def now(self) -> NDArray[np.uint32]:
        """Key of the last product."""
        return np.array([*self.key, self.calls & 0x3FFFFFFF, 0], np.uint32)


@dataclass(frozen=True)
class Shown:
    """Vectors on the display.

    Attributes
    ----------
    signed, bright
        (n, K): signed operands in units of the vectors' scale, and the light of all passes together, which may be
        left out: (1, K).
    scale
        (n, 3): scale; that of the plus and the minus pass, relative to it.
    light
        (n, Q, T): Σ_k D of each pass on each column tile, 0 if it is not shown.
    sums
        (3, Q, n): light, columns and tiles that are shown, of each pass.
    """

    signed: NDArray[np.float32]
    bright: NDArray[np.float32]
    scale: NDArray[np.float32]
    light: NDArray[np.float32]
    sums: NDArray[np.float32]


class Bench:
    """Optics with a light level and a way to reckon the noise.

    Parameters
    ----------
    optics
        `Optics`
    photons_per_mac
        Photons at the weight plane per MAC and pass, averaged over a vector's elements; the bench's own light if None.
    variance
        Of the shot noise: ``"exact"``; ``"rank-one"``, from each vector's and each output's mean light; or
        ``"constant"``, one for all outputs of a product. Both cheaper ones are for sweeps.
    """

    def __init__(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> None:
        self.optics, self.photons_per_mac, self.variance = optics, photons_per_mac, variance
        self._placements: dict[tuple[int, int], Placement] = {}
        self._yield = optics.electrons / optics.photons if optics.photons else optics.quantum_efficiency

    def place(self, shape: tuple[int, int]) -> Placement:
        """Where a matrix of ``shape`` lies."""
        if shape not in self._placements:
            self._placements[shape] = Placement(self.optics, shape)
        return self._placements[shape]

    def product(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = Range(),
        attention: bool = False,
    ) -> Tensor:
        """Vectors (B, n, K) float32, each set on its own matrix: (B, n, M).

        Parameters
        ----------
        unit
            (B,) what a full weight stands for.
        bias
            (M,) added digitally.
        converters
            `Range`
        attention
            Which of the preset's reading errors applies.
        """
        batch, n, k = x.shape
        placement = self.place(weights.shape)
        vectors = np.ascontiguousarray(x.numpy()).reshape(-1, k)
        shown = self._show(vectors, placement, converters.clip)
        electrons = self._electrons(shown)
        if self._must_part(shown, weights, electrons):
            halves = [
                self.product(
                    part, weights, noise, tally, unit=unit, converters=Range(converters.clip), attention=attention
                )
                for part in (x.clamp_min(0), (-x).clamp_min(0))
            ]
            y = halves[0] - halves[1]
            return converters.round(y if bias is None else y + bias)
        spread = self._spread(shown, weights, batch, attention)
        reference = np.where(electrons[0] > 0, electrons[0], electrons[-1])
        signal = _matmul(shown.signed, weights.signed, batch)
        factors = np.zeros((batch * n, 8), np.float32)
        factors[:, 0] = reference
        code = self.optics.encoding
        frames = len(code.weight_factors) * shown.sums[2].sum(0)
        factors[:, 3] = frames * self.optics.read_e**2 + spread * np.where(reference > 0, reference, 1.0) ** 2
        scale = shown.scale[:, 0] * _each(unit.numpy(), n)
        floors = (1 - self.optics.slm.floor) * (1 - self.optics.display.floor)
        full = code.weight_factors[0] * code.input_factors[0] / floors
        factors[:, 4] = full * scale
        one_sided = len(code.weight_factors) == 1
        if one_sided:
            inputs = np.clip(vectors / np.maximum(shown.scale[:, :1], 1e-30), -1, 1).astype(np.float32)
            factors[:, 5] = code.weight_constant * placement.bled_sum(inputs - np.float32(code.input_constant)) * scale
            factors[:, 6] = code.input_constant * scale
        else:
            factors[:, 7] = np.subtract(*(shown.sums[2] > 0).astype(np.float32))
        flicker, uneven = self._flicker(shown, weights, placement, noise, one_sided)
        factors[:, 3] += uneven * np.where(reference > 0, reference, 1.0) ** 2
        light, columns = self._light(shown, weights, electrons, factors, batch)
        counted = np.zeros(batch * n)
        add = np.zeros((3, weights.shape[0]), np.float32)
        add[2] = placement.stray
        if bias is not None:
            add[1] = bias.numpy()
        rank_one = light is _NOTHING
        for b in range(batch):
            rows = slice(b * n, (b + 1) * n)
            if one_sided:
                add[0] = weights.row_sum[b].numpy() + full / code.input_constant * placement.offset
                columns[b, 1] = 0.0
            detect(
                signal[rows], light if rank_one else light[rows], factors[rows], columns[b], rank_one, one_sided,
                placement.rows, flicker[rows], placement.taps, add, np.float32(converters.step),
                np.float32(converters.limit), noise.next(), counted[rows],
            )  # fmt: skip
        frames_each = len(code.weight_factors) * weights.shape[0]
        passes = frames_each * int(shown.sums[1].sum(dtype=np.float64))
        plane = frames_each * float((shown.sums[0] * electrons).sum()) / self._yield
        tally.add(len(vectors), k * weights.shape[0], passes, plane, float(counted.sum()))
        return torch.from_numpy(signal).view(batch, n, -1)

    def _show(self, vectors: NDArray[np.float32], placement: Placement, clip: float) -> Shown:
        n, k = vectors.shape
        tiles, panel = len(placement.columns) - 1, self.optics.display
        signed, bright = np.empty((n, k), np.float32), np.empty((n, k), np.float32)
        scale = np.zeros((n, 3), np.float32)
        if len(self.optics.encoding.input_factors) == 2:
            light, sums = np.empty((n, 2, tiles), np.float32), np.empty((3, 2, n), np.float32)
            if self.variance != "exact" and not any(self.optics.spread):
                bright = bright[:1]
            split_signs(
                vectors, placement.columns, panel.table, panel.midpoints, panel.shown, np.float32(panel.floor),
                self.optics.per_pass, np.float32(clip), signed, bright, scale, light, sums,
            )  # fmt: skip
            return Shown(signed, bright, scale, light, sums)
        scale[:, 0], scale[:, 1] = np.minimum(np.abs(vectors).max(1), clip), 1.0
        scaled = np.clip(vectors / np.maximum(scale[:, :1], np.finfo(np.float32).tiny), -1, 1)
        bright[:] = panel.show(self.optics.encoding.split_input(scaled)[0])
        np.subtract(bright, panel.floor, out=signed)
        signed[~np.isfinite(vectors).all(1)] = np.nan
        light = np.add.reduceat(bright, placement.columns[:-1], axis=1)[:, None]
        lit = light > 0
        sums = np.stack([light.sum(2).T, (lit @ placement.widths).T, lit.sum(2).T]).astype(np.float32)
        return Shown(signed, bright, scale, light, sums)

    def _electrons(self, shown: Shown) -> NDArray[np.float64]:
        """(Q, n) detected electrons per unit of light of each input pass; 0: without shot noise, or dark."""
        light, columns, _ = shown.sums
        if self.photons_per_mac is None:
            return np.where(light > 0, self.optics.electrons, 0.0)
        if not self.optics.per_pass:
            each = self._yield * self.photons_per_mac * _ratio(columns.sum(0), light.sum(0))
            return np.where(light > 0, each, 0.0)
        return self._yield * self.photons_per_mac * _ratio(columns, light)

    def _must_part(self, shown: Shown, weights: Weights, electrons: NDArray[np.float64]) -> bool:
        """Are there few counts in passes of unequal light, which are no sum of Poisson counts of one kind?"""
        if not self.optics.per_pass or not electrons.all(0).any():
            return False
        expected = (shown.sums[0] * electrons).sum(0) * float(weights.mean_light.mean())
        return bool(expected.min() < ENOUGH)

    def _spread(self, shown: Shown, weights: Weights, batch: int, attention: bool) -> NDArray[np.float64] | float:
        """(n,) variance of the reading error of all passes, in units of signal: (c·mean reading of the pass)² each."""
        c = self.optics.spread[attention]
        if not c:
            return 0.0
        k = shown.signed.shape[1]
        n = len(shown.signed) // batch
        inputs = np.zeros((batch, 2, k), np.float32)
        for b in range(batch):
            column_light(shown.signed[b * n : (b + 1) * n], shown.bright[b * n : (b + 1) * n], inputs[b])
        means = np.einsum("bpk,bqk->pq", weights.columns.numpy(), inputs) / (batch * n)
        return np.asarray((shown.scale[:, 1:] ** 2 * np.square(c * means).sum(0)).sum(1), np.float64)

    def _light(
        self,
        shown: Shown,
        weights: Weights,
        electrons: NDArray[np.float64],
        factors: NDArray[np.float32],
        batch: int,
    ) -> tuple[NDArray[np.float32] | NDArray[np.int32], NDArray[np.float32]]:
        """Light of all passes for `detect`, (n, M), and its ``column`` (B, 2, M); fills in ``factors``.

        Where the passes differ, `Shown.bright` is made to count in electrons of the first that is lit.
        """
        columns = np.stack([weights.mean_light.numpy(), weights.lone.numpy()], 1)
        reference = factors[:, 0]
        if not reference.any():
            return _NOTHING, columns
        sums = shown.sums[0].sum(0)
        if self.optics.per_pass:
            share = (shown.scale[:, 1:].T ** 2 * _ratio(reference, electrons)).astype(np.float32)
            sums = (shown.sums[0] * share).sum(0)
            if self.variance == "exact":
                weigh_passes(shown.signed, shown.bright, share)
        mean = _each(columns[:, 0].mean(1), len(sums) // batch)
        if self.variance == "rank-one":
            factors[:, 2] = sums
            return _NOTHING, columns
        if self.variance == "constant":
            factors[:, 2] = reference * np.mean(_ratio(sums * mean, reference))
            columns[:, 0] = 1.0
            return _NOTHING, columns
        found = weights.bytes
        if found is not None and (sums * mean * reference)[reference > 0].min() >= ENOUGH:
            step = np.float32(max(float(shown.bright.max()), 1e-30) / BYTE)
            rounded, stats = np.empty(shown.bright.shape, np.int8), np.empty((len(sums), 4), np.float32)
            round_bytes(shown.bright, step, rounded, stats)
            total, rest, squares, power = stats.T
            error = (squares * found.spread**2 + power * found.error**2) / np.maximum(total * found.mean, 1e-15) ** 2
            if error.max() <= BYTE_ERROR**2:
                factors[:, 1], factors[:, 2] = step * found.step, rest * step
                return torch._int_mm(torch.from_numpy(rounded), found.values).numpy(), columns
        factors[:, 1] = 1.0
        return _matmul(shown.bright, weights.light, batch), columns

    def _flicker(
        self, shown: Shown, weights: Weights, placement: Placement, noise: Noise, one_sided: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(n, R, 3) relative excess light of the passes that count positive and negative, and past the modulators.

        Each frame has its own; how much a pass and a column tile weigh in their sum is taken from the mean light of
        their operands. By how much that differs from output to output follows from the variance of the weights, and
        adds noise of each output alone: (n,) its mean variance, in units of signal.
        """
        n, tiles = len(shown.signed), len(placement.rows) - 1
        flicker, uneven = np.zeros((n, tiles, 3), np.float32), np.zeros(n, np.float32)
        if self.optics.intensity:
            planes = weights.planes.numpy()  # (B, R, P, T)
            squares = np.empty_like(shown.light)
            squares_of_passes(shown.signed, placement.columns, squares)
            by_matrix = len(planes), -1
            light, squares = (part.reshape(*by_matrix, *part.shape[1:]) for part in (shown.light, squares))
            flicker_of_frames(
                light, squares, planes, weights.scatter.numpy(), np.float32(self.optics.intensity), noise.now(),
                flicker.reshape(*by_matrix, tiles, 3), uneven.reshape(by_matrix),
            )  # fmt: skip
        if self.optics.drift:
            rng = np.random.Generator(np.random.SFC64([*noise.key, noise.calls]))
            drift = (self.optics.drift * rng.standard_normal((1, tiles))).astype(np.float32)
            flicker[..., :2] += drift[..., None]
            if one_sided:  # of signed passes, as many frames count positive as negative
                flicker[..., 2] += drift * shown.sums[2].sum(0)[:, None]
        if one_sided:
            flicker[..., 1] = -flicker[..., 0]
        return flicker, uneven


_NOTHING = np.empty((0, 0), np.float32)


def _matmul(vectors: NDArray[np.float32], matrices: Tensor, batch: int) -> NDArray[np.float32]:
    """(B·n, K) on (B, M, K), set by set: (B·n, M)."""
    x = torch.from_numpy(vectors)
    if batch == 1:
        return np.asarray(torch.nn.functional.linear(x, matrices[0]).numpy())
    return np.asarray((x.view(batch, -1, x.shape[1]) @ matrices.mT).flatten(0, 1).numpy())


def _each(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(B,) to (B·n,): what `numpy.repeat` gives, without its price."""
    return np.broadcast_to(values[:, None], (len(values), n)).reshape(-1)


def _ratio(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """a / b, 0 where b is."""
    return np.asarray(np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0), np.float64)
