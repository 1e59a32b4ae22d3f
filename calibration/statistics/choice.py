"""Choosing a model's form: nested hypotheses against each other, and what was chosen said in words and numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calibration.statistics.tails import chi2_sf

SIGNIFICANCE = 0.001


@dataclass(frozen=True)
class Choice:
    """What was chosen, against what, and why.

    Attributes
    ----------
    chosen
        Name of the form.
    statistic
        Which test spoke, with its degrees of freedom, such as ``"χ²(127)"``.
    value, p_value
        Of that test: the runner-up against the chosen form, or the chosen form against a simpler runner-up.
    runner_up
        The form it was weighed against last; empty when there was only one.
    reason
        One sentence for people.
    """

    chosen: str
    statistic: str
    value: float
    p_value: float
    runner_up: str
    reason: str

    def document(self) -> dict[str, Any]:
        """JSON types, for a file's header: there the reason is called ``reason_in_words``."""
        found = asdict(self)
        found["reason_in_words"] = found.pop("reason")
        return found

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Choice:
        """Read back from `document`."""
        known = dict(document)
        return cls(reason=known.pop("reason_in_words"), **known)


@dataclass(frozen=True)
class Hypothesis:
    """One form of a model, fitted.

    Attributes
    ----------
    chi2
        −2 log likelihood, up to a constant that all forms share.
    parameters
        Number of free parameters.
    contains
        Names of the simpler forms that this one includes.
    """

    name: str
    chi2: float
    parameters: int
    contains: frozenset[str]

    @property
    def aic(self) -> float:
        """Akaike's criterion, χ² + 2 p."""
        return self.chi2 + 2 * self.parameters


@dataclass(frozen=True)
class Comparison:
    """A simpler form against one that contains it: by how much χ² falls for the parameters that are freed."""

    simple: Hypothesis
    rich: Hypothesis
    value: float
    p_value: float

    @property
    def statistic(self) -> str:
        """The test's name with its degrees of freedom."""
        return f"χ²({self.rich.parameters - self.simple.parameters})"

    def __str__(self) -> str:
        p = f"p = {self.p_value:.2g}" if self.p_value > 0 else f"p < {sys.float_info.min:.0e}"
        return f"{self.statistic} = {self.value:.4g}, {p}"


def chi2_p_value(simple: Hypothesis, rich: Hypothesis, value: float) -> float:
    """Wilks: χ² falls by a χ² variable with as many degrees of freedom as parameters were freed."""
    return float(chi2_sf(value, rich.parameters - simple.parameters))


def choose(
    hypotheses: Sequence[Hypothesis],
    scale: float = 1.0,
    p_value: Callable[[Hypothesis, Hypothesis, float], float] = chi2_p_value,
    claims: Mapping[str, str] | None = None,
) -> Choice:
    """The simplest form that no richer one improves upon.

    Every nested pair is tested, at `SIGNIFICANCE` shared among all pairs (Bonferroni). A form that a richer one
    improves upon is out; of the rest, one that contains another is out as well; among forms that remain and are not
    nested Akaike's criterion decides.

    Parameters
    ----------
    scale
        χ² per degree of freedom of the richest fit where the noise does not explain it; divides every difference.
    p_value
        Of a test's value; the default is a likelihood-ratio test.
    claims
        What a form says, by its name, for the reason: ``{"per output": "per-output gains"}``.
    """
    comparisons = []
    for rich in hypotheses:
        for simple in hypotheses:
            if simple.name in rich.contains:
                value = max(simple.chi2 - rich.chi2, 0.0) / scale
                comparisons.append(Comparison(simple, rich, value, p_value(simple, rich, value)))
    level = SIGNIFICANCE / max(len(comparisons), 1)
    rejected = {c.simple.name for c in comparisons if c.p_value < level}
    adequate = [h for h in hypotheses if h.name not in rejected]
    names = {h.name for h in adequate}
    simplest = [h for h in adequate if not h.contains & names]
    ranked = sorted(simplest, key=lambda h: h.chi2 / scale + 2 * h.parameters)
    return _in_words(ranked, comparisons, claims or {})


def _in_words(ranked: list[Hypothesis], comparisons: list[Comparison], claims: Mapping[str, str]) -> Choice:
    best, *rivals = ranked
    richer = min((c for c in comparisons if c.simple is best), key=lambda c: c.p_value, default=None)
    simpler = min((c for c in comparisons if c.rich is best), key=lambda c: c.simple.aic, default=None)
    reasons = []
    if simpler:
        reasons.append(f"evidence for {claims.get(best.name, best.name)} over {simpler.simple.name}: {simpler}")
    if richer:
        reasons.append(f"no evidence for {claims.get(richer.rich.name, richer.rich.name)}: {richer}")
    if rivals:
        reasons.append(f"{rivals[0].name} is adequate, too, with a larger AIC")
    spoke = richer or simpler
    if spoke is None:
        return Choice(best.name, "", 0.0, 1.0, "", f"{best.name} is the only form considered")
    runner_up = spoke.rich.name if richer else spoke.simple.name
    return Choice(best.name, spoke.statistic, spoke.value, spoke.p_value, runner_up, "; ".join(reasons))
