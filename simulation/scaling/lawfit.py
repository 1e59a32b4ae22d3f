"""Fit a `simulation.scaling.law.ScalingLaw` to models whose costs were measured document by document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands
from simulation.scaling.by_document import DocumentCosts
from simulation.scaling.expansion import KINDS
from simulation.scaling.law import ASSUMED, FACTORS, Exponent, Factor, Provenance, ScalingLaw, Shape, Spread, Term
from simulation.scaling.regression import Fit, regress

ALL = "all"
DRAWS = 500
Float = NDArray[np.float64]
Metric = Literal["kl", "loss"]


@dataclass(frozen=True)
class Measured:
    """One model: its name, its shape, and what noise costs it."""

    name: str
    shape: Shape
    costs: DocumentCosts


@dataclass(frozen=True)
class Logarithms:
    """ln C of n models, by part.

    Attributes
    ----------
    parts
        Kinds of product, then `ALL`.
    values, drawn
        (n, P), and (B, n, P) for draws of documents.
    """

    parts: tuple[str, ...]
    values: Float
    drawn: Float


def logarithms(models: Sequence[Measured], metric: Metric = "kl", seed: int = 0) -> Logarithms:
    """Of every kind of product that all the models have and noise harms, and of all together.

    Raises
    ------
    BadOperands
        When there are none, they did not read the same documents in the same tokens, or noise helps one of them.
    """
    if not models:
        raise BadOperands("none of the models is trained", expected="at least three", seen="none", hint="labctl train")
    names, tokens = models[0].costs.documents, models[0].costs.tokens
    if others := [m.name for m in models if (m.costs.documents, m.costs.tokens) != (names, tokens)]:
        raise BadOperands(
            "the models did not read the same documents in the same tokens",
            expected=f"as {models[0].name}: {len(names)} documents, {sum(tokens):.0f} tokens",
            seen=", ".join(others),
            hint="models of one tokenizer and context, measured together",
        )
    rng = np.random.default_rng(seed)
    weights = np.vstack([np.ones(len(names)), rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)])
    by_part: dict[str, Float] = {}
    for kind in KINDS:
        if all(kind in model.costs.kl for model in models):
            by_part[kind] = np.stack([model.costs.cost(kind, weights, metric) for model in models], 1)
    total = np.stack([sum(m.costs.cost(kind, weights, metric) for kind in m.costs.kinds) for m in models], 1)
    known = {part: costs for part, costs in {**by_part, ALL: total}.items() if (costs[0] > 0).all()}
    if ALL not in known:
        helped = [model.name for model, cost in zip(models, total[0], strict=True) if cost <= 0]
        raise BadOperands("noise helps a model, so that no power law holds", seen=", ".join(helped))
    stacked = np.stack(list(known.values()), 2)  # (1 + B, n, P)
    whole = stacked[1:][(stacked[1:] > 0).all((1, 2))]
    return Logarithms(tuple(known), np.log(stacked[0]), np.log(whole))


def fit_of(models: Sequence[Measured], factors: Sequence[Factor], metric: Metric = "kl") -> tuple[Logarithms, Fit]:
    """Power laws in these factors, of every part.

    Raises
    ------
    BadOperands
        See `logarithms` and `simulation.scaling.regression.regress`.
    """
    logs, x = logarithms(models, metric), _sizes(models, factors)
    return logs, regress(x - x.mean(0), logs.values, logs.drawn, [model.shape for model in models])


def fit_law(
    models: Sequence[Measured], factors: Sequence[Factor], provenance: Provenance, metric: Metric = "kl"
) -> ScalingLaw:
    """The law in the factors that the models vary; the exponents of the others are assumed.

    Raises
    ------
    BadOperands
        See `logarithms` and `simulation.scaling.regression.regress`; when a kind of product has no power law, because
        the light that a model needs would lack it.
    """
    factors = [factor for factor in FACTORS if factor in factors]
    logs, fit = fit_of(models, factors, metric)
    if left_out := {kind for model in models for kind in model.costs.kinds} - set(logs.parts):
        raise BadOperands(
            "a kind of product that some models lack, or to which noise does nothing, has no power law",
            expected="the same kinds of product in all models",
            seen=", ".join(sorted(left_out)),
            hint="models of one family",
        )
    every = _sizes(models, FACTORS)
    places = [0, *(1 + FACTORS.index(factor) for factor in factors)]
    parts, size = len(logs.parts), 1 + len(FACTORS)
    covariance = np.zeros((parts, size, parts, size))
    covariance[np.ix_(range(parts), places, range(parts), places)] = fit.covariance
    terms = []
    for column, part in enumerate(logs.parts):
        exponents = []
        for factor in FACTORS:
            if factor in factors:
                at = 1 + factors.index(factor)
                exponents.append(Exponent(float(fit.coefficients[at, column]), *fit.interval(at, column), False))
            else:
                exponents.append(Exponent(ASSUMED[factor], ASSUMED[factor], ASSUMED[factor], True))
        terms.append(Term(part, float(np.exp(fit.coefficients[0, column])), tuple(exponents)))
    return ScalingLaw(
        metric=metric,
        reference=tuple(np.exp(every.mean(0)).tolist()),
        limits=tuple(zip(np.exp(every.min(0)).round(6).tolist(), np.exp(every.max(0)).round(6).tolist(), strict=True)),
        terms=tuple(terms),
        spread=Spread(
            tuple(map(tuple, covariance.reshape(parts * size, parts * size).tolist())),
            tuple(map(tuple, fit.scatter.tolist())),
            fit.degrees,
        ),
        provenance=provenance,
    )


def without_each(models: Sequence[Measured], factor: Factor, metric: Metric = "kl") -> dict[float, float]:
    """The exponent of all products together in one factor, with each of its values left out in turn."""
    found = {}
    for size in sorted({_size(model, factor) for model in models}):
        rest = [model for model in models if _size(model, factor) != size]
        if len({_size(model, factor) for model in rest}) > 1 and len(rest) > 2:
            logs, fit = fit_of(rest, [factor], metric)
            found[size] = float(fit.coefficients[1, logs.parts.index(ALL)])
    return found


def _sizes(models: Sequence[Measured], factors: Sequence[Factor]) -> Float:
    """(n, F) logarithms."""
    return np.log([[_size(model, factor) for factor in factors] for model in models])


def _size(model: Measured, factor: Factor) -> float:
    size = model.shape.sizes()[FACTORS.index(factor)]
    return 1.0 if size is None else size
