"""Signs in time: an intensity cannot be negative, so that plus and minus, or all with an offset, are passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calibration.machine.encoding import encoding
from simulation.benches.multiplier import Multiplier, encoded
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.settings import Variance


@dataclass(frozen=True)
class Intensity:
    """A strategy of `calibration.machine.encoding`, whose passes `simulation.light.product` folds exactly.

    With n electrons per unit product, sign split has the variance ``|x|·|w| / n``; the offset has
    ``4 Σ_k (1 + x_k)(1 + w_k) / n``, most of it the light of zeros.
    """

    name: str
    words: str

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """Any bench can."""
        if optics.encoding.name != self.name:
            optics = replace(encoded(optics, encoding(self.name)), per_pass=False)
        return Bench(optics, photons_per_mac, variance)


SIGN_SPLIT = Intensity("sign-split", "four passes: plus and minus of the inputs by plus and minus of the weights")
OFFSET = Intensity("offset", "one pass of operands that are lifted above zero, and two digital sums")
