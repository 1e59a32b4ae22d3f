"""``labctl scaling --arms``: the law of a family, by kind of product and by what its arms vary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.family_law import FamilyLaw
    from labctl.studies.scaling import Member
    from simulation.benches.opening import Source

LAW, NUMBERS, PAGE = "law.json", "family.json", "report.html"


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


def show_law(
    lab: Lab, bench: Source, options: LawOptions, beside: Sequence[Path], output: Path, *, report: bool
) -> None:
    """Measure, fit, write ``law.json``, ``family.json`` and perhaps a page, and print."""
    from labctl.archive.atomic import atomic_write_json, storage
    from labctl.console import plain
    from labctl.errors import UsageError
    from labctl.studies.arms import checkpoint_path, members_of
    from labctl.studies.family_law import Reading, documents_for, family_law
    from labctl.studies.second_order import why_not
    from simulation.benches.opening import described
    from simulation.models.text import load_texts
    from simulation.scaling.by_document import DocumentCostStore
    from simulation.scaling.law import save_law

    assert options.arms is not None
    if why := why_not(described(bench)):
        raise UsageError(
            "the law is of what shot noise costs, which is not the noise of this bench",
            device=described(bench).name,
            seen=why,
            hint=f"labctl scaling ideal --arms {options.arms}",
        )
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
    if report:
        from labctl.report.family_law import write_family_page

        write_family_page(output / PAGE, found)
    if not lab.console.json_mode:
        _show(lab, found)
    lab.console.result(document, str(output / PAGE if report else law))


def write_law(lab: Lab, bench: Source, members: Sequence[Member], text: Path | None, tokens: int, output: Path) -> None:
    """Write the law in the width alone of models that were swept, or say why there is none, and leave no older one."""
    from labctl.archive.atomic import storage
    from labctl.errors import UsageError
    from labctl.studies.family_law import Reading, documents_for, law_of_widths
    from labctl.studies.second_order import why_not
    from simulation.benches.opening import described
    from simulation.models.text import load_texts
    from simulation.scaling.by_document import DocumentCostStore
    from simulation.scaling.documents import documents_of
    from simulation.scaling.law import save_law

    if why := why_not(described(bench)):
        _no_law(lab, output, why)
        return
    texts = [] if text is None else load_texts([text])
    documents = documents_for([]) if text is None else documents_of(texts[0])
    reading = Reading(described(bench), documents, tokens, DocumentCostStore(output / "points"))
    stems = Counter(member.path.stem for member in members)
    names = [m.path.stem if stems[m.path.stem] == 1 else f"{m.path.stem} (d = {m.width})" for m in members]
    models = [(name, m.sha256, m.language, m.trained_for) for name, m in zip(names, members, strict=True)]
    try:
        law = law_of_widths(models, reading, texts)
    except UsageError as error:
        _no_law(lab, output, f"{error}: {error.seen}")
        return
    with storage(output / LAW, "writing a law"):
        save_law(output / LAW, law)


def _no_law(lab: Lab, output: Path, why: str) -> None:
    from labctl.archive.atomic import storage

    with storage(output / LAW, "removing a law of other models"):
        (output / LAW).unlink(missing_ok=True)
    lab.console.say(f"no {LAW}: {why}")


def _show(lab: Lab, found: FamilyLaw) -> None:
    from labctl.studies import family_words as words

    say, table = lab.console.say, lab.console.table
    say(words.read_words(found))
    say("n photons per MAC cost C/n nats per token; C of the KL divergence:")
    table(words.COST_COLUMNS, words.cost_rows(found))
    if arms := words.fitted(found):
        say("C goes as a power of what an arm varies; 95 % from seeds, shapes and documents:")
        table(("", *(words.VARIED[arm.arm] for arm in arms)), words.exponent_rows(found))
    for remark in words.remarks(found):
        say(remark)
    say("all arms together, each exponent with the others held:")
    table(words.JOINT_COLUMNS, words.joint_rows(found))
    if found.beside:
        say(words.beside_words())
        table(words.BESIDE_COLUMNS, words.beside_rows(found))
