"""``labctl scaling --arms``: the law of a family, by kind of product and by what its arms vary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.family_law import ArmTrends, FamilyLaw
    from labctl.studies.scaling import Member
    from simulation.benches.opening import Source
    from simulation.scaling.lawfit import Measured, Metric

LAW, NUMBERS = "law.json", "family.json"
VARIED = {"width": "d", "depth": "L", "heads": "d, 4 heads", "qat": "d, quantised", "tokens": "tokens/param."}


@dataclass(frozen=True)
class LawOptions:
    """The arms of a family, and what their models read."""

    arms: Annotated[
        Path | None,
        typer.Option("--arms", metavar="FOLDER", help="Fit a law to what labctl train --arms left here; no sweep."),
    ] = None
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", metavar="TEXT", help="Of --arms: read beside the held-out topics; repeatable."),
    ] = None
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", min=256, help="Of --arms: read by each model, of all documents.")
    ] = 40_000


def show_law(lab: Lab, bench: Source, options: LawOptions, beside: Sequence[Path], output: Path) -> None:
    """Measure, fit, write ``law.json`` and ``family.json``, and print."""
    from labctl.archive.atomic import atomic_write_json, storage
    from labctl.console import plain
    from labctl.studies.arms import checkpoint_path, members_of
    from labctl.studies.family_law import Reading, documents_for, family_law
    from simulation.benches.opening import described
    from simulation.models.text import load_texts
    from simulation.scaling.by_document import DocumentCostStore
    from simulation.scaling.law import save_law

    assert options.arms is not None
    texts = load_texts(options.beside or [])
    store = DocumentCostStore(output / "points")
    reading = Reading(described(bench), documents_for(texts), options.document_tokens, store)
    names = {name for names in members_of(options.arms).values() for name in names}
    there = sum(checkpoint_path(options.arms, name).exists() for name in names)
    with lab.console.progress("measuring what noise costs", there + len(beside)) as bar:
        found = family_law(options.arms, beside, reading, texts, bar.advance)
    document, law = found.document(), output / LAW
    atomic_write_json(output / NUMBERS, plain(document))
    with storage(law, "writing a law"):
        save_law(law, found.law)
    if not lab.console.json_mode:
        _show(lab, found)
    lab.console.result(document, str(law))


def write_law(lab: Lab, bench: Source, members: Sequence[Member], text: Path | None, tokens: int, output: Path) -> None:
    """Write the law in the width alone of models that were swept, or say why there is none."""
    from labctl.archive.atomic import storage
    from labctl.errors import UsageError
    from labctl.studies.family_law import Reading, documents_for, law_of_widths
    from simulation.benches.opening import described
    from simulation.models.text import load_texts
    from simulation.scaling.by_document import DocumentCostStore
    from simulation.scaling.documents import documents_of
    from simulation.scaling.law import save_law

    texts = [] if text is None else load_texts([text])
    documents = documents_for([]) if text is None else documents_of(texts[0])
    reading = Reading(described(bench), documents, tokens, DocumentCostStore(output / "points"))
    try:
        law = law_of_widths([(m.path.stem, m.sha256, m.language, m.trained_for) for m in members], reading, texts)
    except UsageError as error:
        lab.console.say(f"no {LAW}: {error}")
        return
    with storage(output / LAW, "writing a law"):
        save_law(output / LAW, law)


def _show(lab: Lab, found: FamilyLaw) -> None:
    from labctl.studies.family_law import TOLERANCE

    say, table = lab.console.say, lab.console.table
    costs = found.models[0].costs
    say(f"{len(found.models)} models, {sum(costs.tokens):,.0f} tokens of {len(costs.documents)} documents each.")
    say("n photons per MAC cost C/n nats per token; C of the KL divergence:")
    table(("model", "nats", "FFN", "QKVO", "Q·Kᵀ", "att·V", "all", "loss"), [_costs(model) for model in found.models])
    arms = [arm for arm in found.arms if arm.trends]
    if arms:
        say("C goes as a power of what an arm varies; 95 % from seeds, shapes and documents:")
        table(("", *(VARIED[arm.arm] for arm in arms)), _exponents(arms))
        for arm in arms:
            if arm.without:
                left = ", ".join(f"{value:+.2f} without {size:g}" for size, value in arm.without.items())
                say(f"{VARIED[arm.arm]}: {left}")
    for arm in found.arms:
        if arm.reason and not arm.trends:
            say(f"arm {arm.arm}: {arm.reason}")
        if arm.missing:
            say(f"arm {arm.arm}: {len(arm.missing)} of its models not trained yet")
    _show_joint(lab, found)
    if found.quantised:
        ratios = ", ".join(f"{r.part} {r.value:.2f} ({r.low:.2f}–{r.high:.2f})" for r in found.quantised)
        say(f"trained quantised, × the cost in float, {found.quantised[0].pairs} pairs: {ratios}")
    if found.beside:
        say(f"light for {math.expm1(TOLERANCE):.0%} by KL, of models that are no part of the law:")
        rows = [
            (
                b.measured.name,
                f"{b.photons:.3g}",
                f"{b.law.photons:.3g} ({b.law.low:.2g}–{b.law.high:.2g})",
                ", ".join(b.outside) or "–",
            )
            for b in found.beside
        ]
        table(("model", "measured", "by the law", "extrapolated in"), rows)


def _show_joint(lab: Lab, found: FamilyLaw) -> None:
    """All arms together, each exponent with the others held."""
    from simulation.scaling.law import FACTORS

    law = found.law
    names = {"width": "d", "blocks": "L", "head_width": "head width", "tokens_per_parameter": "tokens/param."}
    rows = [
        (_words(term.part), *("assumed" if e.assumed else _power(e.value, e.low, e.high) for e in term.exponents))
        for term in law.terms
    ]
    lab.console.say("all arms together, each exponent with the others held:")
    lab.console.table(("", *(names[factor] for factor in FACTORS)), rows)


def _costs(model: Measured) -> tuple[str, ...]:
    costs = model.costs
    by_kind = {kind: float(costs.cost(kind)) for kind in costs.kinds}
    parts = [f"{by_kind[kind]:.3g}" if kind in by_kind else "–" for kind in ("ffn", "qkvo", "qk", "av")]
    loss = sum(float(costs.cost(kind, metric="loss")) for kind in costs.kinds)
    nats = sum(costs.nats) / sum(costs.tokens)
    return model.name, f"{nats:.2f}", *parts, f"{sum(by_kind.values()):.3g}", f"{loss:.3g}"


def _exponents(arms: Sequence[ArmTrends]) -> list[tuple[str, ...]]:
    rows = []
    wanted: list[tuple[str, Metric, str]] = [(part, "kl", _words(part)) for part in ("ffn", "qkvo", "qk", "av", "all")]
    for part, metric, words in (*wanted, ("all", "loss", "loss, all")):
        cells = []
        for arm in arms:
            trend = next((t for t in arm.trends.get(metric, ()) if t.part == part), None)
            cells.append("–" if trend is None else _power(trend.exponent, trend.low, trend.high))
        rows.append((words, *cells))
    return rows


def _words(part: str) -> str:
    from labctl.studies.second_order import PART_NAMES

    return {str(kind): words for kind, words in PART_NAMES.items()}[part]


def _power(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} ± {(high - low) / 2:.2f}"
