"""Train a GPT from text alone: one seed, one call, and a record of what it saw."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.model import GPT, GPTConfig
from simulation.perplexity import perplexity
from simulation.text import Text, pydoc_text, train_tokenizer


@dataclass(frozen=True)
class TrainingConfig:
    """The shape of the model and how it is trained.

    Attributes
    ----------
    width, blocks, heads, context, vocabulary
        As in `GPTConfig`; the tokenizer may stay below `vocabulary` on a small text.
    seed
        Of the one generator behind initial weights and batches.
    steps, batch
        Optimiser steps, and windows of `context` tokens in each.
    learning_rate, weight_decay, warmup, clip
        AdamW; decay on matrices only; linear warm-up [steps], then a cosine to zero; largest gradient norm.
    pydoc_share
        Part of the windows drawn from the language reference; the rest comes from the texts, by their length.
    evaluate_every
        Steps between held-out evaluations.
    """

    width: int = 128
    blocks: int = 4
    heads: int = 4
    context: int = 128
    vocabulary: int = 1024
    seed: int = 0
    steps: int = 5600
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 200
    clip: float = 1.0
    pydoc_share: float = 0.3
    evaluate_every: int = 500

    def __post_init__(self) -> None:
        self.shape(self.vocabulary)
        counts = (self.steps, self.batch, self.evaluate_every)
        if min(counts) < 1 or not 0 <= self.pydoc_share <= 1 or self.learning_rate <= 0:
            raise OutOfDomain(
                "no training has this schedule",
                expected="steps, batch and evaluate_every of at least 1, a share in 0..1, a positive learning rate",
                seen=str(self),
                hint="leave the schedule at its defaults",
            )

    def shape(self, vocabulary: int) -> GPTConfig:
        """The model's configuration, once the tokenizer has its `vocabulary`."""
        return GPTConfig(vocabulary, self.context, self.width, self.blocks, self.heads)


@dataclass(frozen=True)
class Progress:
    """Told after every step: `heldout_nats` only where it was measured."""

    step: int
    steps: int
    train_nats: float
    heldout_nats: float | None


def train(
    config: TrainingConfig, texts: Sequence[Text], *, progress: Callable[[Progress], None] = lambda _: None
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """Train on the language reference and `texts`; evaluate on the held-out topics of the reference.

    Nothing is written: an interrupted training leaves no file behind.

    Parameters
    ----------
    config
        Shape and schedule.
    texts
        Further texts; may be empty, then all windows come from the language reference.
    progress
        Called after every step.

    Returns
    -------
    model, tokenizer, record
        The model in evaluation mode; the record says what made it: texts by digest, configuration, loss curve
        ``[step, train nats/token, held-out nats/token]``, and the held-out result.

    Raises
    ------
    BadOperands
        If there is less text than one window, or the loss is no longer finite.
    """
    began = time.monotonic()
    generator = torch.Generator().manual_seed(config.seed)
    reference, heldout = pydoc_text("train"), pydoc_text("heldout")
    share = config.pydoc_share if texts else 1.0
    tokenizer = train_tokenizer(_in_proportion(reference, texts, share), config.vocabulary)
    streams = [_encode(tokenizer, [reference], config.context)]
    if texts:
        streams.append(_encode(tokenizer, texts, config.context))
    heldout_ids = torch.tensor(tokenizer.encode(heldout.content).ids)

    model = GPT(config.shape(tokenizer.get_vocab_size()), generator)
    optimiser, schedule = _optimiser(model, config)
    curve: list[list[float]] = []
    since: list[float] = []
    for step in range(1, config.steps + 1):
        loss = _loss(model, _windows(streams, share, config, generator))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimiser.step()
        schedule.step()
        since.append(loss.item())
        nats = None
        if step % config.evaluate_every == 0 or step == config.steps:
            nats = perplexity(model, heldout_ids, context=config.context).nats_per_token
            curve.append([step, sum(since) / len(since), nats])
            since.clear()
        progress(Progress(step, config.steps, loss.item(), nats))

    model.eval()
    final = perplexity(model, heldout_ids, context=config.context)
    record = {
        "seed": config.seed,
        "steps": config.steps,
        "config": asdict(config),
        "texts": [
            {"name": text.name, "sha256": text.sha256, "characters": len(text.content)} for text in (reference, *texts)
        ],
        "tokens_seen": config.steps * config.batch * config.context,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "curve": curve,
        "heldout": {
            "name": heldout.name,
            "sha256": heldout.sha256,
            **asdict(final),
            "nats_per_byte": final.nats_per_token * len(heldout_ids) / len(heldout.content.encode()),
        },
        "seconds": round(time.monotonic() - began, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return model, tokenizer, record


def _in_proportion(reference: Text, texts: Sequence[Text], share: float) -> Iterator[str]:
    """The reference as often as its share of the windows asks, so that the merges suit what is trained on."""
    others = sum(len(text.content) for text in texts)
    repeats = round(share / (1 - share) * others / len(reference.content)) if share < 1 else 1
    yield from (reference.content for _ in range(max(1, repeats)))
    yield from (text.content for text in texts)


def _encode(tokenizer: Tokenizer, texts: Sequence[Text], context: int) -> Tensor:
    """(N,) tokens of all texts, one after the other."""
    ids = torch.tensor([token for text in texts for token in tokenizer.encode(text.content).ids])
    if len(ids) <= context + 1:
        raise BadOperands(
            "too little text to train on",
            device=", ".join(text.name for text in texts),
            expected=f"more than {context + 1} tokens",
            seen=f"{len(ids)} tokens",
            hint="add text, or train with a shorter context",
        )
    return ids


def _optimiser(
    model: GPT, config: TrainingConfig
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
    )

    def factor(step: int) -> float:
        if step < config.warmup:
            return (step + 1) / config.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(1, config.steps - config.warmup)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _windows(streams: Sequence[Tensor], share: float, config: TrainingConfig, generator: torch.Generator) -> Tensor:
    """(B, T+1) random windows, the first stream with probability `share`."""
    windows = []
    for is_other in (torch.rand(config.batch, generator=generator) >= share).tolist():
        stream = streams[is_other]
        start = int(torch.randint(len(stream) - config.context, (), generator=generator))
        windows.append(stream[start : start + config.context + 1])
    return torch.stack(windows)


def _loss(model: GPT, windows: Tensor) -> Tensor:
    """Mean nats per token of (B, T+1) windows."""
    logits = model(windows[:, :-1])  # (B, T, V)
    return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
