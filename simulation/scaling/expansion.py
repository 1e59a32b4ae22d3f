r"""How much light a model needs, to second order in the noise: what each of its products costs, without a sweep.

Shot noise adds to output o of a product an error of mean zero and variance ``V_o / n`` at n photons per MAC. The error
is new for every output, so what it costs a model is, for small noise, a sum over products l

    E[excess] = Σ_l C_l / n_l + O(1/n²)        C_l = ½ Σ_o V_o ∂²(excess)/∂y_o²

whatever the excess is: nats of the next token, or the Kullback–Leibler (KL) divergence of the model's answer from the
digital one. Here each C_l is measured with noise so small that higher orders vanish, drawn twice with opposite signs:
all odd orders of the expansion cancel in the mean of the two. A model of 24 products takes 24 pairs of readings of the
text, where a sweep takes dozens of levels and seeds and cannot tell the products apart.

The variance is that of the signed four-pass product in `simulation.scaling.operands`, with
``S = Σ |w||x|`` and ``A = Σ |x|`` in the units of the operands and s_w the weight of full transmission:

    V = s_w S A / (p K)         p ∈ {1, 2}: signs of x that are shown

It is computed from the operands alone, with torch: nothing is shared with
`simulation.light`, so that a sweep over light levels tests it.

With a given total of light, ``Σ n_l M_l`` over products of M_l MACs each, the sum of ``C_l / n_l`` is least for
``n_l ∝ √(C_l / M_l)`` (Lagrange), and smaller than with equal light by ``(Σ √(C_l M_l))² / (Σ C_l Σ M_l)``.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.asked import seed_of_noise
from simulation.conversion.convert import convert, shared_copy
from simulation.conversion.quantise import clip_scale
from simulation.conversion.routing import Matrix, Pair
from simulation.evaluation.perplexity import batches, logits_of, require_text, tokens_of
from simulation.scaling.documents import at_once

Kind = Literal["ffn", "qkvo", "qk", "av"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Feed-forward layers and whatever else is a matrix; the four projections of attention; Q·Kᵀ; attention times V."""
SMALL = 1e-4
"""Nats per token of KL divergence that the probing noise aims at: higher orders are as small beside the second."""
FIRST = 1e6
"""Photons per MAC of the first probe, from which the light of the second is taken."""
REMEMBERED = 1 << 26
"""Log-probabilities without noise that are kept, half a gigabyte; those of longer texts are computed again."""
_PROJECTION = re.compile(r"attn|attention|query|key|value|(^|[._])([qkvo]|qkv|kv|out)_?(proj|lin)?($|[._(])", re.I)
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """Of one product, or of several together.

    Attributes
    ----------
    kl, loss
        C: nats per token at one photon per MAC and pass, above the digital model.
    kl_stderr, loss_stderr
        From the scatter between windows of the text, each with noise of its own.
    """

    kl: float
    kl_stderr: float
    loss: float
    loss_stderr: float


@dataclass(frozen=True)
class ProductCost:
    """One product of a model.

    Attributes
    ----------
    name
        As in `simulation.conversion.optical.OpticalReport`.
    kind
        `Kind`
    macs
        Multiply–accumulates while the text was read once.
    cost
        `Cost`
    """

    name: str
    kind: Kind
    macs: int
    cost: Cost


@dataclass(frozen=True)
class Expansion:
    """The second order of one model.

    Attributes
    ----------
    products
        In the order in which they run.
    together
        All at the same light, drawn anew: the test that the products add up.
    tokens
        That were scored.
    nats
        Per token, without noise.
    """

    products: tuple[ProductCost, ...]
    together: Cost
    tokens: int
    nats: float

    @property
    def total(self) -> Cost:
        """The sum of the products; their noises are independent of each other."""
        return _sum([product.cost for product in self.products])

    def kinds(self) -> dict[Kind, Cost]:
        """The sums of each kind of product that the model has."""
        found = {kind: [p.cost for p in self.products if p.kind == kind] for kind in KINDS}
        return {kind: _sum(costs) for kind, costs in found.items() if costs}

    def photons(self, nats: float, metric: Literal["kl", "loss"] = "kl") -> float:
        """Light at which the excess is ``nats`` per token, equal for all products; nan where noise helps the model."""
        total = getattr(self.total, metric)
        return total / nats if total > 0 else math.nan

    def budget(self, photons_per_mac: float, passes: Mapping[str, float] | None = None) -> dict[str, float]:
        """Share out light so that the KL divergence is least.

        Parameters
        ----------
        photons_per_mac
            In the mean over all multiply–accumulates, or over ``passes`` where they are known.
        passes
            Optical multiply–accumulates of each product, one for each pass that is shown
            (`simulation.light.accounting.Tally.passes`): a product whose vectors have one sign takes half of the light
            of others. The same for every multiply–accumulate if None.

        Returns
        -------
        Photons per MAC and pass of each product. One that takes no passes, or that ran after the costs had been
        measured (an expert that the first tokens did not ask), gets the mean.

        Raises
        ------
        OutOfDomain
            When the mean is not a positive number.
        """
        if not 0 < photons_per_mac < math.inf:
            raise OutOfDomain("photons per MAC must be positive", seen=str(photons_per_mac))
        taken = {p.name: p.macs for p in self.products} if passes is None else passes
        macs = {p.name: float(taken.get(p.name, 0)) for p in self.products}
        each = {p.name: max(p.cost.kl, p.cost.kl_stderr) / macs[p.name] for p in self.products if macs[p.name] > 0}
        light = dict.fromkeys([*macs, *taken], float(photons_per_mac))
        if least := min((cost for cost in each.values() if cost > 0), default=0.0):
            root = {name: math.sqrt(max(cost, least)) for name, cost in each.items()}
            mean = sum(root[name] * macs[name] for name in root) / sum(macs[name] for name in root)
            light |= {name: photons_per_mac * share / mean for name, share in root.items()}
        return light

    @property
    def gain_of_budget(self) -> float:
        """How many times less light `budget` needs than equal light, for the same KL divergence."""
        costs = np.array([max(p.cost.kl, 0.0) for p in self.products])
        macs = np.array([p.macs for p in self.products], float)
        if not costs.any():
            return 1.0
        return float(costs.sum() * macs.sum() / np.sqrt(costs * macs).sum() ** 2)


def expand(
    model: nn.Module,
    token_ids: Sequence[int] | Tensor,
    *,
    context: int,
    max_tokens: int | None = None,
    clip: tuple[float, float] = (100.0, 100.0),
    quantum_efficiency: float = 1.0,
    seed: int = 0,
    head: bool = False,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> Expansion:
    """Measure what the shot noise of each product costs.

    Parameters
    ----------
    model
        (B, T) tokens to logits, as for `simulation.evaluation.perplexity.perplexity`.
    token_ids, context, max_tokens
        The text, as there.
    clip
        Percentile of the magnitudes that full transmission stands for: weights, second operands of attention.
    quantum_efficiency
        Detected electrons per photon at the weight plane [e-/photon].
    seed
        Of the noise.
    head
        Whether the output head is in light too.
    advance
        Told how many readings of the text are done, and of how many.

    Raises
    ------
    BadOperands
        When the text is too short or the model's answer is not finite.
    OutOfDomain
        When no product of the model would be in light, or there is no such light or seed.
    """
    ids = tokens_of(token_ids, max_tokens)
    require_text(ids, context, context)
    if not 0 < quantum_efficiency <= 1 or not all(0 < percentile <= 100 for percentile in clip):
        raise OutOfDomain(
            "no light is like this",
            expected="a quantum efficiency from 0 to 1, percentiles from 0 to 100",
            seen=f"{quantum_efficiency}, {clip}",
            hint="quantum_efficiency=1.0, clip=(100.0, 100.0)",
        )
    seed = seed_of_noise(seed)
    windows = list(batches(ids, context, context, at_once(context)))
    noise = TinyNoise(clip, quantum_efficiency, seed)
    probe = Probe.of(model, noise, windows, head=head)
    names = list(noise.kinds)
    if not names:
        raise OutOfDomain("no product of this model would be in light", seen=type(model).__name__)
    found = []
    for done, name in enumerate(names):
        advance(done, len(names) + 1)
        found.append(ProductCost(name, noise.kinds[name], probe.macs[name], probe.cost(frozenset([name]))))
    advance(len(names), len(names) + 1)
    together = probe.cost(frozenset(names))
    advance(len(names) + 1, len(names) + 1)
    return Expansion(tuple(found), together, int(probe.tokens.sum()), float(probe.nats.sum() / probe.tokens.sum()))


class TinyNoise:
    """`simulation.conversion.routing.Light` of exact products, to some of which noise is added.

    Attributes
    ----------
    active
        Names of the products that are noisy now.
    amplitude
        ± n^−½, of all of them.
    kinds, macs
        Of every product that has run, and its MACs since they were last set to zero.
    """

    def __init__(self, clip: tuple[float, float], quantum_efficiency: float, seed: int) -> None:
        self.active: frozenset[str] = frozenset()
        self.amplitude = 0.0
        self.kinds: dict[str, Kind] = {}
        self.macs: dict[str, int] = {}
        self._clip, self._efficiency, self._seed = clip, quantum_efficiency, seed
        self._generators: dict[str, torch.Generator] = {}
        self._shown: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def begin(self, text: int, active: frozenset[str], amplitude: float) -> None:
        """The next forward reads the windows number ``text``; the same ones get the same draws, but for the sign."""
        self.active, self.amplitude = active, amplitude
        self._generators = {}
        for name in active:
            digest = hashlib.sha256(f"{self._seed}/{text}/{len(active)}/{name}".encode()).digest()
            self._generators[name] = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """Weights beyond the clip are shown as the clip."""

        def multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            shown, scale = self._scaled(name, weight)
            y = nn.functional.linear(x, shown, bias)
            self._count(name, "qkvo" if _PROJECTION.search(name) else "ffn", y.numel() * x.shape[-1])
            return self._noisy(name, y, x, shown.mT, scale) if name in self.active else y

        return multiply

    def pair(self, name: str) -> Pair:
        """The second operand is clipped, each matrix of it by its own scale."""

        def multiply(a: Tensor, b: Tensor) -> Tensor:
            scale = clip_scale(b.mT, self._clip[1])
            shown = b if self._clip[1] >= 100 else b.clamp(-scale, scale)
            y = a @ shown
            self._count(name, "av" if _are_shares(a) else "qk", y.numel() * a.shape[-1])
            return self._noisy(name, y, a, shown, scale) if name in self.active else y

        return multiply

    def _scaled(self, name: str, weight: Tensor) -> tuple[Tensor, Tensor]:
        known = self._shown.get(name)
        if known is None or known[0].data_ptr() != weight.data_ptr() or known[0].shape != weight.shape:
            scale = clip_scale(weight, self._clip[0])
            shown = weight if self._clip[0] >= 100 else weight.clamp(-scale, scale)
            known = self._shown[name] = weight, shown, scale
        return known[1], known[2]

    def _count(self, name: str, kind: Kind, macs: int) -> None:
        self.kinds.setdefault(name, kind)
        self.macs[name] = self.macs.get(name, 0) + macs

    def _noisy(self, name: str, y: Tensor, x: Tensor, matrix: Tensor, scale: Tensor) -> Tensor:
        """Of x (…, K) and matrix (…, K, M) on the scale (…, 1, 1)."""
        magnitude = x.abs()
        signs = ((x > 0).any(-1).to(x.dtype) + (x < 0).any(-1)).clamp_min(1)[..., None]
        light = magnitude @ matrix.abs()
        per_output = magnitude.sum(-1, keepdim=True) / (signs * x.shape[-1] * self._efficiency)
        spread = (light * per_output * (scale if scale.ndim == y.ndim else scale.flatten()[0])).sqrt()
        drawn = torch.randn(y.shape, generator=self._generators[name]).to(y.dtype)
        return y + self.amplitude * spread * drawn


class Probe:
    """Readings of one text with more or less noise, compared with the one without.

    Attributes
    ----------
    tokens, nats
        Of each window, without noise.
    macs
        Of each product while the text was read once.
    """

    def __init__(self, model: nn.Module, noise: TinyNoise, windows: list[tuple[Tensor, Tensor]]) -> None:
        self._model, self._noise, self._windows = model, noise, windows
        self._reference: dict[int, Tensor] = {}
        self.tokens = np.concatenate([np.full(len(targets), targets.shape[1]) for _, targets in windows])
        self.nats = np.concatenate([_nats(self._digital(i), t).numpy() for i, (_, t) in enumerate(windows)])
        self.macs = dict(noise.macs)

    @classmethod
    def of(
        cls, model: nn.Module, noise: TinyNoise, windows: list[tuple[Tensor, Tensor]], *, head: bool = False
    ) -> Probe:
        """Of a copy of a model, in single precision: in fewer bits rounding is larger than the noise."""
        held = [*model.parameters(), *model.buffers()]
        is_coarse = any(tensor.is_floating_point() and tensor.element_size() < 4 for tensor in held)
        converted = copy.deepcopy(model).float() if is_coarse else shared_copy(model)
        convert(converted, noise, head=head)
        return cls(converted, noise, windows)

    def cost(self, active: frozenset[str]) -> Cost:
        """Of noise in these products."""
        kl, loss = self.of_windows(active)
        return Cost(*_ratio(kl, self.tokens), *_ratio(loss, self.tokens))

    def of_windows(self, active: frozenset[str]) -> tuple[Float, Float]:
        """C of each window, summed over its tokens: KL divergence, loss."""
        kl, _ = self._pair(active, FIRST, only=1)
        first = float(kl.sum() / self.tokens[: len(kl)].sum())
        n = FIRST * first / SMALL if first > 0 else FIRST
        kl, loss = self._pair(active, n)
        return kl * n, loss * n

    def _pair(self, active: frozenset[str], n: float, only: int | None = None) -> tuple[Float, Float]:
        """Excess nats of each window, the mean of noise and the opposite noise: KL divergence, loss."""
        divergence, excess = [], []
        for number, (_, targets) in list(enumerate(self._windows))[:only]:
            digital = self._digital(number)
            base = _nats(digital, targets)
            lit = [self._answers(number, active, sign / math.sqrt(n)) for sign in (1, -1)]
            mean = torch.stack(lit).mean(0)
            divergence.append((digital.exp() * (digital - mean)).sum((1, 2)))
            excess.append(_nats(mean, targets) - base)
        return torch.cat(divergence).numpy(), torch.cat(excess).numpy()

    def _digital(self, number: int) -> Tensor:
        """The answer without noise, as it was, or computed again."""
        found = self._reference.get(number)
        if found is None:
            found = self._answers(number, frozenset(), 0.0)
            if sum(each.numel() for each in self._reference.values()) + found.numel() <= REMEMBERED:
                self._reference[number] = found
        return found

    def _answers(self, number: int, active: frozenset[str], amplitude: float) -> Tensor:
        """(B, S, V) log-probabilities of the scored tokens, float64."""
        inputs, targets = self._windows[number]
        self._noise.begin(number, active, amplitude)
        with torch.inference_mode():
            answer = logits_of(self._model, inputs)
        logits = answer[:, -targets.shape[1] :].double()
        if not logits.isfinite().all():
            raise BadOperands("the model's answer is not finite", expected="finite logits", hint="check the checkpoint")
        answers: Tensor = logits.log_softmax(-1)
        return answers


def _nats(answers: Tensor, targets: Tensor) -> Tensor:
    """(B,) summed over the window."""
    return -answers.gather(-1, targets[..., None])[..., 0].sum(1)


def _ratio(total: Float, tokens: Float) -> tuple[float, float]:
    """Per token, over windows, with its standard error."""
    mean, n = float(total.sum() / tokens.sum()), len(total)
    scatter = float(np.square(total - mean * tokens).sum())
    return mean, math.sqrt(scatter * n / (n - 1)) / float(tokens.sum()) if n > 1 else math.nan


def _are_shares(a: Tensor) -> bool:
    """Are the rows what softmax gives: none negative, and a sum of one?"""
    sums = a.sum(-1)
    return bool((a >= 0).all()) and bool(((sums - 1).abs() < 1e-2).all())


def _sum(costs: Sequence[Cost]) -> Cost:
    def root(name: str) -> float:
        return math.sqrt(sum(getattr(cost, name) ** 2 for cost in costs))

    return Cost(sum(c.kl for c in costs), root("kl_stderr"), sum(c.loss for c in costs), root("loss_stderr"))
