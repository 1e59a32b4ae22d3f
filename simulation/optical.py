"""Any model's linear algebra in light: layers that compute as a calibrated bench, or a preset, would."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from calibration.artefact import Calibration
from calibration.errors import BadOperands, OutOfDomain
from simulation.convert import replace_products
from simulation.light.accounting import Tally
from simulation.light.optics import Optics, optics
from simulation.light.product import VARIANCES, Bench, Noise, Range, Variance
from simulation.light.weights import Weights
from simulation.model import Product
from simulation.quantise import LEVELS, clip_scale
from simulation.ranges import Ranges

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Report:
    """What became optical, what did not, and the light that it took so far.

    Attributes
    ----------
    optical
        Names of linear layers and attention products.
    digital
        Names of other modules that hold parameters.
    layers
        Photons and electrons of each optical one.
    total
        Of all of them.
    """

    optical: tuple[str, ...]
    digital: tuple[str, ...]
    layers: Mapping[str, Tally]
    total: Tally


def opticalize(
    model: Model,
    calibration: Calibration | Optics | str,
    *,
    photons_per_mac: float | None = None,
    seed: int = 0,
    keep: Iterable[str] = (),
    device_seed: int | None = None,
    variance: Variance = "exact",
    ranges: Mapping[str, Ranges] | None = None,
) -> Model:
    """A copy of the model whose linear layers and attention products run on the calibrated bench.

    Parameters
    ----------
    model
        Holds `torch.nn.Linear` layers and `simulation.model.Product` attention products. Embeddings, normalisation,
        softmax, activations and a tied output head stay digital.
    calibration
        From `calibration.artefact.load`; or the name of a preset, ``"ideal"`` or ``"paper"``.
    photons_per_mac
        Photons at the weight plane per MAC and pass, averaged over a token's inputs; the bench's own light if None
        (the presets have none: without it they draw no shot noise).
    seed
        Of the noise; every layer has its own.
    keep
        Names or shell patterns of layers that stay digital.
    device_seed
        See `simulation.light.optics.Optics.of`.
    variance
        See `simulation.light.product.Bench`.
    ranges
        From `simulation.ranges.observe`: inputs are clipped to them, outputs clipped and rounded to 8 bits.

    Raises
    ------
    OutOfDomain
        When there is no such preset or variance, or ``photons_per_mac`` is not positive.
    BadOperands
        When a weight is not a finite number.
    """
    if photons_per_mac is not None and not photons_per_mac > 0:
        raise OutOfDomain(
            "photons per MAC must be positive", seen=str(photons_per_mac), hint="leave it out: bench's light"
        )
    if variance not in VARIANCES:
        raise OutOfDomain("no such variance", expected=" or ".join(VARIANCES), seen=str(variance))
    bench = Bench(optics(calibration, device_seed=device_seed), photons_per_mac, variance)
    optical = copy.deepcopy(model)
    seeds = np.random.SeedSequence(seed)
    known = ranges or {}

    def noise() -> Noise:
        first, second = seeds.spawn(1)[0].generate_state(2)
        return Noise((int(first), int(second)))

    replace_products(
        optical,
        lambda name, linear: OpticalLinear(name, linear, bench, noise(), known.get(name)),
        lambda name, product: OpticalProduct(bench, noise(), known.get(name)),
        keep=keep,
    )
    return optical


def report(model: nn.Module) -> Report:
    """What `opticalize` turned optical in ``model``, and what it took to run since then or since `reset_report`."""
    layers = {name: m.tally for name, m in model.named_modules() if isinstance(m, OpticalLinear | OpticalProduct)}
    digital = [
        name
        for name, m in model.named_modules()
        if not isinstance(m, OpticalLinear) and any(True for _ in m.parameters(recurse=False))
    ]
    total = Tally()
    for tally in layers.values():
        total += tally
    return Report(tuple(layers), tuple(digital), layers, total)


def reset_report(model: nn.Module) -> None:
    """Count photons and electrons anew."""
    for module in model.modules():
        if isinstance(module, OpticalLinear | OpticalProduct):
            module.tally = Tally()


def optical_state(model: nn.Module) -> dict[str, tuple[int, int, int]]:
    """State of the noise of every optical layer: its key and how much of it is used. JSON types."""
    return {
        name: (*m.noise.key, m.noise.calls)
        for name, m in model.named_modules()
        if isinstance(m, OpticalLinear | OpticalProduct)
    }


def load_optical_state(model: nn.Module, state: Mapping[str, tuple[int, int, int]]) -> None:
    """Go on with the noise where `optical_state` was taken.

    Raises
    ------
    OutOfDomain
        When the model has other optical layers.
    """
    found = {name: m for name, m in model.named_modules() if isinstance(m, OpticalLinear | OpticalProduct)}
    if found.keys() != state.keys():
        other = sorted(found.keys() ^ state.keys())
        raise OutOfDomain("the state is of another model", expected=f"{len(found)} layers", seen=f"also {other[0]}")
    for name, (first, second, calls) in state.items():
        found[name].noise = Noise((int(first), int(second)), int(calls))


class OpticalLinear(nn.Module):
    """A linear layer on the bench: the original parameters, shown once; the bias is added digitally.

    Gradients are those of the ideal layer (straight through quantisation and noise), and weights that changed are
    shown anew.
    """

    def __init__(self, name: str, linear: nn.Linear, bench: Bench, noise: Noise, ranges: Ranges | None = None) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.noise, self.tally = noise, Tally()
        self._name, self._bench, self._ranges = name, bench, ranges
        self._shown: tuple[object, Tensor, Weights] | None = None
        self._show()

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        with torch.no_grad():
            scale, weights = self._show()
            flat = x.detach().float().reshape(1, -1, x.shape[-1])
            bias = None if self.bias is None else self.bias.detach().float()
            y = self._bench.product(
                flat, weights, self.noise, self.tally, unit=scale, bias=bias, converters=_converters(self._ranges)
            )
            y = y.view(*x.shape[:-1], -1).to(x.dtype)
        if not torch.is_grad_enabled():
            return y
        through = nn.functional.linear(x, self.weight, self.bias)
        return through + (y - through).detach()

    @property
    def scale(self) -> float:
        """s_w: the weight that full transmission stands for."""
        return float(self._show()[0])

    def _show(self) -> tuple[Tensor, Weights]:
        state = (self.weight.data_ptr(), None if self.weight.is_inference() else self.weight._version)
        if self._shown is None or self._shown[0] != state:
            weight = self.weight.detach().float()
            if not bool(torch.isfinite(weight).all()):
                raise BadOperands("a weight is not a finite number", device=self._name, hint="check the checkpoint")
            scale = clip_scale(weight, self._bench.optics.clip[0]).clamp_min(torch.finfo(torch.float32).tiny)
            self._shown = (
                state,
                scale.view(1),
                self._bench.place(_shape(weight)).show((weight / scale)[None], static=True),
            )
        return self._shown[1:]


class OpticalProduct(Product):
    """``a @ b`` on the bench: b goes on the SLM, anew for every call, clipped per head; a on the display."""

    def __init__(self, bench: Bench, noise: Noise, ranges: Ranges | None = None) -> None:
        super().__init__()
        self.noise, self.tally = noise, Tally()
        self._bench, self._ranges = bench, ranges

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        with torch.no_grad():
            leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            matrices = b.detach().float().mT.expand(*leading, *b.mT.shape[-2:]).flatten(0, -3)
            vectors = a.detach().float().expand(*leading, *a.shape[-2:]).flatten(0, -3)
            scale = clip_scale(matrices, self._bench.optics.clip[1]).clamp_min(torch.finfo(torch.float32).tiny)
            weights = self._bench.place(_shape(matrices)).show(matrices / scale, static=False)
            y = self._bench.product(
                vectors,
                weights,
                self.noise,
                self.tally,
                unit=scale.flatten(),
                attention=True,
                converters=_converters(self._ranges),
            )
            y = y.view(*leading, *y.shape[-2:]).to(a.dtype)
        if not torch.is_grad_enabled():
            return y
        through = a @ b
        return through + (y - through).detach()


def _converters(ranges: Ranges | None) -> Range:
    return Range() if ranges is None else Range(ranges.input, ranges.output / LEVELS, ranges.output)


def _shape(matrices: Tensor) -> tuple[int, int]:
    return matrices.shape[-2], matrices.shape[-1]
