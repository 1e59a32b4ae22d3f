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
    near = " or ".join(within + name for name in _nearest(str(word).lower(), {str(n).lower(): str(n) for n in known}))
    return "   ·   ".join(part for part in (near and f"did you mean {near}?", then) if part)


def _nearest(word: str, names: dict[str, str]) -> list[str]:
    """Those that begin so, the most alike first, or the one that looks most alike."""
    begun = [name for name in names if word and name.startswith(word)]
    near = difflib.get_close_matches(word, begun or names, n=MOST if begun else 1, cutoff=0.0 if begun else ALIKE)
    return [names[name] for name in near]
