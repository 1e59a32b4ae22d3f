"""The law of a family in a file: what noise costs a model of any shape, with its interval and where it comes from.

For each kind of product l the cost of `simulation.scaling.expansion` is a power of the shape:

    ln C_l = ln C_l(reference) + α_l ln(d / d₀) + β_l ln(L / L₀) + γ_l ln(h / h₀) + δ_l ln(t / t₀)

for width d, L blocks, heads of width h, and t tokens of training for each parameter. A model needs ``Σ_l C_l / nats``
photons per multiply–accumulate (MAC) and pass to stay within ``nats`` per token of its digital self; the sum of
different powers is none. Each file says which of the four were varied by the models it was fitted to, and between which
limits; one that was not has an exponent that is assumed, and says so.

    law = load_law(path)                                         # written by ``labctl scaling`` as law.json
    need = law.photons(Shape(12288, 96, 128), math.log(1.05))    # need.photons, need.low, need.high
    law.outside(Shape(12288, 96, 128))                           # ("width", "blocks", "head_width"): extrapolated
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.errors import ArtefactError, OutOfDomain
from groundwork.files import write_whole
from groundwork.opening.json_text import read_json
from simulation.scaling.store import finite

SCHEMA = "labctl.scaling-law/1"
Factor = Literal["width", "blocks", "head_width", "tokens_per_parameter"]
FACTORS: tuple[Factor, ...] = get_args(Factor)
Metric = Literal["kl", "loss"]
ASSUMED: dict[Factor, float] = {"width": 0.0, "blocks": 1.0, "head_width": 0.0, "tokens_per_parameter": 0.0}
"""Exponents of what no model varied: each block adds what it costs; nothing else matters."""
DRAWS = 4000
INTERVAL = (2.5, 97.5)
FARTHEST = 200.0
"""|ln C| beyond which an interval has no end that means anything."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Of a Transformer: width d, number of blocks L, width of each attention head, and how far it was trained.

    Attributes
    ----------
    tokens_per_parameter
        None where it is not known: the law then answers for a model that was trained as far as its own.
    """

    width: int
    blocks: int
    head_width: int
    tokens_per_parameter: float | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.head_width) < 1 or (self.tokens_per_parameter or 1) <= 0:
            raise OutOfDomain("no model has this shape", expected="positive sizes", seen=str(self))

    def sizes(self) -> tuple[float | None, ...]:
        """In the order of `FACTORS`."""
        return self.width, self.blocks, self.head_width, self.tokens_per_parameter


@dataclass(frozen=True)
class Exponent:
    """Of one factor; ``low`` and ``high`` bound 95 %, and equal ``value`` where it is assumed."""

    value: float
    low: float
    high: float
    assumed: bool


@dataclass(frozen=True)
class Term:
    """What one kind of product costs.

    Attributes
    ----------
    part
        ``"ffn"``, ``"qkvo"``, ``"qk"``, ``"av"``, or ``"all"``: a power law of all together, for comparison.
    cost
        C at the reference shape [nats per token at one photon per MAC and pass].
    exponents
        In the order of `FACTORS`.
    """

    part: str
    cost: float
    exponents: tuple[Exponent, ...]


@dataclass(frozen=True)
class Spread:
    """How far the terms are known: errors of all of them at once, because they come from the same models.

    Attributes
    ----------
    covariance
        (5 P, 5 P) of (ln C, four exponents) of each of P terms in turn; zero rows for what is assumed.
    scatter
        (P, P) of a single model about the law: another seed of training, and what no power law can follow.
    degrees
        Of freedom, of both.
    """

    covariance: tuple[tuple[float, ...], ...]
    scatter: tuple[tuple[float, ...], ...]
    degrees: int


@dataclass(frozen=True)
class Provenance:
    """Where a law comes from.

    Attributes
    ----------
    machine
        Preset, or id of the calibration, whose full scale and quantum efficiency were taken.
    clip, quantum_efficiency
        As for `simulation.scaling.expansion.expand`.
    texts
        Name by digest of what was read.
    tokens
        Read by each model.
    code
        `simulation.scaling.fingerprint.code_version`.
    models
        SHA-256 of each checkpoint by its name.
    """

    machine: str
    clip: tuple[float, float]
    quantum_efficiency: float
    texts: Mapping[str, str]
    tokens: int
    code: str
    models: Mapping[str, str]


@dataclass(frozen=True)
class Need:
    """Photons at the weight plane per MAC and pass, with the 95 % interval of one model of the shape."""

    photons: float
    low: float
    high: float


@dataclass(frozen=True)
class ScalingLaw:
    """What noise costs a model of any shape.

    Attributes
    ----------
    metric
        ``"kl"``: divergence from the digital model's answers; ``"loss"``: of the next token.
    reference
        Geometric mean of the models' shapes, as a real number of each of `FACTORS`.
    limits
        Smallest and largest of each of `FACTORS` among the models.
    terms
        One for each kind of product, and ``"all"`` at the end.
    spread, provenance
        `Spread`, `Provenance`
    """

    metric: Metric
    reference: tuple[float, ...]
    limits: tuple[tuple[float, float], ...]
    terms: tuple[Term, ...]
    spread: Spread
    provenance: Provenance

    def photons(self, shape: Shape, nats: float) -> Need:
        """Light at which a model of this shape is ``nats`` per token from its digital self.

        Raises
        ------
        OutOfDomain
            For a tolerance that is not a positive number.
        """
        if not 0 < nats < math.inf:
            raise OutOfDomain("a tolerance is a positive number of nats per token", seen=str(nats), hint="0.05")
        best, drawn = self._costs(shape)
        parts = [i for i, term in enumerate(self.terms) if term.part != "all"]
        low, high = np.percentile(drawn[:, parts].sum(1), INTERVAL) / nats
        return Need(float(best[parts].sum() / nats), float(low), float(high))

    def costs(self, shape: Shape) -> dict[str, float]:
        """C of each kind of product, and of ``"all"`` by its own power law."""
        best, _ = self._costs(shape)
        return {term.part: float(cost) for term, cost in zip(self.terms, best, strict=True)}

    def outside(self, shape: Shape) -> tuple[Factor, ...]:
        """Which of its sizes no model of the fit reached: there the law is an extrapolation."""
        return tuple(
            factor
            for factor, size, (low, high) in zip(FACTORS, shape.sizes(), self.limits, strict=True)
            if size is not None and not low <= size <= high
        )

    def assumed(self) -> tuple[Factor, ...]:
        """What no model varied, so that its exponent is assumed."""
        return tuple(f for f, e in zip(FACTORS, self.terms[0].exponents, strict=True) if e.assumed)

    def _costs(self, shape: Shape) -> tuple[Float, Float]:
        """(P,) C of each term, and (`DRAWS`, P) of what it may be for one model, by Student's t."""
        away = [1.0 if size is None else size / at for size, at in zip(shape.sizes(), self.reference, strict=True)]
        design = np.concatenate([[1.0], np.log(away)])
        known = np.array([[math.log(t.cost), *(e.value for e in t.exponents)] for t in self.terms])
        rng = np.random.default_rng(0)
        stretch = np.sqrt(self.spread.degrees / rng.chisquare(self.spread.degrees, DRAWS))[:, None]
        errors = rng.standard_normal((DRAWS, known.size)) @ _root(self.spread.covariance).T
        about = rng.standard_normal((DRAWS, len(known))) @ _root(self.spread.scatter).T
        moved = (errors.reshape(DRAWS, *known.shape) @ design + about) * stretch
        best = known @ design
        return np.exp(best), np.exp(np.clip(best + moved, -FARTHEST, FARTHEST))


def save_law(path: str | Path, law: ScalingLaw) -> None:
    """Write the law as JSON, whole or not at all.

    Raises
    ------
    OSError
        Disk full, not writable.
    """
    content = json.loads(json.dumps(asdict(law)))
    document = {"schema": SCHEMA, "law": content, "sha256": _digest(content)}
    write_whole(Path(path), (json.dumps(document, indent=1) + "\n").encode())


def load_law(path: str | Path) -> ScalingLaw:
    """Read a law that ``labctl scaling`` wrote.

    Raises
    ------
    ArtefactError
        When there is none, or it is of another schema, was altered, or holds what is no number.
    """
    path = Path(path)
    try:
        document = read_json(path)
        if document.get("schema") != SCHEMA:
            raise _error(path, "not a scaling law", SCHEMA, str(document.get("schema", "no schema")))
        content = document["law"]
        if document["sha256"] != _digest(content):
            raise _error(path, "the law was altered", f"sha256 {_digest(content)[:12]}…", document["sha256"][:12] + "…")
        return _law(content)
    except OSError as error:
        raise _error(path, "no such law, or not readable", "the law.json of labctl scaling", str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error(path, "the law cannot be read", f"JSON of {SCHEMA}", f"{type(error).__name__}: {error}") from error


def _law(content: Mapping[str, Any]) -> ScalingLaw:
    terms = tuple(
        Term(
            str(term["part"]),
            finite(term["cost"]),
            tuple(
                Exponent(finite(e["value"]), finite(e["low"]), finite(e["high"]), bool(e["assumed"]))
                for e in term["exponents"]
            ),
        )
        for term in content["terms"]
    )
    spread, size = content["spread"], len(terms)
    if any(len(term.exponents) != len(FACTORS) or term.cost <= 0 for term in terms):
        raise ValueError("terms")
    if all(term.part == "all" for term in terms):
        raise ValueError("no term of a kind of product")
    if content["metric"] not in get_args(Metric):
        raise ValueError(f"a metric of {content['metric']!r}")
    efficiency = finite(content["provenance"]["quantum_efficiency"])
    if not 0 < efficiency <= 1:
        raise ValueError(f"a quantum efficiency of {efficiency:g}")
    stated = content["provenance"] | {
        "clip": tuple(content["provenance"]["clip"]), "quantum_efficiency": efficiency,
    }  # fmt: skip
    return ScalingLaw(
        metric=content["metric"],
        reference=tuple(map(finite, content["reference"])),
        limits=tuple((finite(low), finite(high)) for low, high in content["limits"]),
        terms=terms,
        spread=Spread(
            _square(spread["covariance"], (1 + len(FACTORS)) * size),
            _square(spread["scatter"], size),
            max(1, int(spread["degrees"])),
        ),
        provenance=Provenance(**stated),
    )


def _square(rows: Sequence[Sequence[float]], size: int) -> tuple[tuple[float, ...], ...]:
    if len(rows) != size or any(len(row) != size for row in rows):
        raise ValueError(f"a matrix of {size} × {size} is missing")
    return tuple(tuple(map(finite, row)) for row in rows)


def _root(covariance: Sequence[Sequence[float]]) -> Float:
    """A matrix whose square is a covariance that may be singular."""
    values, vectors = np.linalg.eigh(np.array(covariance, float))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _error(path: Path, what: str, expected: str, seen: str) -> ArtefactError:
    return ArtefactError(
        what,
        device=str(path),
        action="reading a scaling law",
        expected=expected,
        seen=seen,
        hint="leave --law out for the one that ships, or make one: labctl scaling ideal --arms FOLDER",
    )
