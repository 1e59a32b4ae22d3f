"""Photons against width: sweep every model of a family, find what each needs, fit the power law."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.errors import BadOperands
from calibration.frames.products import ProductGroup
from labctl.archive.atomic import storage
from labctl.errors import UsageError
from labctl.studies.second_order import SecondOrder, Subject, compare, second_order, why_not
from labctl.studies.simulate import TextTokens, evaluation_text, light_levels
from labctl.studies.sweep import Compute, sweep
from simulation.benches.opening import Source, described
from simulation.conversion.convert import heads_of
from simulation.conversion.quantise import clip_scale
from simulation.evaluation.sampling import sample_products
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import Product
from simulation.models.language import Language
from simulation.models.loading import language_of, load_language
from simulation.models.text import load_texts
from simulation.scaling.documents import documents_of, held_out_documents, stream_of
from simulation.scaling.evaluate import Material, Reader, file_digest, model_digest
from simulation.scaling.fingerprint import code_version
from simulation.scaling.kept import ExpansionStore
from simulation.scaling.operands import ENCODINGS, photons_for_error, random_photons
from simulation.scaling.points import DIGITAL, INT8, Point, PointStore, Windows
from simulation.scaling.powerlaw import PowerLaw, power_law
from simulation.scaling.requirement import (
    REFERENCES,
    Reference,
    Requirement,
    Resamples,
    Sweep,
    requirement,
    resample,
)

UNIT = "photons at the weight plane per MAC and pass"
LEVELS = tuple(float(f"{10 ** (i / 4):.3g}") for i in range(17))
"""Light levels of a sweep: 1 to 10,000 photons, four to the decade."""
TOLERANCES = (0.01, 0.05)
DRAWS = 1000
ERROR = 0.05
"""Relative rms error of one product, for the second route to the exponent."""
PER_LAYER, SEQUENCES = 32, 8

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """One model of the family, with the text in its tokens, and the document of each window of it."""

    path: Path
    sha256: str
    language: Language
    text: TextTokens
    documents: NDArray[np.int64] | None
    record: Mapping[str, Any]

    @property
    def width(self) -> int:
        return self.language.width

    @property
    def reads(self) -> tuple[list[int], int]:
        """Tokens, and how many of them to a window."""
        return self.text.ids, self.language.context

    @property
    def reads_words(self) -> str:
        """The same in words."""
        tokens = hashlib.sha256(np.array(self.text.ids, np.int64).tobytes()).hexdigest()[:8]
        return (
            f"{len(self.text.ids) - 1} tokens of {self.language.vocabulary} (sha256 {tokens}…), "
            f"windows of {self.language.context}"
        )

    @property
    def trained_for(self) -> float | None:
        """Tokens of training for each parameter, where that is known."""
        seen, parameters = self.record.get("tokens_seen"), self.record.get("parameters")
        return float(f"{seen / parameters:.3g}") if seen and parameters else None

    @property
    def subject(self) -> Subject:
        """What is expanded."""
        return Subject(self.width, self.sha256, self.language.model, self.text.ids, self.language.context)


@dataclass(frozen=True)
class Plan:
    """What is swept.

    Attributes
    ----------
    members
        By width.
    bench
        A calibration of a bench that labctl drives or of an import, or the name of a preset or machine.
    photons
        Ascending; at the weight plane, per MAC and pass.
    seeds
        Of the noise; the same ones at every level, so that levels differ by light and not by luck.
    tokens
        Scored by every model.
    tolerances
        Of the perplexity above the digital model's.
    """

    members: tuple[Member, ...]
    bench: Source
    photons: tuple[float, ...]
    seeds: tuple[int, ...]
    tokens: int
    tolerances: tuple[float, ...]

    @property
    def machine(self) -> str:
        """Id of the calibration, or the preset."""
        return described(self.bench).name

    def points(self, member: Member) -> Iterator[Point]:
        """Float, 8 bit, then every level with every seed."""
        runs: list[tuple[str, float | None, int]] = [(DIGITAL, None, 0), (INT8, None, 0)]
        runs += [(self.machine, photons, seed) for photons, seed in product(self.photons, self.seeds)]
        text = hashlib.sha256(np.array(member.text.ids, np.int64).tobytes()).hexdigest()
        context, code = member.language.context, code_version()
        for machine, photons, seed in runs:
            yield Point(member.sha256, machine, photons, seed, text, self.tokens, context, code)

    def material(self) -> Material:
        """What the workers need."""
        readers = {member.sha256: Reader.of(member.language.model, member.text.ids) for member in self.members}
        return Material(readers, self.bench)


@dataclass(frozen=True)
class Law:
    """A power law of the requirement against one digital model at one tolerance, or why there is none."""

    reference: Reference
    tolerance: float
    law: PowerLaw | None
    reason: str = ""


@dataclass(frozen=True)
class Route:
    """Photons for a relative error of single products, by width, and their power law."""

    operands: str
    encoding: str
    photons: dict[int, float]
    law: PowerLaw


@dataclass(frozen=True)
class Scaling:
    """Everything that a sweep of a family says; without a second order where the bench has other noise than that."""

    plan: Plan
    sweeps: tuple[Sweep, ...]
    bands: tuple[tuple[Float, Float], ...]
    requirements: tuple[Requirement, ...]
    laws: tuple[Law, ...]
    routes: tuple[Route, ...]
    second_order: SecondOrder | None
    computed: int
    reused: int

    def needs(self, law: Law) -> list[Requirement]:
        """What a law was fitted to, by width."""
        return [r for r in self.requirements if (r.reference, r.tolerance) == (law.reference, law.tolerance)]

    def document(self) -> dict[str, Any]:
        """JSON: every number of the report."""
        return {
            "schema": "labctl.scaling/1",
            "machine": self.plan.machine,
            "text": self.plan.members[0].text.name,
            "tokens": int(self.sweeps[0].tokens.sum()),
            "windows": len(self.sweeps[0].tokens),
            "documents": None if (own := self.sweeps[0].documents) is None else len(np.unique(own)),
            "noise_seeds": len(self.plan.seeds),
            "bootstrap_draws": DRAWS,
            "code": code_version(),
            "unit": UNIT,
            "points": {"computed": self.computed, "reused": self.reused},
            "widths": [
                self._width(member, sweep, band)
                for member, sweep, band in zip(self.plan.members, self.sweeps, self.bands, strict=True)
            ],
            "laws": [
                {
                    "reference": law.reference,
                    "tolerance": law.tolerance,
                    "reason": law.reason,
                    **({} if law.law is None else vars(law.law)),
                }
                for law in self.laws
            ],
            "operands": [
                {
                    "operands": route.operands,
                    "encoding": route.encoding,
                    "error": ERROR,
                    "photons": route.photons,
                    "exponent": route.law.exponent,
                    "scatter": route.law.scatter,
                }
                for route in self.routes
            ],
            "second_order": None if self.second_order is None else self.second_order.document(),
        }

    def _width(self, member: Member, found: Sweep, band: tuple[Float, Float]) -> dict[str, Any]:
        needs = [r for r in self.requirements if r.width == member.width]
        return {
            "width": member.width,
            "model": member.path.name,
            "sha256": member.sha256,
            "trained_on_tokens": member.record.get("tokens_seen"),
            "digital": found.reference("digital"),
            "int8": found.reference(),
            "curve": [
                {"photons_per_mac": n, "perplexity": p, "low": low, "high": high}
                for n, p, low, high in zip(found.photons, found.perplexity, *band, strict=True)
            ],
            "requirements": [
                {
                    "reference": r.reference,
                    "tolerance": r.tolerance,
                    "photons_per_mac": r.photons,
                    "low": r.low,
                    "high": r.high,
                    "reason": r.reason,
                }
                for r in needs
            ],
        }


def sweep_levels(stated: Sequence[str]) -> tuple[float, ...]:
    """Light levels of a sweep, `LEVELS` if none are stated.

    Raises
    ------
    UsageError
        For a level that is not a positive number, or fewer than three.
    """
    levels = light_levels(stated) or LEVELS
    if len(levels) < 3:
        raise UsageError(
            "a sweep needs light levels",
            expected="at least three",
            seen=", ".join(f"{level:g}" for level in levels),
            hint="--photons-per-mac 10,100,1000",
        )
    return levels


def tolerated(tolerances: Sequence[float] | None) -> tuple[float, ...]:
    """Ascending, each once; `TOLERANCES` if none are named.

    Raises
    ------
    UsageError
        For a tolerance that is not a positive number.
    """
    found = tuple(sorted(set(tolerances or TOLERANCES)))
    if not all(0 < tolerance < float("inf") for tolerance in found):
        raise UsageError("a tolerance is a positive share", seen=str(found), hint="--tolerance 0.01")
    return found


def load_members(paths: Sequence[Path], text: Path | None, tokens: int) -> tuple[Member, ...]:
    """Models by width, each with the text in its tokens.

    Raises
    ------
    UsageError
        For two models of one width.
    BadOperands
        When they do not read the text in the same tokens and windows: what is drawn for one is drawn for all.
    ArtefactError
        For a model that is damaged, does not fill its checkpoint, or holds a NaN.
    """
    members = []
    for path in paths:
        language, sha256, record = _opened(path)
        members.append(Member(path, sha256, language, *_read(language, text, tokens), record))
    members.sort(key=lambda member: member.width)
    widths = [member.width for member in members]
    if len(set(widths)) < len(widths):
        raise UsageError("two models of the same width", seen=", ".join(map(str, widths)), hint="name each width once")
    for member in members[1:]:
        if member.reads != members[0].reads:
            raise BadOperands(
                "the models do not read the text in the same tokens",
                device=member.path.name,
                expected=f"as {members[0].path.name}: {members[0].reads_words}",
                seen=member.reads_words,
                hint="train the widths together: labctl train --family FOLDER",
            )
    return tuple(members)


def _read(language: Language, text: Path | None, tokens: int) -> tuple[TextTokens, NDArray[np.int64] | None]:
    """As much of every document as the tokens allow; the beginning of a text whose documents are too short for that."""
    whole = evaluation_text(language.encode, text, tokens)
    documents = held_out_documents() if text is None else documents_of(load_texts([text])[0])
    try:
        ids, numbers = stream_of(documents, language.encode, language.context, tokens)
    except BadOperands:
        return whole, None
    return TextTokens(whole.name, ids), numbers


def _opened(path: Path) -> tuple[Language, str, Mapping[str, Any]]:
    """A model, its digest, and the record of its training where it is ours."""
    if path.suffix != ".safetensors":
        language = load_language(path if path.exists() else str(path))
        return language, model_digest(language.model), {}
    checkpoint = load_checkpoint(path)
    with storage(path, "reading a checkpoint"):
        return language_of(path.stem, checkpoint), file_digest(path), checkpoint.record


def scale(plan: Plan, store: PointStore, compute: Compute, advance: Callable[[int], None]) -> Scaling:
    """Sweep, or read what was swept before; then requirement, power law, second order and the law of the operands.

    ``advance`` is told of every point, and of every expansion.
    """
    wanted = {member.width: list(plan.points(member)) for member in plan.members}
    everything = [point for member in reversed(plan.members) for point in wanted[member.width]]  # the slow ones first
    known, computed = sweep(plan.material(), everything, store, compute, advance)
    sweeps = tuple(assemble(plan, member, wanted[member.width], known) for member in plan.members)
    draws = [
        resample(found, DRAWS, np.random.default_rng(0), np.random.default_rng((1, found.width))) for found in sweeps
    ]
    needs = [
        requirement(found, tolerance, drawn, reference)
        for reference, tolerance in product(REFERENCES, plan.tolerances)
        for found, drawn in zip(sweeps, draws, strict=True)
    ]
    return Scaling(
        plan=plan,
        sweeps=sweeps,
        bands=tuple(drawn.interval(drawn.perplexity(found)) for found, drawn in zip(sweeps, draws, strict=True)),
        requirements=tuple(needs),
        laws=tuple(_laws(needs)),
        routes=tuple(_routes(plan)),
        second_order=_second_order(plan, sweeps, draws, ExpansionStore(store.folder), advance),
        computed=computed,
        reused=len(everything) - computed,
    )


def _second_order(
    plan: Plan,
    sweeps: Sequence[Sweep],
    draws: Sequence[Resamples],
    store: ExpansionStore,
    advance: Callable[[int], None],
) -> SecondOrder | None:
    bench = described(plan.bench)
    if why_not(bench):
        advance(len(plan.members))
        return None
    expansions = second_order([member.subject for member in plan.members], bench, plan.tokens, store, advance)
    return compare(bench, expansions, sweeps, draws)


def assemble(plan: Plan, member: Member, points: Sequence[Point], known: dict[Point, Windows]) -> Sweep:
    digital, int8, *lit = (known[point] for point in points)
    nats = np.stack([windows.nats for windows in lit]).reshape(len(plan.photons), len(plan.seeds), -1)
    return Sweep(member.width, np.array(plan.photons), nats, int8.nats, digital.nats, digital.tokens, member.documents)


def _laws(needs: Sequence[Requirement]) -> Iterator[Law]:
    """One for every reference and tolerance, in their order."""
    for reference, tolerance in dict.fromkeys((r.reference, r.tolerance) for r in needs):
        same = [r for r in needs if (r.reference, r.tolerance) == (reference, tolerance)]
        known = [r for r in same if r.photons is not None]
        missing = "; ".join(f"d = {r.width}: {r.reason}" for r in same if r.photons is None)
        if len(known) < 2:
            yield Law(reference, tolerance, None, missing or "one width has no exponent")
            continue
        widths, photons = np.array([r.width for r in known], float), np.array([r.photons for r in known], float)
        law = power_law(widths, photons, np.stack([r.draws for r in known], axis=1))
        yield Law(reference, tolerance, law, missing)


def _routes(plan: Plan) -> Iterator[Route]:
    """The exponent from operands alone: normal numbers, then what the models really multiply, by kind of product."""
    widths, clip = [member.width for member in plan.members], described(plan.bench).clip
    if len(widths) < 2:
        return
    for encoding in ENCODINGS:
        photons = {width: random_photons(width, encoding, ERROR, min(clip[0], _largest(width))) for width in widths}
        yield _route("normal", encoding, photons)
    real: dict[str, dict[str, dict[int, float]]] = {}
    for member in plan.members:
        model, context = member.language.model, member.language.context
        windows = _windows(member.text.ids, context)
        heads = set(heads_of(model))
        names = [name for name, module in model.named_modules() if name not in heads and _multiplies(name, module)]
        if not names:
            continue
        groups = sample_products(model, windows, layers=names, per_stratum=min(PER_LAYER, sum(map(len, windows))))
        for kind, encoding in product(("linear", "qk", "av"), ENCODINGS):
            same = [_rescaled(group, clip[kind != "linear"]) for group in groups if group.operation == kind]
            if same:
                real.setdefault(kind, {}).setdefault(encoding, {})[member.width] = photons_for_error(
                    same, encoding, ERROR
                )
    for kind, by_encoding in real.items():
        for name, photons in by_encoding.items():
            if len(photons) == len(widths):  # of some models products of attention are no modules of their own
                yield _route(f"{kind} of the models", name, photons)


def _windows(ids: list[int], context: int) -> list[list[int]]:
    """Whole windows of a text: a short one at its end would have few tokens to draw from; a short text is one."""
    return [ids[i : i + context] for i in range(0, len(ids) - context + 1, context)][:SEQUENCES] or [ids]


def _largest(width: int) -> float:
    """Percentile that stands for the largest of ``width²`` weights."""
    return 100 * (1 - 1 / width**2)


def _rescaled(group: ProductGroup, percentile: float) -> ProductGroup:
    """On the full scale of the machine that is swept."""
    return replace(group, weight_scale=float(clip_scale(torch.from_numpy(group.weight), percentile)))


def _multiplies(name: str, module: nn.Module) -> bool:
    return bool(name) and isinstance(module, nn.Linear | Product)


def _route(operands: str, encoding: str, photons: dict[int, float]) -> Route:
    law = power_law(np.array(list(photons), float), np.array(list(photons.values())))
    return Route(operands, encoding, photons, law)
