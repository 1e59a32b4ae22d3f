"""The name that somebody may have meant who typed one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.5
"""The least share of characters in common, of `difflib.SequenceMatcher.ratio`."""
MOST = 3
"""Names that begin as what was typed, of which nobody can tell which one was meant."""


def did_you_mean(word: object, known: Iterable[object], then: str = "", within: str = "") -> str:
    """What to try where a name is not known: those that begin so, or the nearest one, and whatever else there is.

    Parameters
    ----------
    word
        As it was typed; capitals make no difference.
    known
        Every name that would do.
    then
        What to try besides, or where no name is near.
    within
        What the names are written after, ``"camera."``, which is no part of how near they are.

    Examples
    --------
    >>> did_you_mean("GTP2", ["gpt2", "llama-2-7b"], "labctl energy")
    'did you mean gpt2?   ·   labctl energy'
    >>> did_you_mean("aoc", ["in-memory-2023", "aoc-2025-48"])
    'did you mean aoc-2025-48?'
    >>> did_you_mean("gpt3", ["gpt2", "gpt3-175b", "gpt3-13b"])
    'did you mean gpt3-13b or gpt3-175b?'
    >>> did_you_mean("something else", ["gpt2"], "labctl energy")
    'labctl energy'
    """
    near = " or ".join(within + name for name in nearest(word, known))
    return "   ·   ".join(part for part in (near and f"did you mean {near}?", then) if part)


def nearest(word: object, known: Iterable[object], most: int = 1) -> list[str]:
    """Names that begin as a word does, three at most and the most alike first, or those that look most alike.

    Parameters
    ----------
    word
        As it was typed; capitals make no difference.
    known
        Every name that would do.
    most
        How many to give where none begins so.

    Examples
    --------
    >>> nearest("blocks.0.upp", ["blocks.0.ffn.up", "blocks.1.ffn.up", "head"], most=2)
    ['blocks.0.ffn.up', 'blocks.1.ffn.up']
    """
    word, names = str(word).lower(), {str(name).lower(): str(name) for name in known}
    begun = [name for name in names if word and name.startswith(word)]
    near = difflib.get_close_matches(word, begun or names, n=MOST if begun else most, cutoff=0.0 if begun else ALIKE)
    return [names[name] for name in near]
