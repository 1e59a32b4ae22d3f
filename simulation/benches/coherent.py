"""Signs in the phase: fields are summed, and a strong local oscillator makes the sum of fields a current.

K fields that meet in a passive element leave it with 1/√K of their sum: a lossless element can do no better. Balanced
homodyne detection adds the vacuum's quarter of a photon, whatever the field (Hamerly et al., Phys. Rev. X 9, 021032
(2019), for its standard quantum limit). With n electrons at each element of the weight plane under a full input,

    y = Σ_k w_k x_k + √(K / 4n)·z,    z normal,

the noise is the same for all outputs, and there is neither a second pass nor a count.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simulation.benches.multiplier import Multiplier, Scaled, require_plain
from simulation.light.accounting import Tally
from simulation.light.detection import Outputs, Products, Reading, detect
from simulation.light.optics import Optics, Panel
from simulation.light.recent import Recent
from simulation.light.settings import AS_IS, Noise, Range, Variance
from simulation.light.sharing import share_rows
from simulation.light.weights import Placement

VACUUM = 0.25
"""Variance of a quadrature of the vacuum, in photons."""

Floats = NDArray[np.float32]


class Coherent:
    """Amplitude encoding: signed fields, one pass."""

    name = "coherent"
    words = "one pass of signed fields, read against a local oscillator: noise independent of the signal"

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """A machine that sums fields."""
        require_plain(optics, self, "a detector of intensities")
        return CoherentBench(optics, photons_per_mac)


@dataclass(frozen=True)
class Fields:
    """Matrices (B, M, K) as amplitudes −1 … 1."""

    values: Tensor


class CoherentBench:
    """See `simulation.benches.multiplier.Multiplier`.

    Photons are counted at the weight plane, electrons are those that the signal's own light would give; the light of
    the local oscillator is not counted.
    """

    def __init__(self, optics: Optics, photons_per_mac: float | None) -> None:
        self.optics, self._photons = optics, photons_per_mac
        self._places: Recent[tuple[int, int], Placement] = Recent()

    @property
    def clip(self) -> tuple[float, float]:
        return self.optics.clip

    def at(self, photons_per_mac: float) -> CoherentBench:
        other = copy(self)
        other._photons = photons_per_mac
        return other

    def show(self, scaled: Tensor, *, static: bool) -> Fields:
        return Fields(torch.from_numpy(amplitude(self.optics.slm, scaled.clamp(-1, 1).numpy())))

    def product(
        self,
        x: Tensor,
        weights: Fields,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        batch, n, k = x.shape
        m = weights.values.shape[1]
        edges, rows, fan_in = self._tiles((m, k))
        tiles = len(edges) - 1
        vectors = Scaled.of(x, converters.clip)
        inputs = amplitude(self.optics.display, vectors.values)
        power = np.square(inputs, dtype=np.float64).sum(1)
        electrons = self._electrons(power, k)
        signal, fields = self._fields(torch.from_numpy(inputs).view(batch, n, k), weights.values, edges)
        products = Products(*np.zeros((8, batch * n), np.float32))
        lit = electrons > 0
        products.read[lit] = tiles * VACUUM * fan_in / electrons[lit]
        products.read[:] += tiles * (self.optics.read_e / (self.optics.electrons or 1.0)) ** 2
        products.unit[:] = vectors.scale * np.repeat(unit.numpy(), n)
        outputs = _nothing_added(batch, m, bias)
        reading = Reading(True, False, np.float32(converters.step), np.float32(converters.limit))
        flicker = np.zeros((batch * n, 1, 3), np.float32)
        counted, key = np.zeros(batch * n), noise.next(batch)
        share_rows(detect, *signal.shape, signal, _NO_LIGHT, products, outputs, reading, flicker, key, counted)
        plane = m * float((power * electrons).sum()) / self.optics.quantum_efficiency
        tally.add(batch * n, k * m, batch * n * k * m, plane, float((electrons / fan_in * fields).sum()))
        tally.convert(batch * n * tiles * rows, batch * n * rows * k, batch * n * m * tiles)
        return torch.from_numpy(signal).view(batch, n, -1)

    def _electrons(self, power: NDArray[np.float64], inputs: int) -> NDArray[np.float64]:
        """(n,) at one element of the weight plane under a full input; 0 without noise."""
        if self._photons is None:
            return np.where(power > 0, self.optics.electrons, 0.0)
        full = self._photons * self.optics.quantum_efficiency * inputs
        return np.asarray(np.divide(full, power, out=np.zeros_like(power), where=power > 0))

    @staticmethod
    def _fields(inputs: Tensor, weights: Tensor, edges: NDArray[np.int64]) -> tuple[Floats, NDArray[np.float64]]:
        """The sum of each tile's fields (n, M), added up; and Σ of their squares over tiles and outputs (n,)."""
        signal, squares = inputs.new_zeros(()), inputs.new_zeros(())
        for a, b in pairwise(edges.tolist()):
            part = (inputs[:, :, a:b] @ weights[:, :, a:b].mT).flatten(0, 1)
            signal, squares = signal + part, squares + part.double().square().sum(1)
        return signal.numpy(), squares.numpy()

    def _tiles(self, shape: tuple[int, int]) -> tuple[NDArray[np.int64], int, int]:
        """Edges of the column tiles, number of row tiles, and how many fields meet at an output."""
        place, layout = self._places.of(shape, lambda: Placement(self.optics, shape)), self.optics.layout
        return place.columns, len(place.rows) - 1, shape[1] if layout is None else layout.columns


_NO_LIGHT = np.empty((0, 0), np.float32)


def amplitude(panel: Panel, values: Floats) -> Floats:
    """Signed amplitudes −1 … 1 to those that a modulator can give, of which it has as many as a panel has levels."""
    return np.asarray(2 * (panel.show(0.5 * (values + 1)) - panel.floor) / (1 - panel.floor) - 1, np.float32)


def _nothing_added(batch: int, outputs: int, bias: Tensor | None) -> Outputs:
    nothing = np.zeros((batch, outputs), np.float32)
    added = nothing[0] if bias is None else bias.numpy()
    whole = np.array([0, outputs])
    return Outputs(nothing, nothing, nothing, added, nothing[0], np.ones((1, outputs), np.float32), whole)
