"""Train a GPT from text alone: one seed, one call, and a record of what it saw."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from calibration.errors import OutOfDomain
from simulation.evaluation.perplexity import perplexity
from simulation.models.checkpoint import Checkpoint, digest
from simulation.models.gpt import GPT
from simulation.models.text import Text, pydoc_text, train_tokenizer
from simulation.training.batches import Batches, in_proportion
from simulation.training.forward import Forward, plain
from simulation.training.recipe import Precision, TrainingConfig
from simulation.training.state import TrainingState
from simulation.training.step import adam, descend


@dataclass(frozen=True)
class Progress:
    """Told after every step: `heldout_nats` only where it was measured."""

    step: int
    steps: int
    train_nats: float
    heldout_nats: float | None


def train(
    config: TrainingConfig,
    texts: Sequence[Text],
    *,
    start: Checkpoint | None = None,
    forward: Forward | None = None,
    state: str | Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[GPT, Tokenizer, dict[str, Any]]:
    """Train on the language reference and `texts`; evaluate on the held-out topics of the reference.

    Parameters
    ----------
    config
        Shape and schedule.
    texts
        Further texts; may be empty, then all windows come from the language reference.
    start
        Train on from this model, with its tokenizer; a new model if None.
    forward
        How products are computed while training; exactly, in float, if None.
    state
        Where the unfinished training is kept: written at every evaluation, taken up if it is there, left to the caller
        to remove. A training taken up ends bit for bit as one that was not interrupted. Nothing is written if None.
    progress
        Called after every step.

    Returns
    -------
    model, tokenizer, record
        The model in evaluation mode, of ordinary modules; the record says what made it: texts by digest, configuration,
        loss curve ``[step, train nats/token, held-out nats/token]`` as computed by ``forward``, and the held-out result
        in float.

    Raises
    ------
    BadOperands
        If there is less text than one window, or the loss is no longer finite.
    OutOfDomain
        If ``start`` has another shape than ``config``, or a ``forward`` is to run in reduced precision.
    ArtefactError
        If the state belongs to another training, or is damaged.
    """
    if forward is not None and config.precision != "float32":
        raise OutOfDomain("256 levels do not fit into bfloat16", expected="float32", seen=config.precision)
    began = time.monotonic()
    generator = torch.Generator().manual_seed(config.seed)
    corpus = _Corpus.of(config, texts, None if start is None else start.tokenizer)
    model = _begin(config, corpus.tokenizer, start, generator)
    optimiser = adam(model, config.weight_decay)
    if forward is not None:
        forward.prepare(model, corpus.batches.draw(config.batch, generator), generator)
    now = TrainingState(model, optimiser, generator)
    origin: dict[str, Any] = {} if start is None else {"start": digest(start.model)}
    if forward is not None:
        origin["forward"] = forward.describe()
    identity = {"config": asdict(config), "texts": [text.sha256 for text in corpus.texts], **origin}
    state = None if state is None else Path(state)
    if state is not None and state.exists():
        now.restore(state, identity)
    began -= now.seconds  # what earlier sittings took counts as if it had been one
    for step in _steps(now, corpus, config, forward):
        if step.heldout_nats is not None and state is not None:
            now.seconds = time.monotonic() - began
            now.save(state, identity)
        progress(step)
    if forward is not None:
        origin["forward"] |= forward.record(model)
    model = plain(model)
    record = _record(config, corpus, model, now.curve, origin)
    return model, corpus.tokenizer, record | _circumstances(time.monotonic() - began)


@dataclass(frozen=True)
class _Corpus:
    """What a model is trained and judged on.

    Attributes
    ----------
    tokenizer
        Learned from the texts, or that of the model to start from.
    texts
        The language reference, then the others.
    batches
        Random windows of them.
    heldout, heldout_ids
        The text that is never trained on, and its tokens (N,).
    """

    tokenizer: Tokenizer
    texts: tuple[Text, ...]
    batches: Batches
    heldout: Text
    heldout_ids: Tensor

    @classmethod
    def of(cls, config: TrainingConfig, others: Sequence[Text], tokenizer: Tokenizer | None) -> _Corpus:
        """The language reference and ``others``; with a new tokenizer if None."""
        reference, heldout = pydoc_text("train"), pydoc_text("heldout")
        if tokenizer is None:
            tokenizer = train_tokenizer(in_proportion(reference, others, config.pydoc_share), config.vocabulary)
        batches = Batches(tokenizer, reference, others, config.pydoc_share, config.context)
        heldout_ids = torch.tensor(tokenizer.encode(heldout.content).ids)
        return cls(tokenizer, (reference, *others), batches, heldout, heldout_ids)


def _steps(
    now: TrainingState[GPT], corpus: _Corpus, config: TrainingConfig, forward: Forward | None
) -> Iterator[Progress]:
    """Train to the end, step by step; evaluate on the held-out text as often as the recipe says."""
    while now.step < config.steps:
        if forward is not None:
            forward.renew(now.model, now.generator)
        train_nats = _step(now, corpus.batches, config)
        heldout_nats = None
        if now.step % config.evaluate_every == 0 or now.step == config.steps:
            found = perplexity(now.model.eval(), corpus.heldout_ids, context=config.context)
            heldout_nats = found.nats_per_token
            now.model.train()
            now.curve.append([now.step, sum(now.since) / len(now.since), heldout_nats])
            now.since.clear()
        yield Progress(now.step, config.steps, train_nats, heldout_nats)


def _record(
    config: TrainingConfig, corpus: _Corpus, model: GPT, curve: list[list[float]], origin: dict[str, Any]
) -> dict[str, Any]:
    """What made the model, and what it reaches on the held-out text."""
    final = perplexity(model, corpus.heldout_ids, context=config.context)
    return {
        "seed": config.seed,
        "steps": config.steps,
        "config": asdict(config),
        **origin,
        "texts": [{"name": text.name, "sha256": text.sha256, "characters": len(text.content)} for text in corpus.texts],
        "tokens_seen": config.steps * config.batch * config.context,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "curve": curve,
        "heldout": {
            "name": corpus.heldout.name,
            "sha256": corpus.heldout.sha256,
            **asdict(final),
            "nats_per_byte": final.nats_per_token * len(corpus.heldout_ids) / len(corpus.heldout.content.encode()),
        },
    }


def _circumstances(seconds: float) -> dict[str, Any]:
    return {"seconds": round(seconds, 1), "torch": torch.__version__, "python": platform.python_version()}


def _begin(config: TrainingConfig, tokenizer: Tokenizer, start: Checkpoint | None, generator: torch.Generator) -> GPT:
    """A new model, or a copy of the one to start from, in training mode."""
    if start is None:
        return GPT(config.shape(tokenizer.get_vocab_size()), generator)
    shape = config.shape(start.model.config.vocabulary)
    if start.model.config != shape:
        raise OutOfDomain(
            "the model to start from has another shape",
            expected=str(shape),
            seen=str(start.model.config),
            hint="leave the shape to the model that is started from",
        )
    return copy.deepcopy(start.model).train()


def _step(now: TrainingState[GPT], batches: Batches, config: TrainingConfig) -> float:
    """One optimiser step; the loss before it [nats/token]."""
    loss = _loss(now.model, batches.draw(config.batch, now.generator), config.precision)
    return descend(now, loss, rate=config.rate_at(now.step), clip=config.clip)


def _loss(model: nn.Module, windows: Tensor, precision: Precision) -> Tensor:
    """Mean nats per token of (B, T+1) windows."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(windows[:, :-1])  # (B, T, V)
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())
