"""Three verdicts, and the one rule by which they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Word = Literal["agree", "differ", "cannot say"]
Form = str | Callable[[float], str]


@dataclass(frozen=True)
class Ours:
    """A number of ours with the interval that it is known to; nan where there is none."""

    value: float
    low: float
    high: float

    @classmethod
    def nothing(cls) -> Ours:
        """No number."""
        return cls(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Published:
    """Between which numbers a published claim holds, both included."""

    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Judged:
    """A claim beside our number.

    Attributes
    ----------
    claim
        What is published, in words.
    ours
        Our number in words, with its interval.
    verdict
        `Word`
    why
        What decided it, what was compared, and what it cannot tell.
    """

    claim: str
    ours: str
    verdict: Word
    why: str


def compare(ours: Ours, published: Published) -> Word:
    """Agree where our whole interval lies in the claim's, differ where none of it does; else nobody can say."""
    if not all(map(math.isfinite, (ours.value, ours.low, ours.high))):
        return "cannot say"
    if published.low <= ours.low and ours.high <= published.high:
        return "agree"
    if ours.high < published.low or ours.low > published.high:
        return "differ"
    return "cannot say"


def judged(
    claim: str, ours: Ours, published: Published, form: Form, why: str, *, unlike: str = "", handicap: str = ""
) -> Judged:
    """By `compare`, as far as like is compared with like.

    Parameters
    ----------
    form
        Of our numbers, as for `format`: ``".2f"``; or what makes words of one.
    unlike
        Why the two are not of the same kind; nothing can be said then. Empty where they are.
    handicap
        What makes our number worse than the published one would be: if it agrees all the same, it agrees, and a miss
        is no contradiction. Empty where there is nothing.
    """
    word = compare(ours, published)
    if unlike:
        return Judged(claim, in_words(ours, form), "cannot say", f"{unlike}; {why}")
    if handicap and word != "agree":
        return Judged(claim, in_words(ours, form), "cannot say", f"{handicap}; {why}")
    return Judged(claim, in_words(ours, form), word, why)


def in_words(ours: Ours, form: Form) -> str:
    """``91 (60 … 140)``"""

    def said(value: float) -> str:
        return form(value) if callable(form) else f"{value:{form}}"

    if not math.isfinite(ours.value):
        return "no number"
    if not (math.isfinite(ours.low) and math.isfinite(ours.high)):
        return said(ours.value)
    return f"{said(ours.value)} ({said(ours.low)} … {said(ours.high)})"
