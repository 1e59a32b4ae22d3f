"""The law of a family in words and rows: for the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator

from labctl.studies.family_law import TOLERANCE, ArmTrends, FamilyLaw, Trend
from labctl.studies.second_order import PART_NAMES
from simulation.scaling.expansion import KINDS
from simulation.scaling.law import FACTORS
from simulation.scaling.lawfit import ALL, Measured, Metric

VARIED = {"width": "d", "depth": "L", "heads": "d, 4 heads", "qat": "d, quantised", "tokens": "tokens/param."}
"""What an arm varies."""
PRECISE = 0.15
"""Half of the 95 % interval within which an exponent is taken to be known."""
COST_COLUMNS = "model", "nats", "FFN", "QKVO", "Q·Kᵀ", "att·V", "all", "loss"
JOINT_COLUMNS = ("", "d", "L", "head width", "tokens/param.")
"""In the order of `simulation.scaling.law.FACTORS`."""
BESIDE_COLUMNS = "model", "measured", "by the law", "extrapolated in"
_PARTS = *KINDS, ALL
_NAMES = {str(part): words for part, words in PART_NAMES.items()}


def fitted(found: FamilyLaw) -> list[ArmTrends]:
    """The arms that have exponents."""
    return [arm for arm in found.arms if arm.trends]


def read_words(found: FamilyLaw) -> str:
    """How many models, and what they read."""
    costs = found.models[0].costs
    return f"{len(found.models)} models, {sum(costs.tokens):,.0f} tokens of {len(costs.documents)} documents each."


def cost_rows(found: FamilyLaw) -> list[tuple[str, ...]]:
    """C of the KL divergence of every model by kind of product, and of the loss."""
    return [_costs(model) for model in found.models]


def exponent_rows(found: FamilyLaw) -> list[tuple[str, ...]]:
    """Exponents of every fitted arm, by kind of product."""
    wanted: list[tuple[str, Metric, str]] = [(part, "kl", _NAMES[part]) for part in _PARTS]
    return [
        (words, *(_trend_words(trend_of(arm, part, metric)) for arm in fitted(found)))
        for part, metric, words in (*wanted, (ALL, "loss", "loss, all"))
    ]


def joint_rows(found: FamilyLaw) -> list[tuple[str, ...]]:
    """All arms together, each exponent with the others held."""
    assert len(JOINT_COLUMNS) == 1 + len(FACTORS)
    return [
        (
            _NAMES[term.part],
            *("assumed" if e.assumed else _power(e.value, e.low, e.high) for e in term.exponents),
        )
        for term in found.law.terms
    ]


def beside_rows(found: FamilyLaw) -> list[tuple[str, ...]]:
    """Models that are no part of the law: the light that they need, and by the law."""
    return [
        (
            b.measured.name,
            f"{b.photons:.3g}",
            f"{b.law.photons:.3g} ({b.law.low:.2g}–{b.law.high:.2g})",
            ", ".join(b.outside) or "–",
        )
        for b in found.beside
    ]


def beside_words() -> str:
    """What those rows are."""
    return f"light for {math.expm1(TOLERANCE):.0%} by KL, of models that are no part of the law:"


def trend_of(arm: ArmTrends, part: str, metric: Metric = "kl") -> Trend | None:
    """Of one kind of product, or all."""
    return next((trend for trend in arm.trends.get(metric, ()) if trend.part == part), None)


def remarks(found: FamilyLaw) -> Iterator[str]:
    """How well exponents are known, what hangs on one size, and what was not trained."""
    for arm in fitted(found):
        if (all_of_them := trend_of(arm, ALL)) is not None:
            yield precision_words(arm, all_of_them)
        if arm.without:
            left = ", ".join(f"{value:+.2f} without {size:g}" for size, value in arm.without.items())
            yield f"{VARIED[arm.arm]}: {left}"
    for arm in found.arms:
        if arm.reason and not arm.trends:
            yield f"arm {arm.arm}: {arm.reason}"
        if arm.missing:
            yield f"arm {arm.arm}: {len(arm.missing)} of its models not trained yet"
    if found.quantised:
        ratios = ", ".join(f"{r.part} {r.value:.2f} ({r.low:.2f}–{r.high:.2f})" for r in found.quantised)
        yield f"trained quantised, × the cost in float, {found.quantised[0].pairs} pairs: {ratios}"


def precision_words(arm: ArmTrends, trend: Trend) -> str:
    """Whether the exponent is known to `PRECISE`, and whether it is one at all."""
    half = (trend.high - trend.low) / 2
    reached = "reached" if half <= PRECISE else "not reached"
    words = (
        f"{VARIED[arm.arm]}, all products: {_power(trend.exponent, trend.low, trend.high)}; ± {PRECISE} is {reached}"
    )
    if trend.lack_of_fit < 0.05:
        words += f"; no straight line (so much curvature by chance: {trend.lack_of_fit:.1g})"
    return words


def _costs(model: Measured) -> tuple[str, ...]:
    costs = model.costs
    by_kind = {str(kind): float(costs.cost(kind)) for kind in costs.kinds}
    parts = [f"{by_kind[kind]:.3g}" if kind in by_kind else "–" for kind in _PARTS[:-1]]
    loss = sum(float(costs.cost(kind, metric="loss")) for kind in costs.kinds)
    nats = sum(costs.nats) / sum(costs.tokens)
    return model.name, f"{nats:.2f}", *parts, f"{sum(by_kind.values()):.3g}", f"{loss:.3g}"


def _trend_words(trend: Trend | None) -> str:
    return "–" if trend is None else _power(trend.exponent, trend.low, trend.high)


def _power(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} ± {(high - low) / 2:.2f}"
