"""What a model is judged on: a text as the documents that it holds, and windows that each lie in one of them.

Tokens of one document are alike, so how far a number can be trusted shows in its scatter between documents, not between
windows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.errors import BadOperands
from simulation.models.text import Text, heldout_topics

PIECE = 4000
"""Characters of a document, at least, where a text has no titles."""
WINDOWS_AT_ONCE, TOKENS_AT_ONCE = 16, 512
"""Of windows up to 128 tokens, and of longer ones: the answers of a large vocabulary take gigabytes."""
_TITLE = re.compile(r"^ = [^=].*[^=] = *$", re.M)  # of an article in WikiText


@dataclass(frozen=True)
class Document:
    """A part of a text that was written as one."""

    name: str
    content: str


@dataclass(frozen=True)
class Windows:
    """Windows of documents.

    Attributes
    ----------
    batches
        Inputs (B, T) and targets (B, T), of equal shape in each batch.
    documents
        (W,) the number of the document of each window, in the order of the batches.
    """

    batches: tuple[tuple[Tensor, Tensor], ...]
    documents: NDArray[np.int64]


def at_once(context: int) -> int:
    """How many windows of so many tokens are read together."""
    return WINDOWS_AT_ONCE if context <= 128 else max(1, TOKENS_AT_ONCE // context)


def held_out_documents() -> tuple[Document, ...]:
    """Every topic of the Python language reference that is never trained on."""
    return tuple(Document(name, content) for name, content in heldout_topics().items())


def documents_of(text: Text) -> tuple[Document, ...]:
    """The articles of a WikiText file; else pieces of `PIECE` characters or more that end at a blank line."""
    starts = [match.start() for match in _TITLE.finditer(text.content)]
    if len(starts) > 1:
        parts = [text.content[a:b] for a, b in zip(starts, [*starts[1:], None], strict=True)]
    else:
        parts = [""]
        for paragraph in text.content.split("\n\n"):
            if len(parts[-1]) >= PIECE:
                parts.append("")
            parts[-1] += paragraph + "\n\n"
    return tuple(Document(f"{text.name}#{i}", part) for i, part in enumerate(parts) if part.strip())


def windows_of(
    documents: Sequence[Document], encode: Callable[[str], Sequence[int]], context: int, most: int
) -> Windows:
    """Cut documents into windows of ``context`` tokens: the first of each document, then the second, and so on.

    Parameters
    ----------
    most
        Tokens that are scored, at most; of a document that is shorter than the context there is one shorter window.

    Raises
    ------
    BadOperands
        When there are fewer than two documents of two tokens.
    """
    turns: list[tuple[int, int, Tensor]] = []  # (turn, document, tokens of the window and the one after it)
    for number, document in enumerate(documents):
        ids = torch.as_tensor(encode(document.content), dtype=torch.long)
        size = min(context, len(ids) - 1)
        if size > 0:
            turns += [(i // size, number, ids[i : i + size + 1]) for i in range(0, len(ids) - size, size)]
    chosen, left = [], most
    for _, number, window in sorted(turns, key=lambda turn: turn[:2]):
        if left < len(window) - 1:
            break
        left -= len(window) - 1
        chosen.append((number, window))
    if len({number for number, _ in chosen}) < 2:
        raise BadOperands(
            "too few documents to tell how far the result can be trusted",
            expected="at least two",
            seen=str(len({number for number, _ in chosen})),
            hint="a longer text, or more tokens of it",
        )
    chosen.sort(key=lambda each: len(each[1]), reverse=True)
    batches, order = [], []
    for size in dict.fromkeys(len(window) for _, window in chosen):
        same = [(number, window) for number, window in chosen if len(window) == size]
        order += [number for number, _ in same]
        together = at_once(size - 1)
        for i in range(0, len(same), together):
            stacked = torch.stack([window for _, window in same[i : i + together]])
            batches.append((stacked[:, :-1], stacked[:, 1:]))
    return Windows(tuple(batches), np.array(order, np.int64))


def stream_of(
    documents: Sequence[Document], encode: Callable[[str], Sequence[int]], context: int, most: int
) -> tuple[list[int], NDArray[np.int64]]:
    """Whole windows of documents in one stream of tokens, for who cuts a text every ``context`` tokens.

    Returns
    -------
    (W · context + 1,) tokens, and (W,) the number of the document of each window. The last token that a window scores
    is the first of the next one, which belongs to another document; in return every window is whole. Any beginning of
    the stream holds as many documents as it can.

    Raises
    ------
    BadOperands
        When fewer than two documents are as long as the context.
    """
    numbers = [n for n, document in enumerate(documents) if len(encode(document.content)) > context]
    found = windows_of([documents[n] for n in numbers], encode, context, most)
    inputs = torch.cat([inputs for inputs, _ in found.batches]).flatten().tolist()
    return [*inputs, int(found.batches[-1][1][-1, -1])], np.array(numbers, np.int64)[found.documents]
