"""Signs by two detectors: each weight splits the light of its input between them, and their difference is read.

So does a ring resonator between two waveguides, or an interferometer with two outputs ("broadcast and weight": Tait et
al., Scientific Reports 7, 7430 (2017)). Signed inputs take two passes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulation.benches.multiplier import Multiplier, encoded, require_plain
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.settings import Variance

Float = NDArray[np.float64]


class Split:
    """``W = (1 + W)/2 − (1 − W)/2`` at two detectors at once, ``x = x⁺ − x⁻`` in two passes."""

    name = "differential"
    weight_factors: tuple[float, ...] = (1.0, -1.0)
    input_factors: tuple[float, ...] = (1.0, -1.0)
    weight_constant = 0.0
    input_constant = 0.0

    def split_weight(self, weight: Float) -> Float:
        return np.stack([0.5 * (1.0 + weight), 0.5 * (1.0 - weight)])

    def split_input(self, vectors: Float) -> Float:
        return np.stack([np.maximum(vectors, 0.0), np.maximum(-vectors, 0.0)])


class Differential:
    """Balanced detection. The variance ``Σ_k |x_k| / n`` has nothing of the weights: all light is detected."""

    name = "differential"
    words = "two passes: each weight splits its light between two detectors, whose difference is read"

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """A machine whose outputs have two detectors."""
        require_plain(optics, self, "one detector at each output")
        return Bench(encoded(optics, Split(), detectors=2), photons_per_mac, variance)
