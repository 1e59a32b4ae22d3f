"""Random windows of a few texts, in stated shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from calibration.errors import BadOperands
from simulation.models.text import Text


class Batches:
    """Windows of the language reference, with probability ``share``, and of the other texts by their length.

    Parameters
    ----------
    tokenizer
        Of the model.
    reference, texts
        What the windows are cut from; without ``texts`` all come from the reference.
    share
        Probability of a window of the reference.
    context
        Tokens that the model sees; a window holds one more.
    """

    def __init__(self, tokenizer: Tokenizer, reference: Text, texts: Sequence[Text], share: float, context: int):
        self._streams = [_encode(tokenizer, [reference], context)]
        if texts:
            self._streams.append(_encode(tokenizer, texts, context))
        self._share = share if texts else 1.0
        self._context = context

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, context + 1) int64 random windows."""
        windows = []
        for is_other in (torch.rand(count, generator=generator) >= self._share).tolist():
            stream = self._streams[is_other]
            start = int(torch.randint(len(stream) - self._context, (), generator=generator))
            windows.append(stream[start : start + self._context + 1])
        return torch.stack(windows)


def in_proportion(reference: Text, texts: Sequence[Text], share: float) -> Iterator[str]:
    """The reference as often as its share of the windows asks, so that the merges suit what is trained on."""
    others = sum(len(text.content) for text in texts)
    repeats = round(share / (1 - share) * others / len(reference.content)) if texts and share < 1 else 1
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
