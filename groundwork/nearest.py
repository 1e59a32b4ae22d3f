"""The name that somebody may have meant who typed one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ALIKE = 0.5
"""The least share of characters in common, of `difflib.SequenceMatcher.ratio`."""


def did_you_mean(word: object, known: Iterable[object], then: str = "", within: str = "") -> str:
    """What to try where a name is not known: the nearest one that is, if one is near, and whatever else there is.

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
    >>> did_you_mean("something else", ["gpt2"], "labctl energy")
    'labctl energy'
    """
    near = _nearest(str(word).lower(), {str(name).lower(): str(name) for name in known})
    return "   ·   ".join(part for part in (near and f"did you mean {within}{near}?", then) if part)


def _nearest(word: str, names: dict[str, str]) -> str:
    """The one that looks most alike, or the first that begins so; empty if there is none."""
    alike = difflib.get_close_matches(word, names, n=1, cutoff=ALIKE)
    begun = [name for name in names if word and name.startswith(word)]
    return names[(alike or begun)[0]] if alike or begun else ""
