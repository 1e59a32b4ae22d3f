"""A bench with fewer levels than it has: how many bits inputs, weights and outputs of every product get."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration.errors import OutOfDomain
from simulation.light.optics import Optics, Panel

MOST = 16
"""Bits: beyond it single precision has no further levels."""


@dataclass(frozen=True)
class Bits:
    """Of one product.

    Attributes
    ----------
    inputs, weights
        2^bits levels of light on the display and on the SLM, for the magnitudes: signs are shown in other passes.
    outputs
        Signed results on 2^(bits − 1) − 1 steps to either side of zero.

    Raises
    ------
    OutOfDomain
        For fewer than 2 bits or more than 16.
    """

    inputs: int
    weights: int
    outputs: int

    def __post_init__(self) -> None:
        for bits in (self.inputs, self.weights, self.outputs):
            if not 2 <= bits <= MOST:
                raise OutOfDomain("not a number of bits", expected=f"2 … {MOST}", seen=str(bits), hint="--bits 4")

    def __str__(self) -> str:
        each = self.inputs, self.weights, self.outputs
        return f"{each[0]} bits" if len(set(each)) == 1 else "{} bits in, {} of weights, {} out".format(*each)

    @property
    def steps(self) -> int:
        """Of an output, from zero to its largest size."""
        return int(2 ** (self.outputs - 1) - 1)

    def on(self, bench: Optics) -> Optics:
        """A bench that uses so many of the levels that it has, spaced as evenly as they allow."""
        return replace(bench, display=coarser(bench.display, self.inputs), slm=coarser(bench.slm, self.weights))


def coarser(panel: Panel, bits: int) -> Panel:
    """A panel of at most 2^bits of the transmissions that it gives, from its darkest to full."""
    shown = panel.show(np.linspace(0, 1, 2**bits, dtype=np.float32))
    return Panel.of(np.unique(shown).astype(np.float64))
