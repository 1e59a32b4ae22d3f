"""Any model's linear algebra on a calibrated bench: what it computes, with the noise that it would have.

The passes of the sign split fold. With V = V⁺ − V⁻ and v = v⁺ − v⁻ the realised operands, T and D the transmissions
that SLM and display really show, and ``z = Σ_k u T D`` the light of one pass, the decoded sum of all passes has

    mean      s_w s_x Σ_k V_k v_k                                         one matmul of signed operands
    variance  (s_w s_x / scale)² (N σ² + κ Z + ρ² Z² / N),   Z = Σ_k u (T⁺ + T⁻)(D⁺ + D⁻)      one of magnitudes

N counts passes and column tiles; the light of a frame splits evenly enough over the N that Z² / N stands for the sum of
its squares in the intensity noise, which is the smallest term. Light can be scaled per token to a stated number of
photons per MAC: shot noise then scales with it and read noise does not, as on the bench. Noise is normal; below
about 100 detected electrons per output that is an approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from calibration.artefact import Calibration
from calibration.errors import BadOperands, OutOfDomain
from calibration.lut import Lut
from simulation.convert import Conversion, convert, shared_copy
from simulation.quantise import ATTENTION_CLIP, LINEAR_CLIP, clip_scale

Model = TypeVar("Model", bound=nn.Module)


def opticalize(
    model: Model,
    calibration: Calibration,
    *,
    photons_per_mac: float | None = None,
    seed: int = 0,
    keep: Iterable[str] = (),
    head: bool = False,
) -> Model:
    """A copy of the model whose linear layers and attention products run on the calibrated bench.

    Parameters
    ----------
    model
        Holds `torch.nn.Linear` layers and `simulation.model.Product` attention products. Embeddings, normalisation,
        softmax, activations and a tied output head stay digital.
    calibration
        From `calibration.artefact.load`.
    photons_per_mac
        Photons at the weight plane per MAC and pass, averaged over a token's inputs; the bench's own light if None.
    seed
        Of the noise; every layer has its own generator.
    keep
        Names or shell patterns of layers that stay digital.
    head
        Whether the output head becomes optical too.

    Raises
    ------
    OutOfDomain
        When the calibration is not for sign-split operands, or ``photons_per_mac`` is not positive.
    BadOperands
        When a weight is not a finite number.
    """
    if photons_per_mac is not None and not photons_per_mac > 0:
        raise OutOfDomain(
            "photons per MAC must be positive", seen=str(photons_per_mac), hint="leave it out: bench's light"
        )
    bench = OpticalBench(calibration, photons_per_mac)
    optical = shared_copy(model)
    seeds = np.random.SeedSequence(seed)

    conversion = convert(optical, _Layers(bench, seeds), keep=keep, head=head)
    optical.optical_conversion = conversion  # type: ignore[assignment]
    return optical


def report(model: nn.Module) -> Conversion:
    """What `opticalize` turned optical in ``model``, and why the rest stayed digital."""
    found = getattr(model, "optical_conversion", None)
    return found if isinstance(found, Conversion) else Conversion()


class _Layers:
    """`simulation.convert.Light` of a bench: every layer has its own generator."""

    def __init__(self, bench: OpticalBench, seeds: np.random.SeedSequence) -> None:
        self._bench, self._seeds = bench, seeds
        self._generators: dict[str, torch.Generator] = {}

    def matrix(self, name: str, weight: Tensor) -> Callable[[Tensor], Tensor]:
        return OpticalMatrix(name, weight, self._bench, self._generator(name))

    def pair(self, name: str) -> Callable[[Tensor, Tensor], Tensor]:
        return OpticalPair(self._bench, self._generator(name))

    def _generator(self, name: str) -> torch.Generator:
        if name not in self._generators:
            seed = int(self._seeds.spawn(1)[0].generate_state(1, np.uint64)[0] >> 1)
            self._generators[name] = torch.Generator().manual_seed(seed)
        return self._generators[name]


class OpticalBench:
    """The numbers of a calibration that a folded product needs, as tensors."""

    def __init__(self, calibration: Calibration, photons_per_mac: float | None) -> None:
        machine = calibration.machine
        if machine.encoding.name != "sign-split":
            raise OutOfDomain(
                "only sign-split operands can be folded", expected="sign-split", seen=machine.encoding.name
            )
        channel = machine.channel
        self.layout = machine.layout
        self.display, self.slm = Levels(machine.display), Levels(machine.slm)
        self.gain = torch.from_numpy(channel.gain_dn / channel.gain_dn.min()).float()  # (M, K), ≥ 1
        unmix = float((channel.unmixing**2).sum(axis=1).mean())
        spill = 1 + float(channel.crosstalk.sum(axis=1).mean())  # a region's neighbours light it too
        scale = machine.scale_dn
        self.read_variance = unmix * (channel.noise.read_dn / scale) ** 2
        self.shot_variance = unmix * spill * channel.noise.shot_dn * float(channel.gain_dn.min()) / scale**2
        self.intensity_variance = (channel.noise.intensity * float(channel.gain_dn.min()) / scale) ** 2
        full = float(channel.gain_dn.mean()) / channel.noise.shot_dn
        self.photons_at_full = full / calibration.domain.quantum_efficiency
        self.photons_per_mac = photons_per_mac

    def flat(self, shape: tuple[int, int]) -> tuple[Tensor, int]:
        """Relative gain (M, K) under every element of a matrix of ``shape`` as tiled on the bench, and column tiles."""
        gain = torch.empty(shape)
        columns = set()
        for tile in self.layout.tiles(shape):
            rows, k = tile.shape
            gain[tile.rows, tile.columns] = self.gain[:rows, :k]
            columns.add(tile.col0)
        return gain, len(columns)

    def weights(self, weight: Tensor) -> Weights:
        """Show matrices (…, M, K), scaled to −1 … 1 and clipped there."""
        gain, tiles = self.flat((weight.shape[-2], weight.shape[-1]))
        w = weight.clamp(-1, 1)
        floor = self.slm.floor
        plus, minus = self.slm.show(w.clamp_min(0) / gain), self.slm.show((-w).clamp_min(0) / gain)
        signed = (plus - minus) * gain / (1 - floor)
        return Weights(signed.mT.contiguous(), ((plus + minus) * gain).mT.contiguous(), tiles)

    def product(self, x: Tensor, weights: Weights, generator: torch.Generator) -> Tensor:
        """x (…, n, K) on ``weights``, in units of the input's scale: noisy (…, n, M)."""
        peak = x.abs().amax(-1, keepdim=True)
        scale = torch.where(peak > 0, peak, torch.ones_like(peak))
        v = x / scale
        floor = self.display.floor
        plus, minus = v.clamp_min(0), (-v).clamp_min(0)
        lit = [(part > 0).any(-1, keepdim=True) for part in (plus, minus)]
        shown = [self.display.show(part) for part in (plus, minus)]
        passes = 2.0 * (lit[0].float() + lit[1].float()).clamp_min(1.0)  # two weight passes for each lit input pass
        signed = (shown[0] - shown[1]) / (1 - floor)
        bright = shown[0] * lit[0] + shown[1] * lit[1]
        mean = signed @ weights.signed
        light = bright @ weights.magnitude
        relative = torch.ones_like(passes)
        if self.photons_per_mac is not None:
            photons = bright.mean(-1, keepdim=True) / (passes / 2) * self.photons_at_full
            relative = self.photons_per_mac / photons.clamp_min(1e-12)
        frames = passes * weights.tiles
        variance = (
            frames * self.read_variance / relative**2
            + self.shot_variance * light / relative
            + self.intensity_variance * light.square() / frames
        )
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        return torch.where(peak > 0, mean + noise * variance.sqrt(), torch.zeros_like(mean)) * scale


@dataclass(frozen=True)
class Weights:
    """A matrix on the SLM: ``signed`` and ``magnitude`` (…, K, M), and how many column tiles it takes."""

    signed: Tensor
    magnitude: Tensor
    tiles: int


class Levels:
    """A LUT as tensors: operands 0 … 1 to the transmission that the nearest level gives."""

    def __init__(self, lut: Lut) -> None:
        self.floor = lut.floor
        self._table = torch.from_numpy(lut.transmission).float()  # (levels,)
        self._midpoints = (self._table[1:] + self._table[:-1]) / 2

    def show(self, operand: Tensor) -> Tensor:
        """Transmission of the level nearest to ``floor + (1 − floor)·operand``."""
        target = self.floor + (1 - self.floor) * operand
        return self._table[torch.bucketize(target.contiguous(), self._midpoints)]


class OpticalMatrix:
    """A matrix (M, K) that stays on the bench."""

    def __init__(self, name: str, weight: Tensor, bench: OpticalBench, generator: torch.Generator) -> None:
        self._bench, self._generator = bench, generator
        weight = weight.detach().float()
        if not bool(torch.isfinite(weight).all()):
            raise BadOperands("a weight is not a finite number", device=name, hint="check the checkpoint")
        self._scale = clip_scale(weight, LINEAR_CLIP).clamp_min(torch.finfo(torch.float32).tiny)
        self._weights = bench.weights(weight / self._scale)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, K) to (…, M)."""
        return self._bench.product(x, self._weights, self._generator) * self._scale[0]


class OpticalPair:
    """``a @ b`` on the bench: b goes on the SLM, anew for every call, clipped per head; a on the display."""

    def __init__(self, bench: OpticalBench, generator: torch.Generator) -> None:
        self._bench, self._generator = bench, generator

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        scale = clip_scale(b, ATTENTION_CLIP).clamp_min(torch.finfo(torch.float32).tiny)
        weights = self._bench.weights(b.mT / scale)
        return self._bench.product(a, weights, self._generator) * scale
