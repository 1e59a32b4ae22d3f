"""What arXiv 2302.10360 says that light saves, and how far a number of ours is from that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labctl.studies.quantities import times
from simulation.energy.constants import Constant


@dataclass(frozen=True)
class Claim:
    """What arXiv 2302.10360 says of a model, and what this table of constants says of the same scenario.

    Attributes
    ----------
    scenario, words
        Of the claim.
    low, high
        The published factor is at least ``low``, and no more than ``high`` where it is one of an order of magnitude.
    found
        Advantage over 300 fJ/MAC by this table, with the light of the claim: one photon per MAC at a width of 12,288,
        falling as 1/d.
    measured
        The same with the light that was measured or stated.
    largest
        The parts that cost most in light, with their shares.
    kinder
        (constant, the end of its range that favours light, the factor with that one there), the best first; without
        that of the digital processor, which the claim states.
    together
        The factor with all of them there.
    """

    scenario: str
    words: str
    low: float
    high: float
    found: float
    measured: float
    largest: tuple[tuple[str, float], ...]
    kinder: tuple[tuple[Constant, float, float], ...]
    together: float

    @property
    def verdict(self) -> str:
        """In a word and a number, which says from what it counts."""
        missed = misses(self.found, self.low, self.high)
        return f"differs: {missed}" if missed else "agrees"


def misses(found: float, low: float, high: float) -> str:
    """How far a factor lies outside of a published one, and from where that is counted; empty where it lies inside.

    Examples
    --------
    >>> misses(20.0, 25.0, 100.0)
    '1.25 × less than 25 ×, the least that counts as about 50 ×'
    >>> misses(4000.0, 8000.0, float("inf"))
    '2 × less than published'
    """
    if low <= found <= high:
        return ""
    end, by, word, most = (low, low / found, "less", "least") if found < low else (high, found / high, "more", "most")
    if math.isinf(high):
        return f"{times(by)} {word} than published"
    return f"{times(by)} {word} than {times(end)}, the {most} that counts as about {times(math.sqrt(low * high))}"


CLAIMS = {
    "mt-nlg-530b": (("today", "about 100 × for the largest models of 2023", 100 / 10**0.5, 100 * 10**0.5),),
    "future-1e15": (
        (
            "scaled-optics",
            "more than 8,000 × at 10¹⁵ parameters, scaled optics",
            8e3,
            float("inf"),
        ),
        ("future", "more than 100,000 × with memory 5 ×, converters 2 × better, 4 bits", 1e5, float("inf")),
    ),
}
"""By shape: scenario, words, and between which factors the claim holds."""
