"""The law of a family: what noise costs each of its models, how that goes with each thing that its arms vary."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.errors import BadOperands
from calibration.statistics.tails import t_isf
from labctl.archive.atomic import storage
from labctl.errors import UsageError
from labctl.studies.arms import checkpoint_path, members_of
from simulation.benches.imported import Imported
from simulation.light.optics import Optics
from simulation.models.checkpoint import load_checkpoint
from simulation.models.language import Language
from simulation.models.loading import language_of, load_language
from simulation.models.text import Text
from simulation.scaling.by_document import DocumentCostStore, cost_by_document
from simulation.scaling.documents import Document, documents_of, held_out_documents, windows_of
from simulation.scaling.evaluate import file_digest, model_digest
from simulation.scaling.fingerprint import code_version
from simulation.scaling.law import Factor, Need, Provenance, ScalingLaw, Shape
from simulation.scaling.lawfit import ALL, Measured, Metric, fit_law, fit_of, without_each
from simulation.scaling.regression import Fit
from simulation.training.arms import Arm

FACTOR_OF: dict[Arm, Factor] = {
    "width": "width", "depth": "blocks", "heads": "width", "qat": "width", "tokens": "tokens_per_parameter",
}  # fmt: skip
"""What is varied in each arm."""
IN_LAW: dict[Arm, Factor] = {
    "width": "width", "depth": "blocks", "heads": "head_width", "tokens": "tokens_per_parameter",
}  # fmt: skip
"""What each arm lets the law tell apart; quantised models are no part of it."""
TOLERANCE = float(np.log(1.05))
"""Nats per token that the printed light stands for: 5 % of perplexity."""


@dataclass(frozen=True)
class Trend:
    """How the cost of one kind of product goes with what an arm varies.

    Attributes
    ----------
    part
        A kind of product, or ``"all"``.
    exponent, low, high
        With its 95 % interval: training seeds, lack of fit, and documents.
    seeds
        Standard deviation of ln C between trainings of one shape; nan without any.
    lack_of_fit
        Probability of so much curvature if it were a power law; nan without seeds.
    """

    part: str
    exponent: float
    low: float
    high: float
    seeds: float
    lack_of_fit: float


@dataclass(frozen=True)
class ArmTrends:
    """One arm: its models that were trained, the names of those that were not, and its trends by metric."""

    arm: Arm
    models: tuple[str, ...]
    missing: tuple[str, ...]
    trends: Mapping[Metric, tuple[Trend, ...]]
    without: Mapping[float, float]
    reason: str = ""


@dataclass(frozen=True)
class Ratio:
    """How many times more noise costs a quantised model than the one in float that it began as, with 95 %."""

    part: str
    value: float
    low: float
    high: float
    pairs: int


@dataclass(frozen=True)
class Beside:
    """A model that is no part of the law: what it needs for `TOLERANCE`, and what the law says."""

    measured: Measured
    photons: float
    law: Need
    outside: tuple[Factor, ...]


@dataclass(frozen=True)
class FamilyLaw:
    """Everything that the models of a family say."""

    models: tuple[Measured, ...]
    arms: tuple[ArmTrends, ...]
    quantised: tuple[Ratio, ...]
    law: ScalingLaw
    beside: tuple[Beside, ...]

    def document(self) -> dict[str, Any]:
        """JSON: every number."""
        return {
            "schema": "labctl.family-law/1",
            "documents": self.models[0].costs.documents,
            "models": [_document(model) for model in self.models],
            "arms": [asdict(arm) for arm in self.arms],
            "quantised": [asdict(ratio) for ratio in self.quantised],
            "law": asdict(self.law),
            "tolerance_nats": TOLERANCE,
            "beside": [
                {**_document(b.measured), "photons": b.photons, "law": asdict(b.law), "outside": b.outside}
                for b in self.beside
            ],
        }


@dataclass(frozen=True)
class Reading:
    """How costs are measured.

    Attributes
    ----------
    bench
        Whose full scale and quantum efficiency are taken.
    documents
        What is read; the same by every model.
    tokens
        Of them, at most.
    store
        Where costs are kept.
    """

    bench: Optics | Imported
    documents: tuple[Document, ...]
    tokens: int
    store: DocumentCostStore

    def measure(self, name: str, language: Language, sha256: str, shape: Shape) -> Measured:
        """What noise costs a model, or what was found before.

        Raises
        ------
        StorageError
            When it cannot be written.
        """
        contents = json.dumps([[document.name, document.content] for document in self.documents])
        about = {
            "model": sha256,
            "documents": hashlib.sha256(contents.encode()).hexdigest(),
            "tokens": self.tokens,
            "context": language.context,
            "clip": list(self.bench.clip),
            "quantum_efficiency": self.bench.quantum_efficiency,
            "code": code_version(),
        }
        found = self.store.load(about)
        if found is None:
            windows = windows_of(self.documents, language.encode, language.context, self.tokens)
            found = cost_by_document(
                language.model,
                windows,
                [document.name for document in self.documents],
                clip=self.bench.clip,
                quantum_efficiency=self.bench.quantum_efficiency,
            )
            with storage(self.store.path(about), "writing what noise costs a model"):
                self.store.save(about, found)
        return Measured(name, shape, found)


def documents_for(texts: Sequence[Text]) -> tuple[Document, ...]:
    """All held-out topics, and the articles of these texts."""
    return held_out_documents() + tuple(document for text in texts for document in documents_of(text))


def provenance_of(reading: Reading, texts: Sequence[Text], models: Mapping[str, str]) -> Provenance:
    """Where a law comes from; models by name and digest."""
    held_out = hashlib.sha256("".join(document.content for document in held_out_documents()).encode()).hexdigest()
    read = {"pydoc_data.topics/heldout": held_out, **{text.name: text.sha256 for text in texts}}
    bench = reading.bench
    return Provenance(bench.name, bench.clip, bench.quantum_efficiency, read, reading.tokens, code_version(), models)


def family_law(
    folder: Path,
    beside: Sequence[Path],
    reading: Reading,
    texts: Sequence[Text],
    advance: Callable[[int], None] = lambda n: None,
) -> FamilyLaw:
    """Measure every model of the arms that is there, and fit each arm and all of them together.

    Raises
    ------
    UsageError
        When the folder has no arms, too few of their models are trained, some are copies, or one is beside them, too.
    """
    arms = members_of(folder)
    known: dict[str, Measured] = {}
    digests: dict[str, str] = {}
    for name in dict.fromkeys(name for names in arms.values() for name in names):
        path = checkpoint_path(folder, name)
        if path.exists():
            checkpoint, digests[name] = load_checkpoint(path), file_digest(path)
            shape = shape_of(checkpoint.model, _trained_for(folder, name, checkpoint.record))
            known[name] = reading.measure(name, language_of(name, checkpoint), digests[name], shape)
            advance(1)
    _require_trained_apart(digests)
    in_law = [arm for arm in arms if arm in IN_LAW]
    joint = dict.fromkeys(name for arm in in_law for name in arms[arm] if name in known)
    models, factors = [known[name] for name in joint], [IN_LAW[arm] for arm in in_law]
    try:
        varied = [f for f in factors if len({getattr(model.shape, f) for model in models}) > 1]
        law = fit_law(models, varied, provenance_of(reading, texts, {name: digests[name] for name in joint}))
    except BadOperands as error:
        raise UsageError(
            "too few models for a law", device=str(folder), seen=str(error), hint=f"labctl train {folder} --arms all"
        ) from error
    return FamilyLaw(
        tuple(known.values()),
        tuple(_arm(arm, names, known) for arm, names in arms.items()),
        _quantised(known),
        law,
        tuple(_beside(path, reading, law, advance) for path in beside),
    )


def _require_trained_apart(digests: Mapping[str, str]) -> None:
    """Refuse copies: what differs between trainings would look smaller than it is."""
    by_digest: dict[str, list[str]] = {}
    for name, sha256 in digests.items():
        by_digest.setdefault(sha256, []).append(name)
    if same := [names for names in by_digest.values() if len(names) > 1]:
        raise UsageError(
            "models of the arms are copies of each other",
            expected="a training of its own for each",
            seen=" and ".join(same[0]),
            hint=f"remove {same[0][-1]}.safetensors, and train it: labctl train FOLDER --arms …",
        )


def law_of_widths(
    models: Sequence[tuple[str, str, Language, float | None]], reading: Reading, texts: Sequence[Text]
) -> ScalingLaw:
    """The law in the width alone, of models that differ in nothing else: name, digest, model, tokens per parameter.

    Raises
    ------
    UsageError
        When they are too few, differ in depth, too, or noise helps one of them.
    """
    depths = {shape_of(language.model, trained_for).blocks for _, _, language, trained_for in models}
    if len(depths) > 1:
        raise UsageError(
            "the models differ in depth, too",
            seen=f"{', '.join(map(str, sorted(depths)))} blocks",
            hint="models of one depth, or labctl scaling --arms FOLDER",
        )
    try:
        found = [
            reading.measure(name, language, sha256, shape_of(language.model, trained_for))
            for name, sha256, language, trained_for in models
        ]
        provenance = provenance_of(reading, texts, {name: sha256 for name, sha256, *_ in models})
        return fit_law(found, ["width"], provenance)
    except BadOperands as error:
        raise UsageError("no law of these models", seen=str(error), hint="at least three widths") from error


def shape_of(model: Any, tokens_per_parameter: float | None) -> Shape:
    """Of one of our models, or of one of Hugging Face's.

    Raises
    ------
    UsageError
        When it does not state its depth or its heads.
    """
    config = model.config

    def stated(*names: str) -> int:
        for name in names:
            if isinstance(found := getattr(config, name, None), int):
                return found
        raise UsageError("the model does not state its shape", expected=" or ".join(names), seen=type(config).__name__)

    width = stated("width", "hidden_size", "d_model", "n_embd")
    heads = stated("heads", "num_attention_heads", "n_head", "num_heads")
    head_width = getattr(config, "head_dim", None) or width // heads
    return Shape(
        width, stated("blocks", "num_hidden_layers", "n_layer", "num_layers"), head_width, tokens_per_parameter
    )


def _trained_for(folder: Path, name: str, record: Mapping[str, Any]) -> float:
    """Tokens per parameter; of a quantised model those of the one in float as well."""
    seen = record["tokens_seen"]
    if name.endswith("-qat") and (start := checkpoint_path(folder, name.removesuffix("-qat"))).exists():
        seen += load_checkpoint(start).record["tokens_seen"]
    return float(f"{seen / record['parameters']:.3g}")


def _arm(arm: Arm, names: Sequence[str], known: Mapping[str, Measured]) -> ArmTrends:
    models = [known[name] for name in names if name in known]
    missing = tuple(name for name in names if name not in known)
    factor = FACTOR_OF[arm]
    trends: dict[Metric, tuple[Trend, ...]] = {}
    reason = ""
    metrics: tuple[Metric, ...] = ("kl", "loss")
    for metric in metrics:
        try:
            factors: list[Factor] = ["width", factor] if arm == "tokens" and _widths(models) > 1 else [factor]
            logs, fit = fit_of(models, factors, metric)
        except BadOperands as error:
            reason = str(error)
            continue
        trends[metric] = tuple(_trend(part, fit, len(factors), column) for column, part in enumerate(logs.parts))
    without = without_each(models, factor) if "kl" in trends and arm != "tokens" else {}
    return ArmTrends(arm, tuple(model.name for model in models), missing, trends, without, reason)


def _trend(part: str, fit: Fit, at: int, column: int) -> Trend:
    low, high = fit.interval(at, column)
    exponent, seeds = float(fit.coefficients[at, column]), float(fit.seeds[column])
    return Trend(part, exponent, low, high, seeds, float(fit.lack_of_fit[column]))


def _widths(models: Sequence[Measured]) -> int:
    return len({model.shape.width for model in models})


def _quantised(known: Mapping[str, Measured]) -> tuple[Ratio, ...]:
    """By kind of product, from the pairs that are both there."""
    pairs = [(known[name], known[f"{name}-qat"]) for name in known if f"{name}-qat" in known]
    found = []
    for part in (*pairs[0][0].costs.kinds, ALL) if pairs else ():
        logs = np.log([_cost(after, part) / _cost(before, part) for before, after in pairs])
        n = len(logs)
        half = float(t_isf(0.025, n - 1) * logs.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        middle = float(logs.mean())
        found.append(Ratio(part, math.exp(middle), math.exp(middle - half), math.exp(middle + half), n))
    return tuple(found)


def _cost(model: Measured, part: Any) -> float:
    kinds = model.costs.kinds if part == ALL else (part,)
    return float(sum(model.costs.cost(kind) for kind in kinds))


def _beside(path: Path, reading: Reading, law: ScalingLaw, advance: Callable[[int], None]) -> Beside:
    language = load_language(path if path.exists() else str(path))
    sha256 = file_digest(path) if path.is_file() else model_digest(language.model)
    if name := next((name for name, digest in law.provenance.models.items() if digest == sha256), ""):
        raise UsageError(
            "the law was fitted to a model that is to be compared with it",
            device=str(path),
            expected="models that are no part of the arms",
            seen=f"{name} of the arms",
            hint="leave it out: its costs are in the table anyway",
        )
    shape = shape_of(language.model, None)
    measured = reading.measure(language.name, language, sha256, shape)
    advance(1)
    return Beside(measured, _cost(measured, ALL) / TOLERANCE, law.photons(shape, TOLERANCE), law.outside(shape))


def _document(model: Measured) -> dict[str, Any]:
    costs = model.costs
    return {
        "name": model.name,
        "shape": asdict(model.shape),
        "tokens": sum(costs.tokens),
        "nats": sum(costs.nats) / sum(costs.tokens),
        "kl": {kind: float(costs.cost(kind)) for kind in costs.kinds},
        "loss": {kind: float(costs.cost(kind, metric="loss")) for kind in costs.kinds},
    }
