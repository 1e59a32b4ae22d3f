"""Few inputs at a time: each tile's reading of each pass is converted with b bits, and the sums go on digitally.

A reading is rounded to one of 2ᵇ steps of the largest that its tile can give. The step Δ then adds Δ²/12 for each
conversion, besides the variance ``|x|·|w| / n`` of sign split. Converters have a pedestal: noise below zero is kept.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.errors import OutOfDomain
from calibration.machine.encoding import encoding
from calibration.machine.layout import Layout
from simulation.benches.multiplier import Multiplier, Scaled, encoded, require_plain
from simulation.light.accounting import Tally
from simulation.light.detection import Outputs, Products, Reading, detect
from simulation.light.optics import Optics
from simulation.light.recent import Recent
from simulation.light.settings import AS_IS, Noise, Range, Variance
from simulation.light.sharing import share_rows
from simulation.light.weights import Placement

BITS, INPUTS = 8, 64
"""Of a converter, and of a tile where the machine does not say."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PartialSums:
    """Sign split, in tiles whose readings are converted with ``bits`` each."""

    bits: int = BITS
    words: str = "sign split in tiles, each reading converted with b bits (partial-sums:b), sums added digitally"

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise OutOfDomain("a converter has 1 to 16 bits", seen=str(self.bits), hint="--encoding partial-sums:8")

    @property
    def name(self) -> str:
        """With the bits."""
        return f"partial-sums:{self.bits}"

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """A machine that says what it can; 64 inputs to a tile where it does not."""
        require_plain(optics, self, "a camera, whose converter is in its calibration")
        if optics.layout is None:
            optics = replace(optics, layout=tile(2**20, INPUTS))
        return PartialSumsBench(encoded(optics, encoding("sign-split")), photons_per_mac, self.bits)


def tile(outputs: int, inputs: int) -> Layout:
    """A tile of a machine without pixels."""
    return Layout((outputs, inputs), outputs, inputs, 1, 1, 1, 1)


@dataclass(frozen=True)
class Halves:
    """Plus and minus of B matrices (2, B, M, K) as shown, and what one step of each reading is (2, B, T)."""

    shown: Tensor
    step: NDArray[np.float64]


class PartialSumsBench:
    """See `simulation.benches.multiplier.Multiplier`."""

    def __init__(self, optics: Optics, photons_per_mac: float | None, bits: int) -> None:
        self.optics, self._photons, self._steps = optics, photons_per_mac, 2**bits - 1
        self._places: Recent[tuple[int, int], Placement] = Recent()
        self._yield = optics.electrons / optics.photons if optics.photons else optics.quantum_efficiency

    @property
    def clip(self) -> tuple[float, float]:
        return self.optics.clip

    def at(self, photons_per_mac: float) -> PartialSumsBench:
        other = copy(self)
        other._photons = photons_per_mac
        return other

    def show(self, scaled: Tensor, *, static: bool) -> Halves:
        parts = self.optics.encoding.split_weight(scaled.clamp(-1, 1).double().numpy()).astype(np.float32)
        shown = self.optics.slm.show(parts)
        columns = self._place((scaled.shape[-2], scaled.shape[-1])).columns
        largest = np.add.reduceat(shown, columns[:-1], axis=-1).max(-2)
        return Halves(torch.from_numpy(shown), np.maximum(largest, 1e-30).astype(np.float64) / self._steps)

    def product(
        self,
        x: Tensor,
        weights: Halves,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        batch, n, k = x.shape
        m = weights.shown.shape[2]
        place = self._place((m, k))
        vectors = Scaled.of(x, converters.clip)
        inputs, lit = self._inputs(vectors.values, place)
        widths = place.widths * lit
        electrons = self._electrons(inputs.sum((0, 2)), widths.sum((0, 2)))
        sums, counted = np.zeros((batch * n, m)), np.zeros(batch * n)
        for sign, half in enumerate(weights.shown):
            for q, shown in enumerate(inputs):
                for t, (a, b) in enumerate(pairwise(place.columns.tolist())):
                    part = torch.from_numpy(np.ascontiguousarray(shown[:, a:b])).view(batch, n, b - a)
                    light = (part @ half[:, :, a:b].mT).flatten(0, 1).numpy()
                    step = np.repeat(weights.step[sign, :, t], n)[:, None]
                    is_lit = lit[q, :, t, None]
                    found, by_row = self._read(light, electrons * is_lit[:, 0], noise, batch)
                    whole = np.clip(np.rint(found / step), -self._steps, self._steps) * step
                    sums += np.where(is_lit, (1 - 2 * (sign ^ q)) * whole, 0.0)
                    counted += by_row
        full = (1 - self.optics.slm.floor) * (1 - self.optics.display.floor)
        y = torch.from_numpy((sums * (vectors.scale * np.repeat(unit.numpy(), n) / full)[:, None]).astype(np.float32))
        passes, frames = 2 * m * int(widths.sum()), 2 * (len(place.rows) - 1)
        plane = 2 * m * float((inputs.sum((0, 2)) * electrons).sum()) / self._yield
        tally.add(batch * n, k * m, passes, plane, float(counted.sum()))
        tally.convert(frames * int(lit.sum()), frames * int(widths.sum()), 2 * m * int(lit.sum()))
        return converters.round(y if bias is None else y + bias).view(batch, n, -1)

    def _inputs(self, scaled: Floats, place: Placement) -> tuple[Floats, NDArray[np.bool_]]:
        """(2, n, K) as shown, and which passes (2, n, T) of each tile are: dark ones are not, where dark is dark."""
        parts = self.optics.encoding.split_input(scaled.astype(np.float64))
        lit = np.maximum.reduceat(parts, place.columns[:-1], axis=2) > 0
        if self.optics.display.floor:
            lit[:] = True
        shown = self.optics.display.show(parts.astype(np.float32))
        return np.where(np.repeat(lit, place.widths, axis=2), shown, np.float32(0)), lit

    def _read(
        self, light: Floats, electrons: NDArray[np.float64], noise: Noise, batch: int
    ) -> tuple[Floats, NDArray[np.float64]]:
        """Readings (n, M) of one pass of one tile in units of ``light``, and the electrons of each row."""
        n, m = light.shape
        products = Products(*np.zeros((8, n), np.float32))
        products.electrons[:], products.light_unit[:], products.unit[:] = electrons, 1.0, 1.0
        products.read[:] = self.optics.read_e**2
        nothing = np.zeros((batch, m), np.float32)
        taps, edges = np.ones((1, m), np.float32), np.array([0, m])
        outputs = Outputs(nothing, nothing, nothing, nothing[0], nothing[0], taps, edges)
        reading, counted = Reading(False, True, np.float32(0), np.float32(0)), np.zeros(n)
        signal, still = light.copy(), np.zeros((n, 1, 3), np.float32)
        share_rows(detect, n, m, signal, light, products, outputs, reading, still, noise.next(batch), counted)
        return signal, np.where(electrons > 0, counted, 0.0)

    def _electrons(self, light: NDArray[np.float64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n,) detected per unit of light."""
        if self._photons is None:
            return np.where(light > 0, self.optics.electrons, 0.0)
        full = self._yield * self._photons * columns
        return np.asarray(np.divide(full, light, out=np.zeros(len(light)), where=light > 0))

    def _place(self, shape: tuple[int, int]) -> Placement:
        return self._places.of(shape, lambda: Placement(self.optics, shape))
