"""Products on the bench, all passes folded: what they come out as, with the noise that they would have.

With V = V⁺ − V⁻ and v = v⁺ − v⁻ the realised operands and T, D the transmissions shown, the light of the passes that
count positive, (++) and (−−), and of those that count negative, (+−) and (−+), is

    Z± = (Z ± S) / 2,    S = Σ_k (T⁺ − T⁻)(D⁺ − D⁻)       one matmul of signed operands
                         Z = Σ_k (T⁺ + T⁻)(D⁺ + D⁻)       one of magnitudes,

and sums of independent Poisson counts are Poisson: the four passes fold into two counts of means e·Z± with no
approximation, e being electrons per unit of light. `simulation.light.detection.detect` draws their difference.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulation.light.accounting import Tally
from simulation.light.counting import Expected, Exposure, expect
from simulation.light.detection import Outputs, Products, Reading, detect
from simulation.light.few import BYTE, BYTE_ERROR, ENOUGH, FEW_ROWS, NOT_LOOKED_AT, READ, Held, Live, multiply_at_once
from simulation.light.flicker import draw_flicker, find_flicker
from simulation.light.multiplying import multiply, multiply_halves
from simulation.light.new_matrices import show_new
from simulation.light.optics import Optics
from simulation.light.percentile import rank_of
from simulation.light.preparing import Prepared, prepare_many
from simulation.light.settings import AS_IS, Noise, Range, Variance
from simulation.light.sharing import is_shared, share_rows
from simulation.light.showing import (
    Shown,
    column_light,
    light_of_passes,
    round_bytes,
    split_signs,
    weigh_passes,
)
from simulation.light.weights import Placement, Weights, half_products


class Bench:
    """A bench at one light level: it multiplies vectors by matrices that are shown on it, and draws the noise.

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
        self._yield = optics.electrons / optics.photons if optics.photons else optics.quantum_efficiency

    def at(self, photons_per_mac: float) -> Bench:
        """The same bench at another light level; what has been placed on it stays there."""
        other = copy(self)
        other.photons_per_mac = photons_per_mac
        vars(other).pop("_exposure", None)  # what was remembered of the light before
        return other

    def place(self, shape: tuple[int, int], *, static: bool = False) -> Placement:
        """Where a matrix of ``shape`` lies; ``static``: it will be asked for again, however many others are."""
        found: Placement = self.optics.placements.of(shape, lambda: Placement(self.optics, shape), stays=static)
        return found

    def product(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        """Multiply B sets of n vectors, each set by its own matrix, in light: (B, n, K) to (B, n, M) float32.

        Parameters
        ----------
        x
            (B, n, K) float32 vectors.
        weights
            The matrices, from `Placement.show`.
        noise, tally
            Both move on: the noise by B products, the tally by what this product took.
        unit
            (B,) the weight that full transmission stands for.
        bias
            (M,) added digitally.
        converters
            Clips the vectors, and clips and rounds the results.
        attention
            Whether the reading error of attention products applies, or that of linear layers.
        """
        batch, _, k = x.shape
        placement = self.place(weights.shape)
        vectors = np.ascontiguousarray(x.numpy()).reshape(-1, k)
        if self._in_one_light:
            y = self.at_once(x, weights, noise, tally, unit=unit, bias=bias, converters=converters)
            if y is not None:
                return y
            return self._multiplied(vectors, weights, placement, noise, tally, unit, bias, converters)
        shown = self._show(vectors, placement, converters.clip)
        products, share = Products(*np.zeros((8, len(vectors)), np.float32)), np.empty((2, len(vectors)), np.float32)
        gathered = np.empty(len(vectors), np.float32)
        told = products.electrons, products.read, products.unit, products.sign
        expected = Expected(
            *expect(shown.sums, shown.scale, self._exposure, unit.numpy(), weights.brightness, told, share, gathered)
        )
        if self.optics.per_pass and expected.fewest_of_both < ENOUGH:
            part = Tally()
            halves = [
                self.product(
                    half, weights, noise, part, unit=unit, converters=Range(converters.clip), attention=attention
                )
                for half in (x.clamp_min(0), (-x).clamp_min(0))
            ]
            tally.add(len(vectors), k * weights.shape[0], part.passes, part.photons, part.electrons)
            tally.convert(part.frames, part.input_conversions, part.output_conversions)
            y = halves[0] - halves[1]
            return converters.round(y if bias is None else y + bias)
        if self._one_sided:
            self._add_constants(products, shown, placement, vectors)
        flicker = self._flicker(shown, weights, placement, noise, products)
        if self.optics.spread[attention]:
            per_signal = np.where(products.electrons > 0, products.electrons, 1.0) ** 2
            products.read[:] += self._spread(shown, weights, batch, attention) * per_signal
        own = self.optics.per_pass and expected.fewest_of_both < np.inf
        electrons = self._electrons_of_passes(shown, weights, share, products.electrons) if own else None
        known = Prepared(shown, products, expected, flicker, share, gathered)
        return self._detected(known, weights, placement, noise, tally, bias, converters, electrons)

    def at_once(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        live: Live = NOT_LOOKED_AT,
    ) -> Tensor | None:
        """`product` of a few vectors, in one compiled call that looks at the same time whether the matrix is another.

        Returns
        -------
        None, with nothing drawn or counted, if it is; and where only `product` has a way.
        """
        if not self._is_at_once(x.shape[1]):
            return None
        placement = self.place(weights.shape)
        return self._few(x, weights.held, placement, noise, tally, unit.numpy(), bias, converters, live)

    def pair_at_once(
        self, x: Tensor, matrices: Tensor, noise: Noise, tally: Tally, *, converters: Range = AS_IS
    ) -> Tensor | None:
        """Show matrices (B, M, K) that are new, and multiply a few vectors (B, n, K) by them, in one compiled call.

        Each is shown on the scale of the percentile that `clip` states for attention.

        Returns
        -------
        None, with nothing drawn or counted, where an operand is not finite; and where only `show` and `product` have a
        way, or have more threads for it.
        """
        (batch, each, k), m = x.shape, matrices.shape[1]
        if not self._is_at_once(each):
            return None
        placement, by_columns = self.place((m, k)), not matrices.is_contiguous() and matrices.mT.is_contiguous()
        if (elements := placement.elements) is None or is_shared(batch, m * k):
            return None
        lies = (matrices.mT if by_columns else matrices.contiguous()).numpy()
        is_finite, unit, held = show_new(
            lies, by_columns, rank_of(self.clip[1], m * k), elements, np.float32(self.optics.display.floor),
            placement.placed,
        )  # fmt: skip
        if not is_finite:
            return None
        return self._few(x, held, placement, noise, tally, unit, None, converters, NOT_LOOKED_AT)

    def _is_at_once(self, each: int) -> bool:
        """Whether one compiled call has a way for so many vectors of each matrix."""
        return each <= FEW_ROWS and self.variance == "exact" and self._in_one_light

    def _few(
        self,
        x: Tensor,
        held: Held,
        placement: Placement,
        noise: Noise,
        tally: Tally,
        unit: NDArray[np.float32],
        bias: Tensor | None,
        converters: Range,
        live: Live,
    ) -> Tensor | None:
        batch, each, k = x.shape
        m = held.signed.shape[1]
        light = self._exposure, np.float32(self.optics.flicker)
        y, keys = np.empty((batch * each, m), np.float32), noise.now_and_next()
        became, columns, electrons, tiles, counted = multiply_at_once(
            np.ascontiguousarray(x.numpy()).reshape(-1, k), live, held, placement.placed, unit,
            (self.optics.display.levels, np.float32(converters.clip)), light, keys,
            (held.nothing[0] if bias is None else bias.numpy(), *converters.rounding), y,
        )  # fmt: skip
        if became != READ:
            return None
        noise.calls += batch
        self._count((columns, electrons, tiles), batch * each, (m, k), placement, counted, tally)
        return torch.from_numpy(y).view(batch, each, m)

    def _multiplied(
        self,
        vectors: NDArray[np.float32],
        weights: Weights,
        placement: Placement,
        noise: Noise,
        tally: Tally,
        unit: Tensor,
        bias: Tensor | None,
        converters: Range,
    ) -> Tensor:
        """`product` where all passes are in one light: what comes before the multiplication is one compiled call."""
        prepared = prepare_many(
            vectors, len(vectors) if self.variance == "exact" else 0, placement.columns, len(placement.rows) - 1,
            (self.optics.display.levels, np.float32(converters.clip)), self._exposure,
            (unit.numpy(), weights.brightness, weights.planes.numpy(), weights.scatter.numpy()),
            np.float32(self.optics.flicker), noise.now(),
        )  # fmt: skip
        return self._detected(prepared, weights, placement, noise, tally, bias, converters, None)

    def _detected(
        self,
        prepared: Prepared,
        weights: Weights,
        placement: Placement,
        noise: Noise,
        tally: Tally,
        bias: Tensor | None,
        converters: Range,
        electrons: float | None,
    ) -> Tensor:
        """(B, n, M) numbers that are read of what is prepared; ``electrons``: of all, where passes have their own."""
        shown, products, expected, flicker, share, gathered = prepared
        batch = len(weights.signed)
        signal = multiply(shown.signed, weights.signed, batch)
        light, mean_light = self._light(shown, weights, expected.fewest, products, (share, gathered))
        reading = Reading(light is _NOTHING, self._one_sided, *converters.rounding)
        outputs = self._outputs(weights, placement, mean_light, bias)
        counted = np.zeros(len(signal))
        share_rows(
            detect, *signal.shape, signal, light, products, outputs, reading, flicker, noise.next(batch), counted
        )
        lit = expected.columns, expected.electrons, float(shown.sums[2].sum(dtype=np.float64))
        self._count(lit, len(signal), weights.shape, placement, electrons or float(counted.sum()), tally)
        return torch.from_numpy(signal).view(batch, -1, signal.shape[1])

    def show(self, scaled: Tensor, *, static: bool) -> Weights:
        """Show matrices (B, M, K) that are scaled to −1 … 1, see `Placement.show`."""
        return self.place((scaled.shape[-2], scaled.shape[-1]), static=static).show(scaled, static=static)

    @property
    def clip(self) -> tuple[float, float]:
        """Percentile of the magnitudes that full scale stands for: weights, second operands of attention."""
        return self.optics.clip

    def _count(
        self,
        lit: tuple[float, float, float],
        products: int,
        shape: tuple[int, int],
        placement: Placement,
        counted: float,
        tally: Tally,
    ) -> None:
        """Add what products took: each weight pass that is shown by itself takes frames, light and conversions.

        ``lit``: columns that were shown, electrons of full weights in them, and column tiles.
        """
        outputs, inputs = shape
        one_by_one = len(self.optics.encoding.weight_factors) // self.optics.detectors
        columns, tiles, passes = int(lit[0]), int(lit[2]), one_by_one * outputs
        tally.add(products, inputs * outputs, passes * columns, passes * lit[1] / self._yield, counted)
        frames = one_by_one * (len(placement.rows) - 1)
        tally.convert(frames * tiles, frames * columns, passes * tiles)

    def _electrons_of_passes(
        self, shown: Shown, weights: Weights, share: NDArray[np.float32], reference: NDArray[np.float32]
    ) -> float:
        """Electrons of all, where passes have light of their own: what is drawn then counts no electrons of one kind.

        A pass of scale c whose counts weigh ``share`` (2, n) has c²/share electrons for each of the ``reference`` (n,).
        """
        outputs, light = weights.shape[0], shown.sums[0].copy()
        if self.variance == "exact":
            share_rows(
                light_of_passes, *shown.signed.shape, shown.signed, shown.bright, weights.columns.numpy().sum(1), light
            )
        else:
            light *= _each(weights.brightness, light.shape[1] // len(weights.brightness))
        return float(outputs * (_ratio(shown.scale[:, 1:].T ** 2 * reference, share) * light).sum(dtype=np.float64))

    @cached_property
    def _in_one_light(self) -> bool:
        """Are signs split, both passes in the same light, and nothing random but shots, reading and flicker?"""
        o, code = self.optics, self.optics.encoding
        return len(code.input_factors) == 2 and not (o.per_pass or any(o.spread) or o.drift)

    @cached_property
    def _one_sided(self) -> bool:
        """Do all passes count with the same sign? (Offset encoding.)"""
        return len(self.optics.encoding.weight_factors) == 1

    @property
    def _full(self) -> float:
        """What one unit of signal is worth in a decoded product, before the scales of vector and matrix."""
        code = self.optics.encoding
        floors = (1 - self.optics.slm.floor) * (1 - self.optics.display.floor)
        return code.weight_factors[0] * code.input_factors[0] / floors

    @cached_property
    def _exposure(self) -> Exposure:
        per_mac = -1.0 if self.photons_per_mac is None else self._yield * self.photons_per_mac
        read = len(self.optics.encoding.weight_factors) * self.optics.read_e**2
        return Exposure(float(self.optics.electrons), float(per_mac), self.optics.per_pass, float(read), self._full)

    def _add_constants(
        self, products: Products, shown: Shown, placement: Placement, vectors: NDArray[np.float32]
    ) -> None:
        """What offset encoding adds digitally."""
        code = self.optics.encoding
        with np.errstate(invalid="ignore"):
            inputs = np.clip(vectors / np.maximum(shown.scale[:, :1], 1e-30), -1, 1).astype(np.float32)
        scale = products.unit / np.float32(self._full)
        products.term[:] = code.weight_constant * placement.bled_sum(inputs - np.float32(code.input_constant)) * scale
        products.factor[:] = code.input_constant * scale
        products.sign[:] = 0

    def _outputs(
        self, weights: Weights, placement: Placement, mean_light: NDArray[np.float32], bias: Tensor | None
    ) -> Outputs:
        """What `detect` needs of each output of each matrix."""
        nothing = np.zeros(mean_light.shape, np.float32)
        lone, digital = weights.lone.numpy(), nothing
        if self._one_sided:
            constant = self.optics.encoding.input_constant
            digital = (weights.row_sum.numpy() + self._full / constant * placement.offset).astype(np.float32)
            lone = nothing
        added = nothing[0] if bias is None else bias.numpy()
        return Outputs(mean_light, lone, digital, added, placement.stray, placement.taps, placement.rows)

    def _show(self, vectors: NDArray[np.float32], placement: Placement, clip: float) -> Shown:
        n, k = vectors.shape
        tiles, panel = len(placement.columns) - 1, self.optics.display
        signed, bright = np.empty((n, k), np.float32), np.empty((n, k), np.float32)
        scale = np.zeros((n, 3), np.float32)
        if len(self.optics.encoding.input_factors) == 2:
            light, sums = np.empty((n, 2, tiles), np.float32), np.empty((3, 2, n), np.float32)
            if self.variance != "exact" and not any(self.optics.spread):
                bright = bright[:0]
            shown = Shown(signed, bright, scale, light, sums)
            how = placement.columns, panel.levels, self.optics.per_pass, np.float32(clip)
            share_rows(split_signs, n, k, vectors, *how, shown)
            return shown
        scale[:, 0], scale[:, 1] = np.minimum(np.abs(vectors).max(1), clip), 1.0
        with np.errstate(invalid="ignore"):  # of infinities, which are not known
            scaled = np.clip(vectors / np.maximum(scale[:, :1], np.finfo(np.float32).tiny), -1, 1)
        bright[:] = panel.show(self.optics.encoding.split_input(scaled)[0])
        np.subtract(bright, panel.floor, out=signed)
        unknown = ~np.isfinite(vectors).all(1)
        signed[unknown], bright[unknown], scale[unknown] = np.nan, 0.0, 0.0  # dark, as with two passes
        light = np.add.reduceat(bright, placement.columns[:-1], axis=1)[:, None]
        lit = light > 0
        sums = np.stack([light.sum(2).T, (lit @ placement.widths).T, lit.sum(2).T]).astype(np.float32)
        return Shown(signed, bright, scale, light, sums)

    def _spread(self, shown: Shown, weights: Weights, batch: int, attention: bool) -> NDArray[np.float64]:
        """(n,) variance of the reading error of all passes, in units of signal: (c·mean reading of the pass)² each."""
        c, (n, k) = self.optics.spread[attention], shown.signed.shape
        inputs = np.zeros((batch, 2, k), np.float32)
        share_rows(column_light, batch, n // batch * k, shown.signed, shown.bright, inputs)
        means = np.einsum("bpk,bqk->pq", weights.columns.numpy(), inputs) / n
        return np.asarray((shown.scale[:, 1:] ** 2 * np.square(c * means).sum(0)).sum(1), np.float64)

    def _light(
        self,
        shown: Shown,
        weights: Weights,
        fewest: float,
        products: Products,
        passes: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32] | NDArray[np.int32], NDArray[np.float32]]:
        """Light of all passes for `detect`, (n, M), and its mean over the inputs (B, M); fills in ``products``.

        ``passes`` are by what the light of each is multiplied, and what comes together. Where they differ,
        `Shown.bright` is made to count in electrons of the first that is lit.
        """
        mean_light, reference, (share, gathered) = weights.mean_light.numpy(), products.electrons, passes
        if fewest == np.inf:
            return _NOTHING, mean_light
        if self.variance == "rank-one":
            products.even_light[:] = gathered
            return _NOTHING, mean_light
        batch = len(mean_light)
        if self.variance == "constant":
            mean = _each(weights.brightness, len(gathered) // batch)
            lit = reference > 0  # a dark vector has no noise to share in
            products.even_light[:] = reference * np.mean(_ratio(gathered * mean, reference)[lit]) if lit.any() else 0
            return _NOTHING, np.ones_like(mean_light)
        if self.optics.per_pass:
            weigh_passes(shown.signed, shown.bright, share)
        if weights.bytes is not None and fewest >= ENOUGH:
            step = np.float32(max(float(shown.bright.max()), 1e-30) / BYTE)
            rounded, errors, found = np.empty(shown.bright.shape, np.int8), np.empty(len(shown.bright)), weights.bytes
            matrix = found.mean, found.spread**2, found.error**2
            share_rows(round_bytes, *rounded.shape, shown.bright, step, rounded, products.even_light, errors, matrix)
            if errors.max() <= BYTE_ERROR**2:
                products.light_unit[:] = step * found.step
                return torch._int_mm(torch.from_numpy(rounded), found.values).numpy(), mean_light
            products.even_light[:] = 0
        products.light_unit[:] = 1.0
        if fewest >= ENOUGH and half_products() and len(shown.bright) > FEW_ROWS * batch:
            return multiply_halves(shown.bright, weights.halves, batch), mean_light
        return multiply(shown.bright, weights.light, batch), mean_light

    def _flicker(
        self, shown: Shown, weights: Weights, placement: Placement, noise: Noise, products: Products
    ) -> NDArray[np.float32]:
        """(n, R, 3) relative excess light of the passes that count positive and negative, and past the modulators.

        Each frame has its own; how much a pass and a column tile weigh in their sum is taken from the mean light of
        their operands. By how much that differs from output to output follows from the variance of the weights, and
        adds to ``products.read``.
        """
        n, tiles = len(shown.signed), len(placement.rows) - 1
        flicker = np.zeros((n, tiles, 3), np.float32)
        if self.optics.flicker:
            draw_flicker(noise.now(), flicker)
            matrices, strength = (weights.planes.numpy(), weights.scatter.numpy()), np.float32(self.optics.flicker)
            share_rows(
                find_flicker, *shown.signed.shape, placement.columns, matrices, strength, shown, products, flicker
            )
        if self.optics.drift:
            rng = np.random.Generator(np.random.SFC64([*noise.key, noise.calls]))
            drift = (self.optics.drift * rng.standard_normal((1, tiles))).astype(np.float32)
            flicker[..., :2] += drift[..., None]
            if self._one_sided:  # of signed passes, as many frames count positive as negative
                flicker[..., 2] += drift * shown.sums[2].sum(0)[:, None]
        if self._one_sided:
            flicker[..., 1] = -flicker[..., 0]
        return flicker


_NOTHING = np.empty((0, 0), np.float32)


def _each(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(B,) to (B·n,): what `numpy.repeat` gives, without its price."""
    return np.broadcast_to(values[:, None], (len(values), n)).reshape(-1)


def _ratio(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """a / b, 0 where b is."""
    return np.asarray(np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0), np.float64)
