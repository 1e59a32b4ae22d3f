"""What computes products in light: compiled loops on the CPU, or operations of torch on the operands' own device.

Both follow the same law and draw the same random numbers, so that results agree to float rounding; a deviate that lies
within rounding of the edge between two counts gives one or the other.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from calibration.errors import OutOfDomain
from simulation.benches.multiplier import Multiplier
from simulation.benches.tiled import TiledBench
from simulation.light.accounting import Tally
from simulation.light.few import Live
from simulation.light.product import Bench
from simulation.light.settings import AS_IS, Noise, Range
from simulation.light.tensors.product import ENCODED, TensorBench

BackendName = Literal["auto", "compiled", "torch", "torch-compiled"]
BACKENDS: tuple[BackendName, ...] = ("auto", "compiled", "torch", "torch-compiled")


class OnDevice(Protocol):
    """A bench at one light level, for operands on one device.

    Attributes
    ----------
    shows
        Equal for benches that take each other's shown matrices: those at other light levels.
    """

    @property
    def shows(self) -> tuple[object, bool]: ...

    @property
    def clip(self) -> tuple[float, float]:
        """As of `Multiplier`."""

    def show(self, scaled: Tensor, *, static: bool, operands: torch.dtype) -> Any:
        """As of `Multiplier`, on the device; ``operands`` says of what type those of the model are."""

    def product(
        self,
        x: Tensor,
        weights: Any,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        """As of `Multiplier`, for vectors of any type; the result is on the same device and of the same type."""


class OnCpu:
    """Any bench, for operands of any device: they are fetched. ``origin`` is that of all its light levels."""

    def __init__(self, bench: Multiplier, origin: object) -> None:
        self._bench, self.shows = bench, (origin, True)

    @property
    def clip(self) -> tuple[float, float]:
        return self._bench.clip

    def show(self, scaled: Tensor, *, static: bool, operands: torch.dtype = torch.float32) -> Any:
        return self._bench.show(scaled.float().cpu(), static=static)

    def product(
        self,
        x: Tensor,
        weights: Any,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        added = None if bias is None else bias.float().cpu()
        y = self._bench.product(
            x.float().cpu(), weights, noise, tally,
            unit=unit.float().cpu(), bias=added, converters=converters, attention=attention,
        )  # fmt: skip
        return y.to(x.device, x.dtype)

    def at_once(
        self, x: Tensor, weights: Any, noise: Noise, tally: Tally, *, live: Live, bias: Tensor | None, **more: Any
    ) -> Tensor | None:
        """`simulation.light.product.Bench.at_once` for operands on the CPU; None for other benches."""
        if not isinstance(self._bench, Bench):
            return None
        added = None if bias is None else bias.float()
        y = self._bench.at_once(x.float(), weights, noise, tally, live=live, bias=added, **more)
        return None if y is None else y.to(x.dtype)

    def pair_at_once(self, x: Tensor, matrices: Tensor, noise: Noise, tally: Tally, **more: Any) -> Tensor | None:
        """`simulation.light.product.Bench.pair_at_once` for operands on the CPU; None for other benches."""
        if not isinstance(self._bench, Bench):
            return None
        y = self._bench.pair_at_once(x.float(), matrices.float(), noise, tally, **more)
        return None if y is None else y.to(x.dtype)


class Benches:
    """One bench, computed on each device by what suits it.

    Parameters
    ----------
    bench
        What multiplies on the CPU.
    backend
        ``"compiled"``, on the CPU wherever operands are; ``"torch"``, on their own device; ``"torch-compiled"``, the
        same with kernels by `torch.compile`; ``"auto"``, compiled on the CPU and torch elsewhere, where there are
        operations of torch for the bench.

    Raises
    ------
    OutOfDomain
        When there is no such backend, or it has no operations for the bench.
    """

    def __init__(self, bench: Multiplier, backend: BackendName = "auto") -> None:
        if backend not in BACKENDS:
            raise OutOfDomain("no such backend", expected=" or ".join(BACKENDS), seen=str(backend), hint="leave it out")
        if backend.startswith("torch") and not _has_operations(bench):
            raise OutOfDomain(
                "this bench has no operations of torch yet",
                expected=f"a bench whose signs are shown as {' or '.join(ENCODED)}",
                seen=type(bench).__name__,
                hint='opticalize(..., backend="compiled") computes it on the CPU',
            )
        self.bench, self.backend = bench, backend
        self._first: Benches | None = None
        self._made: dict[torch.device, OnDevice] = {}

    def at(self, photons_per_mac: float) -> Benches:
        """The same bench at another light level; what has been placed on it stays there."""
        other = Benches(self.bench.at(photons_per_mac), self.backend)
        other._first = self._first or self
        return other

    def on(self, device: torch.device) -> OnDevice:
        """The bench for operands on a device."""
        if device not in self._made:
            self._made[device] = self._make(device)
        return self._made[device]

    def _make(self, device: torch.device) -> OnDevice:
        compiles = self.backend == "compiled" or (self.backend == "auto" and device.type == "cpu")
        bench = _inmost(self.bench)
        if compiles or not isinstance(bench, Bench) or not _has_operations(bench):
            return OnCpu(self.bench, self._first or self)
        like = None if self._first is None else self._first.on(device)
        known = like.inner if isinstance(like, TiledBench) else like
        if isinstance(known, TensorBench) and bench.photons_per_mac is not None:
            made = known.at(bench.photons_per_mac)
        else:
            made = TensorBench(
                bench.optics, bench.photons_per_mac, bench.variance, device, compiled=self.backend == "torch-compiled"
            )
        return TiledBench(made, self.bench.tile) if isinstance(self.bench, TiledBench) else made


def _inmost(bench: Multiplier) -> Multiplier:
    """What multiplies, tile by tile or at once."""
    inner: Multiplier = bench.inner if isinstance(bench, TiledBench) else bench
    return inner


def _has_operations(bench: Multiplier) -> bool:
    inner = _inmost(bench)
    return type(inner) is Bench and inner.optics.encoding.name in ENCODED
