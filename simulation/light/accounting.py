"""Photons and electrons that products took, counted while they run."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class Tally:
    """Running totals of one layer.

    Attributes
    ----------
    products
        Matrix–vector products.
    macs
        Multiply–accumulates of the model: one per weight and product, whatever the passes.
    passes
        Optical multiply–accumulates: one per weight, product and pass that was shown.
    photons
        At the weight plane, over all passes, as they leave the SLM's element at full transmission [photons].
    electrons
        Detected, over all passes [e-].
    frames
        Tiles that were shown, each with one vector on the inputs.
    input_conversions, output_conversions
        Numbers turned into light at the inputs of frames (DAC), and readings turned into numbers (ADC).
    scales
        Scales of tiles that were moved beside these numbers: one for each tile of each vector, and one for each output
        that was read of it.
    outside
        Readings of an imported bench beyond the range that its fit was shown.
    """

    products: int = 0
    macs: int = 0
    passes: int = 0
    photons: float = 0.0
    electrons: float = 0.0
    frames: int = 0
    input_conversions: int = 0
    output_conversions: int = 0
    scales: int = 0
    outside: int = 0
    _later: list[Tensor] = field(default_factory=list, compare=False, repr=False)

    def add(self, products: int, weights: int, passes: int, photons: float, electrons: float) -> None:
        """Count ``products`` with a matrix of ``weights`` elements."""
        self.products += products
        self.macs += products * weights
        self.passes += passes
        self.photons += photons
        self.electrons += electrons

    def convert(self, frames: int, inputs: int, outputs: int) -> None:
        """Count ``frames``, and what the converters before and after them did."""
        self.frames += frames
        self.input_conversions += inputs
        self.output_conversions += outputs

    def add_later(self, products: int, weights: int, light: Tensor) -> None:
        """The same with ``light`` (6,) on a device, which `settle` waits for.

        Passes, photons and electrons; frames, conversions of inputs and of outputs.
        """
        self.products += products
        self.macs += products * weights
        if light.device.type == "meta":
            return
        self._later = [light if not self._later else self._later[0] + light]
        if light.device.type == "cpu":
            self.settle()

    def add_part(self, products: int, weights: int, part: Tally) -> None:
        """Count ``products`` that took the light of ``part``."""
        part.settle()
        self.add(products, weights, part.passes, part.photons, part.electrons)
        self.convert(part.frames, part.input_conversions, part.output_conversions)

    def settle(self) -> Tally:
        """Fetch what is still on a device; returns itself."""
        for light in self._later:
            passes, photons, electrons, *converted = light.tolist()
            self.passes += round(passes)
            self.photons += photons
            self.electrons += electrons
            self.convert(*map(round, converted))
        self._later = []
        return self

    def __iadd__(self, other: Tally) -> Tally:
        other.settle()
        self.products += other.products
        self.macs += other.macs
        self.passes += other.passes
        self.photons += other.photons
        self.electrons += other.electrons
        self.convert(other.frames, other.input_conversions, other.output_conversions)
        self.scales += other.scales
        self.outside += other.outside
        return self

    @property
    def photons_per_mac(self) -> float:
        """Photons at the weight plane per MAC and pass [photons]; nan before anything ran."""
        return self.photons / self.passes if self.passes else float("nan")

    @property
    def electrons_per_mac(self) -> float:
        """Detected electrons per MAC of the model, all passes together [e-]; nan before anything ran."""
        return self.electrons / self.macs if self.macs else float("nan")
