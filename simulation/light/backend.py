"""What computes products in light: compiled loops on the CPU, or operations of torch on the operands' own device.

Both follow the same law and draw the same random numbers, so that results agree to float rounding; a deviate that lies
within rounding of the edge between two counts gives one or the other.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from calibration.errors import OutOfDomain
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.product import Bench, Noise, Range
from simulation.light.tensors.product import UNLIMITED, TensorBench
from simulation.light.weights import Weights

BackendName = Literal["auto", "compiled", "torch", "torch-compiled"]
BACKENDS: tuple[BackendName, ...] = ("auto", "compiled", "torch", "torch-compiled")


class Multiplier(Protocol):
    """A bench at one light level, for operands on one device.

    Attributes
    ----------
    optics
        What products depend on.
    """

    optics: Optics

    def show(self, scaled: Tensor, *, static: bool, operands: torch.dtype) -> Weights:
        """Show matrices (B, M, K) that are scaled to −1 … 1.

        Parameters
        ----------
        static
            They stay for many products.
        operands
            Of what type the model's operands are.
        """

    def product(
        self,
        x: Tensor,
        weights: Weights,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None,
        converters: Range,
        attention: bool,
    ) -> Tensor:
        """Multiply B sets of n vectors (B, n, K) by a matrix each: (B, n, M), on the same device and of the same type.

        `simulation.light.product.Bench.product` says what the parameters are.
        """


class OnCpu:
    """The compiled loops of `simulation.light.product.Bench`, for operands of any device: they are fetched."""

    def __init__(self, bench: Bench) -> None:
        self.optics, self._bench = bench.optics, bench

    def show(self, scaled: Tensor, *, static: bool, operands: torch.dtype = torch.float32) -> Weights:
        matrices = scaled.float().cpu()
        return self._bench.place((matrices.shape[-2], matrices.shape[-1])).show(matrices, static=static)

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
        added = None if bias is None else bias.float().cpu()
        y = self._bench.product(
            x.float().cpu(), weights, noise, tally,
            unit=unit.float().cpu(), bias=added, converters=converters, attention=attention,
        )  # fmt: skip
        return y.to(x.device, x.dtype)


class Benches:
    """One bench, computed on each device by what suits it.

    Parameters
    ----------
    bench
        Optics, light level and variance.
    backend
        ``"compiled"``, on the CPU wherever operands are; ``"torch"``, on their own device; ``"torch-compiled"``, the
        same with kernels by `torch.compile`; ``"auto"``, compiled on the CPU and torch elsewhere.

    Raises
    ------
    OutOfDomain
        When there is no such backend.
    """

    def __init__(self, bench: Bench, backend: BackendName = "auto") -> None:
        if backend not in BACKENDS:
            raise OutOfDomain("no such backend", expected=" or ".join(BACKENDS), seen=str(backend), hint="leave it out")
        self._bench, self.backend = bench, backend
        self._brighter: Benches | None = None
        self._made: dict[torch.device, Multiplier] = {}

    def at(self, photons_per_mac: float) -> Benches:
        """The same bench at another light level; what has been placed on it stays there."""
        other = Benches(self._bench.at(photons_per_mac), self.backend)
        other._brighter = self
        return other

    def on(self, device: torch.device) -> Multiplier:
        """The bench for operands on a device."""
        if device not in self._made:
            self._made[device] = self._make(device)
        return self._made[device]

    def _make(self, device: torch.device) -> Multiplier:
        bench = self._bench
        if self.backend == "compiled" or (self.backend == "auto" and device.type == "cpu"):
            return OnCpu(bench)
        like = None if self._brighter is None else self._brighter.on(device)
        if isinstance(like, TensorBench) and bench.photons_per_mac is not None:
            return like.at(bench.photons_per_mac)
        return TensorBench(
            bench.optics, bench.photons_per_mac, bench.variance, device, compiled=self.backend == "torch-compiled"
        )
