"""How much light a model needs: by a law that was measured, or as somebody states it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from labctl.resources import data_path
from labctl.studies.resolution import in_bits
from simulation.energy.constants import Components, Constant
from simulation.energy.machine import Machine, PhotonLaw, Words
from simulation.energy.receiver import EFFICIENCY, LAW
from simulation.energy.units import Unit
from simulation.scaling.law import Need, ScalingLaw, Shape, load_law

TOLERANCE = 0.05
"""Perplexity above the digital model's that is allowed, as a ratio less one."""
METRICS = {"kl": "KL", "loss": "loss"}
CLAIMED = PhotonLaw(1.0, 12288, 1.0)
"""One photon per MAC at the width of GPT-3, falling as 1/d: the claim of arXiv 2302.10360."""


@dataclass(frozen=True)
class Light:
    """What one model needs.

    Attributes
    ----------
    law
        `PhotonLaw`; the same for all sums where the whole model was measured.
    low, high
        95 % interval of the measured need, as factors of it; 1 where it is stated.
    words
        Of where it comes from.
    outside
        Sizes of the model that no model of the measurement reached.
    within
        What it is enough for, in words; empty where it is stated.
    """

    law: PhotonLaw
    low: float
    high: float
    words: str
    outside: tuple[str, ...] = ()
    within: str = ""

    def on(self, machine: Machine) -> Machine:
        """A machine at this light."""
        return replace(machine, photons=self.law if machine.photons else None)

    def notes(self, width: int, components: Components, bits: Words) -> list[str]:
        """What there is to say of the light of a model of this width, a sentence each; nothing where there is none."""
        need, efficiency = self.law(width), self.law.efficiency
        if not need:
            return []
        span = f" (95 %: {need * self.low:.2g} … {need * self.high:.2g})" if self.low < self.high else ""
        found = [f"{need:.3g} photons per MAC and pass at the weight plane{span}"]
        if self.within:
            found.append(f"enough for {self.within}")
        if efficiency is not None:
            here = components[EFFICIENCY].value
            found += [
                f"at a quantum efficiency of {efficiency:g}; here {here:g}, so {efficiency / here:.3g} times as many",
                f"for the noise of light alone: what rounding to {in_bits(bits)} adds comes on top",
            ]
        if self.outside:
            found.append(f"beyond the models of the fit in {', '.join(self.outside).replace('_', ' ')}")
        return found

    def among(self, components: Components) -> Components:
        """Constants, and the interval of the need as one of them."""
        if self.low == self.high:
            return components
        one = Constant(LAW, 1.0, min(self.low, 1.0), max(self.high, 1.0), Unit.parse("1"), self.words, True)
        return replace(components, constants={**components.constants, LAW: one})


DARK = Light(PhotonLaw(0.0), 1.0, 1.0, "none, this machine computes without")
"""Of a machine that has no light."""


@dataclass(frozen=True)
class Stated:
    """Light that somebody states."""

    law: PhotonLaw
    needs_shape = False

    def need(self, width: int, blocks: int, head_width: int) -> Light:
        """The same law for every model."""
        law = self.law
        words = f"stated: {law.per_mac:g} per MAC and pass for sums of {law.at_width:g}, as length^{-law.exponent:g}"
        return Light(law, 1.0, 1.0, words)


@dataclass(frozen=True)
class Measured:
    """Light by a law that ``labctl scaling`` wrote; the one that ships if ``path`` is None.

    Attributes
    ----------
    path
        ``law.json``
    tolerance
        As `TOLERANCE`.
    """

    path: Path | None = None
    tolerance: float = TOLERANCE
    needs_shape = True

    @cached_property
    def _needs(self) -> dict[Shape, Need]:
        return {}

    @cached_property
    def law(self) -> ScalingLaw:
        """The law itself.

        Raises
        ------
        ArtefactError
            When it is missing or damaged.
        """
        return load_law(self.path or data_path("energy/law.json"))

    def need(self, width: int, blocks: int, head_width: int) -> Light:
        """What a model of this shape needs to stay within the tolerance."""
        shape = Shape(width, blocks, head_width)
        if shape not in self._needs:
            self._needs[shape] = self.law.photons(shape, math.log1p(self.tolerance))
        found = self._needs[shape]
        name = "the law that ships" if self.path is None else self.path.name
        about = f"measured on {self.law.provenance.machine!r} ({name})"
        within = f"{math.log1p(self.tolerance):.3g} nats from digital ({METRICS[self.law.metric]})"
        law = PhotonLaw(found.photons, efficiency=self.law.provenance.quantum_efficiency)
        low, high = found.low / found.photons, found.high / found.photons
        return Light(law, low, high, about, self.law.outside(shape), within)


LightSource = Stated | Measured
