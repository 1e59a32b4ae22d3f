"""Any model's linear algebra in light: layers that compute as a calibrated bench, or a preset, would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.convert import Conversion, convert, shared_copy
from simulation.conversion.quantise import LEVELS, clip_scale
from simulation.conversion.ranges import Ranges
from simulation.light.accounting import Tally
from simulation.light.optics import Source, optics
from simulation.light.product import VARIANCES, Bench, Noise, Range, Variance
from simulation.light.weights import Weights

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class OpticalReport:
    """What became optical, what did not and why, and the light that it has used so far.

    Attributes
    ----------
    optical
        Names of matrices and attention products.
    digital
        Names of other modules that hold parameters, or attend → why they stayed digital.
    layers
        Photons and electrons of each optical one.
    total
        Of all of them.
    """

    optical: tuple[str, ...]
    digital: Mapping[str, str]
    layers: Mapping[str, Tally]
    total: Tally


def opticalize(
    model: Model,
    calibration: Source,
    *,
    photons_per_mac: float | None = None,
    seed: int = 0,
    keep: Iterable[str] = (),
    device_seed: int | None = None,
    variance: Variance = "exact",
    ranges: Mapping[str, Ranges] | None = None,
    head: bool = False,
) -> Model:
    """Copy a model so that its linear layers and attention products run on a calibrated bench.

    The copy holds the original's parameters, under the original's names.

    Parameters
    ----------
    model
        Any model of torch; `simulation.conversion.convert` says which of its layers are found. Embeddings,
        normalisation, softmax, activations and the output head stay digital.
    calibration
        From `load_calibration`; or the name of a preset, ``"ideal"`` or ``"paper"``.
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
        From `simulation.conversion.ranges.observe`: inputs are clipped to them, outputs clipped and rounded to 8 bits.
    head
        Whether the output head becomes optical too.

    Raises
    ------
    OutOfDomain
        When there is no such preset or variance, or ``photons_per_mac`` is not positive.
    BadOperands
        When a weight is not a finite number.

    Examples
    --------
    >>> import labctl, torch
    >>> model = torch.nn.Linear(16, 8)
    >>> optical = labctl.opticalize(torch.nn.Sequential(model), "paper", photons_per_mac=1000.0)
    >>> optical(torch.rand(5, 16)).shape
    torch.Size([5, 8])
    """
    if photons_per_mac is not None and not photons_per_mac > 0:
        raise OutOfDomain(
            "photons per MAC must be positive", seen=str(photons_per_mac), hint="leave it out: bench's light"
        )
    if variance not in VARIANCES:
        raise OutOfDomain("no such variance", expected=" or ".join(VARIANCES), seen=str(variance))
    bench = Bench(optics(calibration, device_seed=device_seed), photons_per_mac, variance)
    optical = shared_copy(model)
    layers = Layers(bench, seed, ranges or {})
    layers.conversion = convert(optical, layers, keep=keep, head=head)
    optical.optical_layers = layers  # type: ignore[assignment]
    return optical


def optical_report(model: nn.Module) -> OpticalReport:
    """Say what `opticalize` turned optical, what stayed digital and why, and how much light the model has used.

    Light is counted from `opticalize` or the last `reset_optical_report` on.

    Raises
    ------
    OutOfDomain
        For a model that is not optical.

    Examples
    --------
    >>> import labctl, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.LayerNorm(8))
    >>> optical = labctl.opticalize(model, "ideal", photons_per_mac=100.0)
    >>> y = optical(torch.rand(5, 16))
    >>> found = labctl.optical_report(optical)
    >>> found.optical, dict(found.digital), found.total.products
    (('0',), {'1': 'normalisation'}, 5)
    """
    layers = layers_of(model)
    tallies = {name: layer.tally for name, layer in layers.by_name.items()}
    total = Tally()
    for tally in tallies.values():
        total += tally
    return OpticalReport(tuple(layers.conversion.optical), layers.conversion.digital, tallies, total)


def reset_optical_report(model: nn.Module) -> None:
    """Count photons and electrons anew."""
    for layer in layers_of(model).by_name.values():
        layer.tally = Tally()


def optical_state(model: nn.Module) -> dict[str, tuple[int, int, int]]:
    """State of the noise of every optical layer: its key and how much of it is used. JSON types."""
    return {name: (*layer.noise.key, layer.noise.calls) for name, layer in layers_of(model).by_name.items()}


def load_optical_state(model: nn.Module, state: Mapping[str, tuple[int, int, int]]) -> None:
    """Go on with the noise where `optical_state` was taken.

    Raises
    ------
    OutOfDomain
        When the model has other optical layers.
    """
    found = layers_of(model).by_name
    if found.keys() != state.keys():
        other = sorted(found.keys() ^ state.keys())
        raise OutOfDomain("the state is of another model", expected=f"{len(found)} layers", seen=f"also {other[0]}")
    for name, (first, second, calls) in state.items():
        found[name].noise = Noise((int(first), int(second)), int(calls))


class Layers:
    """The light of one bench for `simulation.conversion.convert`: each product has its own noise and its own tally.

    Attributes
    ----------
    by_name
        In the model's order.
    conversion
        What became optical.
    """

    def __init__(self, bench: Bench, seed: int, ranges: Mapping[str, Ranges]) -> None:
        self.by_name: dict[str, OpticalMatrix | OpticalPair] = {}
        self.conversion = Conversion()
        self._bench, self._seeds, self._ranges = bench, np.random.SeedSequence(seed), ranges

    def matrix(self, name: str, weight: Tensor) -> OpticalMatrix:
        """A matrix on the bench."""
        made = OpticalMatrix(name, weight, self._bench, self._noise(), self._ranges.get(name))
        self.by_name[name] = made
        return made

    def pair(self, name: str) -> OpticalPair:
        """An attention product on the bench."""
        made = OpticalPair(self._bench, self._noise(), self._ranges.get(name))
        self.by_name[name] = made
        return made

    def _noise(self) -> Noise:
        first, second = self._seeds.spawn(1)[0].generate_state(2)
        return Noise((int(first), int(second)))


def layers_of(model: nn.Module) -> Layers:
    """The optical layers of what `opticalize` returned.

    Raises
    ------
    OutOfDomain
        For a model that is not optical.
    """
    found = getattr(model, "optical_layers", None)
    if not isinstance(found, Layers):
        raise OutOfDomain("the model is not optical", seen=type(model).__name__, hint="opticalize(model, calibration)")
    return found


class OpticalMatrix:
    """A matrix that stays on the bench, shown once, and anew when its weights have changed.

    The bias is added digitally. Gradients are those of the ideal layer: straight through quantisation and noise.
    """

    def __init__(self, name: str, weight: Tensor, bench: Bench, noise: Noise, ranges: Ranges | None = None) -> None:
        self.noise, self.tally = noise, Tally()
        self._name, self._bench, self._ranges = name, bench, ranges
        self._shown: tuple[object, Tensor, Weights] | None = None
        self._show(weight)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (…, K), weight (M, K) and bias (M,) to (…, M)."""
        with torch.no_grad():
            scale, weights = self._show(weight)
            flat = x.detach().float().reshape(1, -1, x.shape[-1])
            added = None if bias is None else bias.detach().float()
            y = self._bench.product(
                flat, weights, self.noise, self.tally, unit=scale, bias=added, converters=_converters(self._ranges)
            )
            y = y.view(*x.shape[:-1], -1).to(x.dtype)
        if not torch.is_grad_enabled():
            return y
        through = nn.functional.linear(x, weight, bias)
        return through + (y - through).detach()

    def _show(self, weight: Tensor) -> tuple[Tensor, Weights]:
        state = (weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self._shown is None or self._shown[0] != state:
            weight = weight.detach().float()
            if not bool(torch.isfinite(weight).all()):
                raise BadOperands("a weight is not a finite number", device=self._name, hint="check the checkpoint")
            scale = clip_scale(weight, self._bench.optics.clip[0]).clamp_min(torch.finfo(torch.float32).tiny)
            shown = self._bench.place(_shape(weight)).show((weight / scale)[None], static=True)
            self._shown = state, scale.view(1), shown
        return self._shown[1:]


class OpticalPair:
    """``a @ b`` on the bench: b goes on the SLM, anew for every call, clipped per head; a on the display."""

    def __init__(self, bench: Bench, noise: Noise, ranges: Ranges | None = None) -> None:
        self.noise, self.tally = noise, Tally()
        self._bench, self._ranges = bench, ranges

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
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
