"""How surprised a model is by a text: mean negative log-likelihood per token, with its standard error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands
from groundwork.notebook import Card, Carded

BATCH = 16
"""Windows that a model reads together."""


@dataclass(frozen=True, repr=False)
class Perplexity(Carded):
    """Result of one measurement.

    Attributes
    ----------
    nats_per_token
        Mean negative log-likelihood.
    stderr
        Its standard error [nats], from the scatter between windows; nan for a single window.
    tokens
        Number of tokens scored.
    ppl
        exp(nats_per_token).
    """

    nats_per_token: float
    stderr: float
    tokens: int
    ppl: float

    def card(self) -> Card:
        """What a notebook shows of it."""
        spread = f" ± {self.ppl * self.stderr:.2g}" if math.isfinite(self.stderr) else ""
        return Card("perplexity", f"{self.ppl:.4g}{spread} on {self.tokens} tokens")


def perplexity(
    model: nn.Module,
    token_ids: Sequence[int] | Tensor,
    *,
    context: int,
    stride: int | None = None,
    max_tokens: int | None = None,
    batch: int = BATCH,
) -> Perplexity:
    """Score every token of a text but the first, once.

    Parameters
    ----------
    model
        (B, T) tokens to (B, T, V) logits, or to an object that has them as ``logits`` (Hugging Face).
    token_ids
        (N,) the text.
    context
        Window length [tokens].
    stride
        Tokens scored per window: the smaller, the more context each of them sees. ``context`` (windows side by side)
        if None.
    max_tokens
        Score at most so many tokens.
    batch
        Windows per forward pass.

    Raises
    ------
    BadOperands
        If the text has fewer than two tokens or is none, the stride does not fit, a number to score is less than one,
        or the model answers with NaN.

    Examples
    --------
    >>> import labctl
    >>> language = labctl.load_language(labctl.shipped_model())
    >>> ids = language.encode("The value of the expression is the value of its last operand.")
    >>> optical = labctl.opticalize(language.model, "paper", photons_per_mac=1000.0)
    >>> labctl.perplexity(optical, ids, context=language.context).tokens == len(ids) - 1
    True
    """
    nats, scored = window_nats(model, token_ids, context=context, stride=stride, max_tokens=max_tokens, batch=batch)
    return summarise(nats, scored)


def window_nats(
    model: nn.Module,
    token_ids: Sequence[int] | Tensor,
    *,
    context: int,
    stride: int | None = None,
    max_tokens: int | None = None,
    batch: int = BATCH,
) -> tuple[Tensor, Tensor]:
    """What `perplexity` sums: (n,) nats and (n,) tokens scored of each window, float64, in the order of the text."""
    stride = context if stride is None else stride
    ids = tokens_of(token_ids, max_tokens)
    require_text(ids, context, stride)
    nats, scored = [], []
    for inputs, targets in batches(ids, context, stride, batch):
        each, count = window_sums(model, inputs, targets)
        nats.append(each)
        scored.append(count)
    return torch.cat(nats), torch.cat(scored)


def tokens_of(token_ids: Sequence[int] | Tensor, max_tokens: int | None = None) -> Tensor:
    """(N,) the tokens of a text, the first and at most ``max_tokens`` that are scored.

    Raises
    ------
    BadOperands
        If they are no whole numbers in a row, or ``max_tokens`` is less than one.
    """
    if max_tokens is not None and max_tokens < 1:
        raise BadOperands(
            "nothing to score", expected="max_tokens from 1 on, or None", seen=str(max_tokens), hint="max_tokens=1000"
        )
    try:
        ids = torch.as_tensor(token_ids)
        seen = f"{tuple(ids.shape)} numbers, {ids.dtype}"
    except (TypeError, ValueError, RuntimeError) as error:
        ids, seen = torch.empty(0, 0), f"{type(token_ids).__name__}: {error}"
    if ids.ndim != 1 or (len(ids) and (ids.is_floating_point() or ids.is_complex())):
        raise BadOperands(
            "these are no tokens of a text",
            expected="whole numbers, one after the other",
            seen=seen[:200],
            hint="language.encode(text)",
        )
    return ids[: None if max_tokens is None else max_tokens + 1].long()


def require_text(ids: Sequence[int] | Tensor, context: int, stride: int) -> None:
    """Is there anything to score?

    Raises
    ------
    BadOperands
        If the text has fewer than two tokens, or the stride does not fit.
    """
    if len(ids) < 2 or not 1 <= stride <= context:
        raise BadOperands(
            "nothing to score",
            expected="at least 2 tokens, 1 <= stride <= context",
            seen=f"{len(ids)} tokens, stride {stride}, context {context}",
            hint="use a longer text",
        )


def window_sums(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of one of the `batches`: (B,) nats and (B,) tokens scored of each window, float64.

    Raises
    ------
    BadOperands
        If the model answers with NaN.
    """
    with torch.inference_mode():
        return _nats(model, inputs, targets).sum(1), torch.full((len(inputs),), float(targets.shape[1])).double()


def logits_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """(B, T, V) of (B, T) tokens, from a model that gives them alone or, as Hugging Face's, in an object."""
    answer = model(inputs)
    logits: Tensor = getattr(answer, "logits", answer)
    return logits


def batches(ids: Tensor, context: int, stride: int, batch: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows of equal shape together: inputs (B, T) and the last S of their targets (B, S)."""
    spans = []  # (first input, first scored target, past the last one)
    for first in range(1, len(ids), stride):
        past = min(first + stride, len(ids))
        spans.append((max(0, first + stride - 1 - context), first, past))
    for _, same in groupby(spans, key=lambda span: (span[2] - span[0], span[2] - span[1])):
        group = list(same)
        for i in range(0, len(group), batch):
            part = group[i : i + batch]
            yield (
                torch.stack([ids[start : past - 1] for start, _, past in part]),
                torch.stack([ids[first:past] for _, first, past in part]),
            )


def _nats(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """(B, S) negative log-likelihood of each target, float64."""
    first = next(model.parameters(), inputs)
    logits = logits_of(model, inputs.to(first.device))[:, -targets.shape[1] :]  # (B, S, V)
    wanted = targets.flatten().to(logits.device)
    nats = nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted, reduction="none").cpu()
    if not nats.isfinite().all():
        raise BadOperands(
            "the model's answer is not finite",
            expected="finite logits",
            seen=f"{int((~nats.isfinite()).sum())} tokens without a finite likelihood",
            hint="check the checkpoint and the calibration",
        )
    return nats.view(targets.shape).double()


def summarise(nats: Tensor, scored: Tensor) -> Perplexity:
    """What `window_nats` gives, as one number: a ratio estimate over windows."""
    total, n = float(scored.sum()), len(nats)
    mean = float(nats.sum()) / total
    scatter = float((nats - mean * scored).square().sum())
    stderr = math.sqrt(scatter * n / (n - 1)) / total if n > 1 else math.nan
    return Perplexity(nats_per_token=mean, stderr=stderr, tokens=int(total), ppl=math.exp(mean))
