"""How far the answers of one model are from those of another: Kullback–Leibler divergence per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands
from simulation.evaluation.perplexity import Perplexity, batches, logits_of, summarise


@dataclass(frozen=True)
class Divergence:
    """Result of one comparison.

    Attributes
    ----------
    nats_per_token
        Mean over the scored tokens of KL(reference ‖ model): how many nats a token costs more, in the mean over what
        the reference expects, when the model is believed instead.
    stderr
        Its standard error [nats], from the scatter between windows; nan for a single window.
    perplexity
        Of the model on the same tokens.
    """

    nats_per_token: float
    stderr: float
    perplexity: Perplexity


def divergence(
    model: nn.Module, reference: nn.Module, token_ids: Sequence[int] | Tensor, *, context: int, batch: int = 16
) -> Divergence:
    """Read a text with both models, in windows side by side.

    Parameters
    ----------
    model, reference
        (B, T) tokens to (B, T, V) logits, as for `simulation.evaluation.perplexity.perplexity`.
    token_ids
        (N,) the text.
    context
        Window length [tokens].
    batch
        Windows per forward pass.

    Raises
    ------
    BadOperands
        If the text has fewer than two tokens, or a model answers with something that is not finite.
    """
    ids = torch.as_tensor(token_ids, dtype=torch.long)
    if len(ids) < 2:
        raise BadOperands(
            "nothing to compare", expected="at least 2 tokens", seen=str(len(ids)), hint="use a longer text"
        )
    far, nats, scored = [], [], []
    with torch.inference_mode():
        for inputs, targets in batches(ids, context, context, batch):
            expected, found = _answers(reference, inputs), _answers(model, inputs)
            far.append((expected.exp() * (expected - found)).sum((1, 2)))
            nats.append(-found.gather(-1, targets[..., None])[..., 0].sum(1))
            scored.append(torch.full((len(inputs),), targets.shape[1]))
    tokens = torch.cat(scored).double()
    between = summarise(torch.cat(far), tokens)
    return Divergence(between.nats_per_token, between.stderr, summarise(torch.cat(nats), tokens))


def _answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """(B, T, V) log-probabilities, float64, on the CPU."""
    first = next(model.parameters(), inputs)
    logits = logits_of(model, inputs.to(first.device)).cpu().double()
    if not logits.isfinite().all():
        raise BadOperands(
            "the model's answer is not finite",
            expected="finite logits",
            hint="check the checkpoint and the calibration",
        )
    answers: Tensor = logits.log_softmax(-1)
    return answers
