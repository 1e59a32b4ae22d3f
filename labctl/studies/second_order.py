"""What shot noise costs each width to second order, beside the sweep that tests it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from torch import nn

from labctl.archive.atomic import storage
from labctl.studies.simulate_words import KIND_NAMES
from simulation.benches.imported import Imported
from simulation.benches.opening import default_encoding
from simulation.light.optics import Optics
from simulation.scaling.expansion import KINDS, Cost, Expansion, Kind, expand
from simulation.scaling.fingerprint import code_version
from simulation.scaling.kept import ExpansionStore
from simulation.scaling.powerlaw import PowerLaw, power_law
from simulation.scaling.requirement import Resamples, Sweep, bright_cost

TOKENS = 2048
"""Read for the expansion, at most: the cost of a model is then known to about two percent."""
ENCODING = "sign-split"
"""The encoding whose noise `simulation.scaling.expansion` knows."""
WINDOWS = 4
"""At least so many: of a model with a longer context each is shorter, because errors come from their scatter."""
Metric = Literal["kl", "loss"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Part = Literal["all"] | Kind
PARTS: tuple[Part, ...] = ("all", *KINDS)
PART_NAMES: dict[Part, str] = {part: KIND_NAMES.get(part, "all products") for part in PARTS}


@dataclass(frozen=True)
class Subject:
    """A model that is expanded: its width, the digest of its file, and the text in its tokens, which it reads."""

    width: int
    sha256: str
    model: nn.Module
    ids: Sequence[int]
    context: int


@dataclass(frozen=True)
class Trend:
    """How the cost of one kind of product, or of all, goes with the width: by one of `METRICS`."""

    kind: Part
    metric: Metric
    law: PowerLaw | None
    reason: str = ""


@dataclass(frozen=True)
class Agreement:
    """C of one width by the expansion and by the bright side of the sweep, of the loss, each with its 95 % interval."""

    width: int
    theory: tuple[float, float, float]
    swept: tuple[float, float, float]

    def document(self) -> dict[str, Any]:
        """JSON; None where the sweep has no bright side."""
        swept = None if math.isnan(self.swept[0]) else self.swept
        return {"width": self.width, "theory": self.theory, "swept": swept}


@dataclass(frozen=True)
class SecondOrder:
    """Of a family, by width.

    Attributes
    ----------
    widths, expansions
        In the same order.
    trends
        Of every kind of product and of all.
    agreement
        Empty where the machine has other noise than that of the expansion.
    """

    widths: tuple[int, ...]
    expansions: tuple[Expansion, ...]
    trends: tuple[Trend, ...]
    agreement: tuple[Agreement, ...]

    def document(self) -> dict[str, Any]:
        """JSON."""
        return {
            "of": "shot noise of the signed four-pass product, in nats per token at one photon per MAC and pass",
            "widths": [
                {
                    "width": width,
                    "total": vars(found.total),
                    "together": vars(found.together),
                    "kinds": {kind: vars(cost) for kind, cost in found.kinds().items()},
                    "less_light_with_a_budget": found.gain_of_budget,
                    "products": [
                        {"name": p.name, "kind": p.kind, "macs": p.macs, **vars(p.cost)} for p in found.products
                    ],
                }
                for width, found in zip(self.widths, self.expansions, strict=True)
            ],
            "trends": [
                {"kind": t.kind, "metric": t.metric, "reason": t.reason, **({} if t.law is None else vars(t.law))}
                for t in self.trends
            ],
            "agreement": [each.document() for each in self.agreement],
        }


def why_not(bench: Optics | Imported) -> str:
    """Why the noise of a bench is not that of the expansion; empty where its light is."""
    if isinstance(bench, Imported):
        return "an imported bench has other noise than shot noise"
    if (way := default_encoding(bench)) != ENCODING:
        return f"it is known for signs in four passes, and {bench.name} shows them otherwise ({way})"
    return ""


def second_order(
    subjects: Sequence[Subject],
    bench: Optics | Imported,
    tokens: int,
    store: ExpansionStore,
    advance: Callable[[int], None],
) -> tuple[Expansion, ...]:
    """The expansion of every model at the full scale and quantum efficiency of a bench; what is known is read.

    Raises
    ------
    StorageError
        When one cannot be written.
    """
    return tuple(_expanded(subject, bench, min(tokens, TOKENS), store, advance) for subject in subjects)


def _expanded(
    subject: Subject, bench: Optics | Imported, tokens: int, store: ExpansionStore, advance: Callable[[int], None]
) -> Expansion:
    tokens = min(tokens, len(subject.ids) - 1)
    context = min(subject.context, max(1, tokens // WINDOWS))
    about = {
        "model": subject.sha256,
        "text": hashlib.sha256(np.array(subject.ids, np.int64).tobytes()).hexdigest(),
        "tokens": tokens,
        "context": context,
        "clip": list(bench.clip),
        "quantum_efficiency": bench.quantum_efficiency,
        "code": code_version(),
    }
    found = store.load(about)
    if found is None:
        found = expand(
            subject.model,
            subject.ids,
            context=context,
            max_tokens=tokens,
            clip=bench.clip,
            quantum_efficiency=bench.quantum_efficiency,
        )
        with storage(store.path(about), "writing an expansion"):
            store.save(about, found)
    advance(1)
    return found


def compare(
    bench: Optics | Imported, expansions: Sequence[Expansion], sweeps: Sequence[Sweep], draws: Sequence[Resamples]
) -> SecondOrder:
    """Trends with the width, and the sweep beside them where its machine has shot noise alone."""
    widths = tuple(sweep.width for sweep in sweeps)
    trends = [
        _trend(part, metric, widths, [cost_of(found, part) for found in expansions])
        for metric in METRICS
        for part in PARTS
    ]
    agreement = []
    if bench.name == "ideal":
        for found, sweep, drawn in zip(expansions, sweeps, draws, strict=True):
            total = found.total
            theory = total.loss, total.loss - 1.96 * total.loss_stderr, total.loss + 1.96 * total.loss_stderr
            agreement.append(Agreement(sweep.width, theory, bright_cost(sweep, drawn)))
    return SecondOrder(widths, tuple(expansions), tuple(trends), tuple(agreement))


def cost_of(found: Expansion, part: Part) -> Cost | None:
    """Of one kind of product, or of all; None where the model has none of the kind."""
    return found.total if part == "all" else found.kinds().get(part)


def _trend(kind: Kind | Literal["all"], metric: Metric, widths: Sequence[int], costs: Sequence[Cost | None]) -> Trend:
    known = [(w, getattr(c, metric), getattr(c, f"{metric}_stderr")) for w, c in zip(widths, costs, strict=True) if c]
    positive = [(w, value, error) for w, value, error in known if value > 0]
    if len(positive) < max(len(known), 2):
        return Trend(kind, metric, None, "noise helps a width" if len(positive) < len(known) else "one width")
    w, value, error = np.array(positive, float).T
    drawn = value + error * np.random.default_rng(0).standard_normal((1000, len(value)))
    return Trend(kind, metric, power_law(w, value, np.where(drawn > 0, drawn, np.nan)))
