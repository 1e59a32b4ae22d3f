"""`simulation.light.product.Bench` in tensors: the same law and the same random numbers, on the operands' device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simulation.light.accounting import Tally
from simulation.light.few import ENOUGH
from simulation.light.optics import Optics
from simulation.light.recent import Recent
from simulation.light.settings import Noise, Range, Variance
from simulation.light.tensors.detection import Columns, How, Rows, few_counts, read_rows, survey
from simulation.light.tensors.devices import ROWS_AT_ONCE, Precision, kernel, wide
from simulation.light.tensors.flicker import flicker_of_frames
from simulation.light.tensors.showing import Display, TensorPanel, TensorShown, column_light, show_vectors, weigh_passes
from simulation.light.tensors.weights import TensorPlacement
from simulation.light.weights import Weights

ENCODED = ("sign-split", "offset", "differential")
"""Encodings whose passes are written in operations of torch."""
UNLIMITED = Range()
"""Converters that neither clip nor round."""


class TensorBench:
    """A bench at one light level, for operands on one device.

    Parameters
    ----------
    optics, photons_per_mac, variance
        As for `simulation.light.product.Bench`.
    device
        Where operands are.
    compiled
        Whether `torch.compile` makes kernels of detection: one for each kind of noise that occurs, at its first use.
    """

    def __init__(
        self,
        optics: Optics,
        photons_per_mac: float | None,
        variance: Variance,
        device: torch.device,
        *,
        compiled: bool = False,
    ) -> None:
        self.optics, self.photons_per_mac, self.variance, self.device = optics, photons_per_mac, variance, device
        self._placements: Recent[tuple[int, int], TensorPlacement] = Recent()
        self._yield = optics.electrons / optics.photons if optics.photons else optics.quantum_efficiency
        self._panel = TensorPanel.of(optics.display, device)
        self._compiled, self._origin = compiled, object()

    @property
    def shows(self) -> tuple[object, bool]:
        """Equal for benches that take each other's shown matrices, with their light or without it."""
        return self._origin, self._needs_light

    @property
    def clip(self) -> tuple[float, float]:
        """Percentile of the magnitudes that full scale stands for: weights, second operands of attention."""
        return self.optics.clip

    def at(self, photons_per_mac: float) -> TensorBench:
        """The same bench at another light level; what has been placed on it stays there."""
        other = copy(self)
        other.photons_per_mac = photons_per_mac
        return other

    def show(
        self, scaled: Tensor, *, static: bool, operands: torch.dtype = torch.float32, precision: Precision | None = None
    ) -> Weights:
        """Show matrices (B, M, K) that are scaled to −1 … 1. Of those that stay, the place does, too.

        ``operands`` says of what type the model's are, and so in which precision products are computed.
        """
        place = self._place((scaled.shape[-2], scaled.shape[-1]), static)
        weights = place.show_as(scaled.float(), precision or Precision.of(self.device, operands))
        if self._needs_light:
            return weights
        return replace(weights, light=weights.light.new_empty(0))  # nobody multiplies by it

    def product(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = UNLIMITED,
        attention: bool = False,
    ) -> Tensor:
        """`simulation.light.product.Bench.product`; the result is of the type of ``x``."""
        batch, n, k = x.shape
        placement = self._place(weights.shape)
        vectors = x.reshape(-1, k).float().contiguous()
        shown = show_vectors(
            vectors,
            self._display(placement, converters.clip),
            (weights.signed.dtype, weights.light.dtype if self._needs_bright else None),
            self.optics.flicker > 0,
        )
        electrons = self._electrons(shown)
        if self._must_part(shown, weights, electrons):
            return self._in_parts(x, weights, noise, tally, unit, bias, converters, attention)
        rows = self._rows(shown, placement, vectors, electrons, unit, batch)
        per_signal = torch.where(rows.electrons > 0, rows.electrons, 1.0)[:, 0] ** 2
        added = self._spread(shown, weights, batch, attention)
        flicker, uneven = self._flicker(shown, weights, placement, noise)
        read = rows.read[:, 0] + (added + uneven) * per_signal
        passes = self._electrons_of_passes(shown, weights, electrons)
        bright, even = self._brightness(shown, weights, electrons, rows, batch)
        key = self._key(noise.next(batch))
        rows = rows._replace(read=read.float()[:, None], even_light=even, **_counters(key, batch, n, weights.shape[0]))
        columns = self._columns(weights, placement, bias)
        if self.variance == "constant":
            columns = columns._replace(mean_light=torch.ones_like(columns.mean_light))
        y, counted = self._detect(shown.signed, bright, weights, rows, columns, flicker, key, converters, x.dtype)
        taken = self._taken(shown, electrons, placement, counted if passes is None else passes)
        tally.add_later(batch * n, k * weights.shape[0], taken)
        return y

    def _taken(self, shown: TensorShown, electrons: Tensor, placement: TensorPlacement, counted: Tensor) -> Tensor:
        """What `Tally.add_later` counts: `simulation.light.product.Bench` says how."""
        one_by_one = len(self.optics.encoding.weight_factors) // self.optics.detectors
        columns, tiles = shown.sums[1:].sum((1, 2), dtype=wide(self.device))
        passes, frames = one_by_one * placement.shape[0], one_by_one * (len(placement.rows) - 1)
        plane = passes * (shown.sums[0] * electrons).sum() / self._yield
        return torch.stack([passes * columns, plane, counted, frames * tiles, frames * columns, passes * tiles])

    def _in_parts(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        unit: Tensor,
        bias: Tensor | None,
        converters: Range,
        attention: bool,
    ) -> Tensor:
        """Positive and negative elements one after the other."""
        part = Tally()
        first, second = (
            self.product(half, weights, noise, part, unit=unit, converters=Range(converters.clip), attention=attention)
            for half in (x.float().clamp_min(0), (-x.float()).clamp_min(0))
        )
        tally.add_part(x.shape[0] * x.shape[1], weights.shape[0] * weights.shape[1], part)
        y = first - second
        return converters.round(y if bias is None else y + bias).to(x.dtype)

    def _detect(
        self,
        signed: Tensor,
        bright: Tensor | None,
        weights: Weights,
        rows: Rows,
        columns: Columns,
        flicker: Tensor | None,
        key: Tensor,
        converters: Range,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """(B, n, M), and the electrons of all: so many rows at a time that temporaries stay small."""
        batch, (m, _) = len(weights.signed), weights.shape
        n = len(signed) // batch
        out = torch.empty((batch, n, m), dtype=dtype, device=self.device)
        counted = torch.zeros((), dtype=wide(self.device), device=self.device)
        bare = How(tuple(map(int, self._place(weights.shape).rows)), self._one_sided, converters.step, converters.limit)
        draws = self._draws or flicker is not None
        look, read = kernels() if self._compiled else (survey, read_rows)
        for matrices, part in _chunks(batch, n, m):
            taken = _Taken(batch, matrices, part)
            light = None if bright is None else taken.product(bright, weights.light)
            signal, some, these = (
                taken.product(signed, weights.signed),
                Rows(*map(taken.rows, rows)),
                taken.columns(columns),
            )
            flickers, few, how = None if flicker is None else taken.rows(flicker), None, bare
            if draws:
                electrons, kinds = look(light, some, these)
                counted += electrons.sum(dtype=counted.dtype)
                has_few, whole, apart = self._kinds(kinds)
                how = replace(bare, draws=True, whole=whole, apart=apart)
                if has_few:
                    few = few_counts(signal, light, some, these, flickers, key, how)
            y = read(signal, light, some, these, flickers, key, few, how)
            out[matrices, part] = y.view(-1, part.stop - part.start, m)
        return out, counted

    def _kinds(self, kinds: Tensor) -> tuple[bool, bool, bool]:
        """What `survey` found; waits for the device. Shapes alone, on the meta device, are those of many counts."""
        if not self._has_shot or self.device.type == "meta":
            return False, self._has_shot, self._has_shot
        few, whole, apart = kinds.tolist()
        return few, whole, apart

    def _place(self, shape: tuple[int, int], static: bool = False) -> TensorPlacement:
        return self._placements.of(shape, lambda: TensorPlacement(self.optics, shape, self.device), stays=static)

    def _display(self, placement: TensorPlacement, clip: float) -> Display:
        code = self.optics.encoding
        return Display(
            self._panel,
            tuple(int(edge) for edge in placement.columns),
            len(code.input_factors) == 2,
            self.optics.per_pass,
            clip,
            code.input_factors[0],
            code.input_constant,
        )

    @property
    def _one_sided(self) -> bool:
        return len(self.optics.encoding.weight_factors) == 1

    @property
    def _has_shot(self) -> bool:
        return self.photons_per_mac is not None or self.optics.electrons > 0

    @property
    def _draws(self) -> bool:
        """Is there any noise?"""
        optics = self.optics
        return self._has_shot or bool(optics.read_e or optics.flicker or optics.drift or any(optics.spread))

    @property
    def _needs_light(self) -> bool:
        return self._has_shot and self.variance == "exact"

    @property
    def _needs_bright(self) -> bool:
        return self._needs_light or any(self.optics.spread)

    @property
    def _full(self) -> float:
        """As `simulation.light.product.Bench` has it."""
        code = self.optics.encoding
        floors = (1 - self.optics.slm.floor) * (1 - self.optics.display.floor)
        return code.weight_factors[0] * code.input_factors[0] / floors

    def _key(self, words: Any) -> Tensor:
        return torch.from_numpy(words.view(np.int32)[:3].copy()).to(self.device, non_blocking=True)

    def _electrons(self, shown: TensorShown) -> Tensor:
        """(Q, n) detected electrons per unit of light of each input pass; 0: without shot noise, or dark."""
        light, columns, _ = shown.sums.to(wide(self.device))
        if self.photons_per_mac is None:
            return torch.where(light > 0, self.optics.electrons, 0.0).to(light.dtype)
        if not self.optics.per_pass:
            return torch.where(
                light > 0, self._yield * self.photons_per_mac * _ratio(columns.sum(0), light.sum(0)), 0.0
            )
        return self._yield * self.photons_per_mac * _ratio(columns, light)

    def _electrons_of_passes(self, shown: TensorShown, weights: Weights, electrons: Tensor) -> Tensor | None:
        """Electrons of all, where passes have light of their own: what is drawn then counts no electrons of one kind.

        None where it does.
        """
        if not self.optics.per_pass or len(electrons) == 1 or self.device.type == "meta":
            return None
        if not bool((electrons > 0).all(0).any()):
            return None
        outputs, light = weights.shape[0], shown.sums[0]
        if self.variance == "exact" and shown.bright is not None:
            batch, k = len(weights.signed), shown.signed.shape[1]
            past = (shown.bright.view(batch, -1, k) * weights.columns.sum(1)[:, None]).view(-1, k)
            light = torch.stack([torch.where(side, past, 0).sum(1) for side in (shown.signed >= 0, shown.signed < 0)])
        else:
            light = light * weights.mean_light.mean(1).repeat_interleave(light.shape[1] // len(weights.signed))
        return outputs * (electrons * light).sum(dtype=electrons.dtype)

    def _must_part(self, shown: TensorShown, weights: Weights, electrons: Tensor) -> bool:
        """Are there few counts in passes of unequal light, which are no sum of Poisson counts of one kind?"""
        if not self.optics.per_pass or len(electrons) == 1 or not self._has_shot or self.device.type == "meta":
            return False
        brightness = weights.mean_light.mean(1).repeat_interleave(electrons.shape[1] // len(weights.signed))
        expected = (shown.sums[0] * electrons).sum(0) * brightness
        return bool(((electrons > 0).all(0) & (expected < ENOUGH)).any())

    def _rows(
        self,
        shown: TensorShown,
        placement: TensorPlacement,
        vectors: Tensor,
        electrons: Tensor,
        unit: Tensor,
        batch: int,
    ) -> Rows:
        """What detection needs of each product; read noise is that of the camera alone so far."""
        code, blank = self.optics.encoding, torch.zeros_like(shown.scale[:, 0])
        counted = torch.where(electrons[0] > 0, electrons[0], electrons[-1]).float()
        read = len(code.weight_factors) * shown.sums[2].sum(0) * self.optics.read_e**2
        scale = shown.scale[:, 0] * unit.float().repeat_interleave(len(vectors) // batch)
        term = factor = sign = blank
        if self._one_sided:
            inputs = (vectors / shown.scale[:, :1].clamp_min(1e-30)).clamp(-1, 1) - code.input_constant
            term = code.weight_constant * (inputs.to(wide(self.device)) @ placement.bled_ones).float() * scale
            factor = code.input_constant * scale
        else:
            lit = (shown.sums[2] > 0).float()
            sign = lit[0] - lit[1]
        per_row = (counted, blank, read, self._full * scale, term, factor, sign, blank, blank)
        return Rows(*(each[:, None] for each in per_row))

    def _columns(self, weights: Weights, placement: TensorPlacement, bias: Tensor | None) -> Columns:
        """What detection needs of each output."""
        lone, digital = weights.lone, torch.zeros_like(weights.lone)
        if self._one_sided:
            constant = self.optics.encoding.input_constant
            digital, lone = weights.row_sum + self._full / constant * placement.offsets, digital
        added = torch.zeros_like(lone[0]) if bias is None else bias.float()
        return Columns(weights.mean_light, lone, digital, added, placement.strays, placement.unmixing)

    def _spread(self, shown: TensorShown, weights: Weights, batch: int, attention: bool) -> Tensor | float:
        """(n,) variance of the reading error of all passes, in units of signal: (c·mean reading of the pass)² each."""
        c = self.optics.spread[attention]
        if not c or shown.bright is None:
            return 0.0
        n, k = len(shown.signed) // batch, shown.signed.shape[1]
        inputs = torch.stack([column_light(a, b) for a, b in zip(
            shown.signed.view(batch, n, k), shown.bright.view(batch, n, k), strict=True)])  # fmt: skip
        means = torch.einsum("bpk,bqk->pq", weights.columns.float(), inputs) / (batch * n)
        return (shown.scale[:, 1:] ** 2 * (c * means).square().sum(0)).sum(1)

    def _brightness(
        self, shown: TensorShown, weights: Weights, electrons: Tensor, rows: Rows, batch: int
    ) -> tuple[Tensor | None, Tensor]:
        """Vectors for the product that gives the light of all passes; None where it is the rows' even light, (n, 1)."""
        reference, even = rows.electrons[:, 0], rows.even_light
        if not self._has_shot:
            return None, even
        sums, bright = shown.sums[0].sum(0), shown.bright
        if self.optics.per_pass:
            share = (shown.scale[:, 1:].T ** 2 * _ratio(reference.to(electrons.dtype), electrons)).float()
            sums = (shown.sums[0] * share).sum(0)
            if self.variance == "exact" and bright is not None:
                bright = weigh_passes(shown.signed, bright, share)
        if self.variance == "rank-one":
            return None, sums[:, None]
        if self.variance == "constant":
            mean = sums * weights.mean_light.mean(1).repeat_interleave(len(sums) // batch)
            lit = reference > 0  # a dark vector has no noise to share in
            return None, (reference * _ratio(mean, reference).sum() / lit.sum().clamp_min(1))[:, None]
        return bright, even

    def _flicker(
        self, shown: TensorShown, weights: Weights, placement: TensorPlacement, noise: Noise
    ) -> tuple[Tensor | None, Tensor | float]:
        """(n, R, 3) relative excess light, and (n,) what it adds to the variance; `Bench` says how."""
        if not self.optics.flicker and not self.optics.drift:
            return None, 0.0
        batch, n, tiles = len(weights.planes), len(shown.signed), len(placement.rows) - 1
        flicker, uneven = torch.zeros((n, tiles, 3), device=self.device), torch.zeros(n, device=self.device)
        if shown.squares is not None:
            light, squares = (part.view(batch, -1, *part.shape[1:]) for part in (shown.light, shown.squares))
            planes, scatter, key = weights.planes, weights.scatter, self._key(noise.now())
            found = flicker_of_frames(light, squares, planes, scatter, self.optics.flicker, key)
            flicker, uneven = found[0].reshape(n, tiles, 3), found[1].reshape(n)
        if self.optics.drift:
            rng = np.random.Generator(np.random.SFC64([*noise.key, noise.calls]))
            drawn = (self.optics.drift * rng.standard_normal((1, tiles))).astype(np.float32)
            drift = torch.from_numpy(drawn).to(self.device)
            flicker[..., :2] += drift[..., None]
            if self._one_sided:  # of signed passes, as many frames count positive as negative
                flicker[..., 2] += drift * shown.sums[2].sum(0)[:, None]
        if self._one_sided:
            flicker[..., 1] = -flicker[..., 0]
        return flicker, uneven


@lru_cache(1)
def kernels() -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Tensor]]:
    """`survey` and `read_rows`, compiled; the same for all benches."""
    return kernel(survey), kernel(read_rows)


class _Taken:
    """Some rows of some matrices: ``matrices`` and ``part`` of (B, n, …)."""

    def __init__(self, batch: int, matrices: slice, part: slice) -> None:
        self._batch, self._matrices, self._part = batch, matrices, part

    def rows(self, values: Tensor) -> Tensor:
        """(B·n, …) to the rows that are taken."""
        return values.view(self._batch, -1, *values.shape[1:])[self._matrices, self._part].flatten(0, 1)

    def product(self, vectors: Tensor, matrices: Tensor) -> Tensor:
        """Of vectors (B·n, K) on matrices (B, M, K), set by set."""
        if self._batch == 1:
            return torch.nn.functional.linear(vectors[self._part], matrices[0])
        taken = vectors.view(self._batch, -1, vectors.shape[1])[self._matrices, self._part]
        return (taken @ matrices[self._matrices].mT).flatten(0, 1)

    def columns(self, columns: Columns) -> Columns:
        """The outputs of the matrix of each row."""
        if self._batch == 1:
            return columns
        n = self._part.stop - self._part.start
        own = (columns.mean_light, columns.lone, columns.digital)
        mean_light, lone, digital = (each[self._matrices].repeat_interleave(n, 0) for each in own)
        return columns._replace(mean_light=mean_light, lone=lone, digital=digital)


def _chunks(batch: int, n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Cut (B, n, M) into parts of some matrices with all rows, or of one with some."""
    at_once = max(1, ROWS_AT_ONCE // m)
    if n <= at_once:
        together = max(1, at_once // n)
        yield from ((slice(b, min(b + together, batch)), slice(0, n)) for b in range(0, batch, together))
        return
    for b in range(batch):
        yield from ((slice(b, b + 1), slice(r, min(r + at_once, n))) for r in range(0, n, at_once))


def _counters(key: Tensor, batch: int, n: int, m: int) -> dict[str, Tensor]:
    """First counter and stream of each row: `simulation.light.detection.detect` says why."""
    number = torch.arange(n, dtype=torch.int32, device=key.device) * ((m + 1) // 2)
    stream = (key[2] + torch.arange(batch, dtype=torch.int32, device=key.device)) << 2
    return {"first": number.repeat(batch)[:, None], "stream": stream.repeat_interleave(n)[:, None]}


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is."""
    return torch.where(b > 0, a / b, 0.0)
