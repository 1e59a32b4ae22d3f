"""Adapt a trained model to a bench: what it answers in light is drawn towards what it answered digitally.

Distillation (Hinton et al., arXiv 1503.02531) with the calibrated twin in the loop: the student's products are those of
the bench, with new noise at every step, and their gradients those of the exact products (Wright et al., Nature 601,
549, 2022). The teacher is the model as it was, computed digitally.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.benches.imported import Imported
from simulation.conversion.asked import light_level
from simulation.conversion.optical import opticalize, reseed
from simulation.conversion.ranges import Ranges, observe
from simulation.evaluation.perplexity import logits_of, perplexity
from simulation.light.optics import Optics
from simulation.models.checkpoint import digest
from simulation.training.recipe import cosine
from simulation.training.state import TrainingState
from simulation.training.step import adam, descend
from simulation.training.train import Progress
from simulation.training.tuning import LowRank, Tuning, WholeWeights

Model = TypeVar("Model", bound=nn.Module)

LOW_RANK_RATE = 1.5e-3
WHOLE_RATE = 5e-4
WARMUP = 0.05  # of the steps
LARGEST_GRADIENT = 1.0  # its norm
SCORING_SEED = 1  # of the noise in which held-out text is scored


@dataclass(frozen=True)
class AdaptConfig:
    """How a model is adapted.

    Attributes
    ----------
    photons_per_mac
        Of the light in the loop, at the weight plane per MAC and pass; the bench's own if None.
    rank
        Of the corrections to each matrix (LoRA); None: every weight moves (full fine-tuning).
    quantise
        Quantisation-aware: inputs clipped at the 99.99th percentile of a first batch, outputs clipped and rounded to 8
        bits, as converters beside the bench would; see `simulation.conversion.ranges`.
    text_share
        Part of the loss that is the text's own (cross-entropy of the next token); the rest is the Kullback–Leibler
        divergence from the digital model's distribution to that in light.
    tokens, batch, context
        Tokens to learn from, in steps of ``batch`` windows of ``context`` tokens.
    learning_rate
        At its peak; `LOW_RANK_RATE` or `WHOLE_RATE` if None.
    seed
        Of the windows, the corrections and the noise.
    evaluate_every
        Steps between evaluations on held-out text, each of which is a place to resume.
    score_tokens
        Held-out tokens in each of them.

    Examples
    --------
    >>> import labctl
    >>> labctl.AdaptConfig(photons_per_mac=1000.0, tokens=100_000, batch=4, context=256).steps
    98
    """

    photons_per_mac: float | None = None
    rank: int | None = 16
    quantise: bool = False
    text_share: float = 0.0
    tokens: int = 200_000
    batch: int = 4
    context: int = 256
    learning_rate: float | None = None
    seed: int = 0
    evaluate_every: int = 50
    score_tokens: int = 1024

    def __post_init__(self) -> None:
        rank = 1 if self.rank is None else self.rank
        if self.photons_per_mac is not None:
            light_level(self.photons_per_mac)
        counts = (self.tokens, self.batch, self.context, self.evaluate_every, self.score_tokens, rank)
        rate = 0.1 if self.learning_rate is None else self.learning_rate
        if min(counts) < 1 or not 0 <= self.text_share <= 1 or not 0 < rate < 1:
            raise OutOfDomain(
                "no adaptation has this schedule",
                expected="counts and a rank from 1 on, a share in 0..1, a learning rate between 0 and 1",
                seen=str(self),
                hint="leave the schedule at its defaults",
            )

    @property
    def steps(self) -> int:
        """Optimiser steps: as many as it takes to see the tokens."""
        return -(-self.tokens // (self.batch * self.context))

    def rate_at(self, step: int) -> float:
        """Learning rate of the optimiser step number ``step``, counted from 0."""
        peak = self.learning_rate or (WHOLE_RATE if self.rank is None else LOW_RANK_RATE)
        return cosine(step, self.steps, max(1, round(WARMUP * self.steps)), peak)


@dataclass(frozen=True)
class Twin:
    """A bench as a model meets it: what light it computes in.

    Attributes
    ----------
    bench
        From `simulation.benches.opening.described`.
    photons_per_mac
        See `AdaptConfig`.
    ranges
        Of the converters; empty: none.
    """

    bench: Optics | Imported
    photons_per_mac: float | None
    ranges: Mapping[str, Ranges]

    def of(self, model: Model, seed: int = SCORING_SEED) -> Model:
        """The model in its light."""
        return opticalize(model, self.bench, photons_per_mac=self.photons_per_mac, seed=seed, ranges=self.ranges)


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Attributes
    ----------
    model
        An ordinary model with other weights, in evaluation mode.
    twin
        The light that it was adapted to.
    curve
        ``[step, loss, held-out nats/token in light]`` of every evaluation, the first before any step.
    moved
        How many numbers moved, of how many.
    seconds
        All sittings together.
    """

    model: nn.Module
    twin: Twin
    curve: list[list[float]]
    moved: tuple[int, int]
    seconds: float


def distil(
    model: nn.Module,
    bench: Optics | Imported,
    learned: Tensor,
    heldout: Tensor,
    config: AdaptConfig,
    *,
    state: str | Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Adapted:
    """Adapt a copy of a model to a bench.

    Parameters
    ----------
    model
        (B, T) tokens to (B, T, V) logits, or to an object that has them as ``logits``; the teacher, left as it is.
    bench
        From `simulation.benches.opening.described`.
    learned, heldout
        (N,) int64 tokens to learn from, and others to score.
    config
        How.
    state
        Where the unfinished adaptation is kept: written at every evaluation, taken up if it is there, left to the
        caller to remove. With as many threads as before it ends bit for bit as one that was not interrupted. Nothing
        is written if None.
    progress
        Called after every step.

    Raises
    ------
    BadOperands
        If there is less text than one window, or the loss is no longer finite.
    OutOfDomain
        If the model cannot be put in light, or the light computes what the model does already.
    ArtefactError
        If the state belongs to another adaptation, or is damaged.
    """
    began = time.monotonic()
    _require_something_to_learn(bench, config)
    generator = torch.Generator().manual_seed(config.seed)
    _require_text(learned, config.context)
    student = copy.deepcopy(model).eval()
    for parameter in student.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    tuning = _tuning(student, config, generator)
    ranges = observe(model, [_windows(learned, config, generator)[:, :-1]]) if config.quantise else {}
    twin = Twin(bench, config.photons_per_mac, ranges)
    now = TrainingState(tuning.moving, adam(tuning.moving, 0.0), generator)
    identity = {
        "config": asdict(config),
        "start": digest(model),
        "rates": [config.rate_at(0), config.rate_at(config.steps // 2)],  # another version may have other defaults
        "bench": {"name": bench.name, "clip": list(bench.clip)},
        "texts": [hashlib.sha256(ids.numpy().tobytes()).hexdigest() for ids in (learned, heldout)],
    }
    state = None if state is None else Path(state)
    if state is not None and state.exists():
        now.restore(state, identity)
        tuning.write()
    began -= now.seconds
    pair = _Pair(model.eval(), student, twin.of(student))
    for step in _steps(now, tuning, pair, twin, (learned, heldout), config):
        now.seconds = time.monotonic() - began
        if step.heldout_nats is not None and state is not None:
            now.save(state, identity)
        progress(step)
    moved = sum(p.numel() for p in tuning.moving.parameters())
    for parameter, before in zip(student.parameters(), model.parameters(), strict=True):
        parameter.requires_grad_(before.requires_grad)
    return Adapted(student, twin, now.curve, (moved, sum(p.numel() for p in student.parameters())), now.seconds)


def _tuning(student: nn.Module, config: AdaptConfig, generator: torch.Generator) -> Tuning:
    if config.rank is None:
        return WholeWeights(student)
    return LowRank(student, config.rank, generator)


@dataclass(frozen=True)
class _Pair:
    """The digital teacher, and the student as it is and in light."""

    teacher: nn.Module
    student: nn.Module
    optical: nn.Module

    def loss(self, windows: Tensor, text_share: float) -> Tensor:
        """Mean nats per token of (B, T+1) windows."""
        inputs, targets = windows[:, :-1], windows[:, 1:].flatten()
        with torch.no_grad():
            expected = logits_of(self.teacher, inputs).flatten(0, 1).float().log_softmax(-1)
        found = logits_of(self.optical, inputs).flatten(0, 1).float().log_softmax(-1)
        divergence = nn.functional.kl_div(found, expected, log_target=True, reduction="batchmean")
        if not text_share:
            return divergence
        return (1 - text_share) * divergence + text_share * nn.functional.nll_loss(found, targets)


def _steps(
    now: TrainingState[nn.Module],
    tuning: Tuning,
    pair: _Pair,
    twin: Twin,
    texts: tuple[Tensor, Tensor],
    config: AdaptConfig,
) -> Iterator[Progress]:
    """Adapt to the end, step by step."""
    learned, heldout = texts

    def score() -> float:
        found = perplexity(
            twin.of(pair.student), heldout, context=config.context, max_tokens=config.score_tokens, batch=config.batch
        )
        return found.nats_per_token

    while now.step < config.steps:
        first = score() if not now.step else None
        windows = _windows(learned, config, now.generator)
        reseed(pair.optical, int(torch.randint(2**31 - 1, (), generator=now.generator)))
        loss = pair.loss(windows, config.text_share)
        nats = descend(now, loss, rate=config.rate_at(now.step), clip=LARGEST_GRADIENT, gather=tuning.gather)
        tuning.write()
        if first is not None:
            now.curve.append([0, nats, first])
        heldout_nats = None
        if now.step % config.evaluate_every == 0 or now.step == config.steps:
            heldout_nats = score()
            now.curve.append([now.step, sum(now.since) / len(now.since), heldout_nats])
            now.since.clear()
        yield Progress(now.step, config.steps, nats, heldout_nats)


def _windows(ids: Tensor, config: AdaptConfig, generator: torch.Generator) -> Tensor:
    """(batch, context + 1) random windows."""
    starts = torch.randint(len(ids) - config.context, (config.batch,), generator=generator).tolist()
    return torch.stack([ids[start : start + config.context + 1] for start in starts])


def _require_something_to_learn(bench: Optics | Imported, config: AdaptConfig) -> None:
    """Refuse a bench without noise, levels, clipping or light of its own: towards itself a model learns nothing."""
    if config.photons_per_mac is not None or config.quantise or config.text_share or type(bench) is not Optics:
        return
    own = (bench.electrons, bench.read_e, bench.flicker, bench.drift, *bench.spread)
    is_rounded = any(len(panel.levels.midpoints) for panel in (bench.display, bench.slm))
    is_plain = bench.channel is None and bench.clip == (100.0, 100.0) and not is_rounded
    if is_plain and not any(own):
        raise OutOfDomain(
            "without a light level this bench computes what the model does already, and there is nothing to learn",
            device=bench.name,
            action="adapting",
            expected="photons per MAC, or ranges of converters",
            seen="no light level, and no noise of its own",
            hint="--photons-per-mac 100, or --qat",
        )


def _require_text(ids: Tensor, context: int) -> None:
    if len(ids) <= context + 1:
        raise BadOperands(
            "too little text to learn from",
            expected=f"more than {context + 1} tokens",
            seen=f"{len(ids)} tokens",
            hint="give more text: --text FILE, or a shorter --context",
        )
