"""Optical Transformers (arXiv 2302.10360), figure by figure: computed, kept, and judged."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import simulation.energy
from labctl.archive.atomic import storage
from labctl.durations import in_words
from labctl.lab import Lab
from labctl.resources import data_path, shipped_model
from labctl.studies.alone import alone
from labctl.studies.reproduce import experiment, judge, language, price
from labctl.studies.reproduce.form import Form
from labctl.studies.reproduce.kept import Kept, kept
from labctl.studies.reproduce.verdict import Judged
from labctl.studies.sweep import Compute
from simulation.light import coarse
from simulation.scaling.evaluate import file_digest
from simulation.scaling.fingerprint import code_version
from simulation.training import qat

ARTICLE = "Anderson, Ma, Wang, Wright, McMahon: Optical Transformers, arXiv 2302.10360"


@dataclass(frozen=True)
class Section:
    """One figure of the article.

    Attributes
    ----------
    name, title, what
        For files and links, for a heading, and what is seen.
    part
        Of `Reproduction.parts` that it is drawn from.
    judged
        Claims and verdicts.
    """

    name: str
    title: str
    what: str
    part: str
    judged: tuple[Judged, ...]


@dataclass(frozen=True)
class Reproduction:
    """Everything that was computed, and what it says of the article.

    Attributes
    ----------
    form
        `Form`
    parts
        Numbers by name, as JSON.
    sections
        In the article's order.
    seconds
        By part: that it took to compute, in whichever calls that was.
    seconds_now
        Of them, those of this call.
    """

    form: Form
    parts: dict[str, dict[str, Any]]
    sections: tuple[Section, ...]
    seconds: dict[str, float]
    seconds_now: float

    @property
    def took(self) -> str:
        """How long computing took, and how much of that was now, in words."""
        whole, now = sum(self.seconds.values()), self.seconds_now
        if not now:
            return f"computed before, in {in_words(whole)}"
        return f"computed in {in_words(whole)}" + (f", {in_words(now)} of it now" if now < whole else "")

    def counted(self) -> Counter[str]:
        """How often each verdict was given."""
        return Counter(each.verdict for section in self.sections for each in section.judged)

    def document(self) -> dict[str, Any]:
        """JSON."""
        return {
            "schema": "labctl.reproduction/2",
            "article": ARTICLE,
            "form": self.form.about(),
            "code": code_version(),
            "seconds": sum(self.seconds.values()),
            "seconds_now": self.seconds_now,
            "seconds_by_part": self.seconds,
            "verdicts": dict(self.counted()),
            "figures": [
                {"name": s.name, "title": s.title, "part": s.part, "claims": [asdict(each) for each in s.judged]}
                for s in self.sections
            ],
            "parts": self.parts,
        }


Judge = Callable[[Mapping[str, Any]], Iterable[Judged]]
FIGURES: tuple[tuple[str, str, str, str, Judge], ...] = (
    (
        "experiment",
        "Products on a bench and simulated",
        "Errors of the products that the article measured: second feed-forward layer and Q·Kᵀ, first and last block, "
        "as shares of each product's output range.",
        "experiment",
        judge.experiment,
    ),
    (
        "levels",
        "Perplexity: float, 8 bit, optical",
        "The same held-out text read by each width in float, with 8-bit operands, and in the most light computed on "
        "the article's machine: 8-bit panels, finite extinction, and reading errors that light does not cure.",
        "paper",
        judge.levels,
    ),
    (
        "light",
        "Perplexity against photons",
        "Perplexity of each width over its own with 8 bits, on the article's machine.",
        "paper",
        judge.curves,
    ),
    (
        "law",
        "Photons for the 8-bit level against width",
        "Left: photons per MAC and pass that keep each width within 5 % of 8 bit, shot noise alone, and a 1/d guide. "
        "Right: what shot noise costs by kind of product, to second order.",
        "law",
        judge.law,
    ),
    (
        "breakdown",
        "Where the joules go, by size",
        "Shares of the optical bill of published shapes, components of today: on arrays without limit, and on arrays "
        "that can be bought. The share of light is among them.",
        "price",
        judge.breakdown,
    ),
    (
        "advantage",
        "Advantage against model size, to 10¹⁵ parameters",
        "Digital energy at 300 fJ per MAC over optical energy, in three scenarios; dashed on arrays of 1,024 × 1,024. "
        "Bars are the published claims.",
        "price",
        judge.advantage,
    ),
    (
        "four-bits",
        "Operation with 4 bits",
        "Perplexity over that of 8 digital bits, with few bits for inputs, weights and outputs in light.",
        "bits",
        judge.four_bits,
    ),
)
"""Name, title, what is seen, part, and who judges."""
COMPUTING = experiment, language, coarse, qat
"""Modules that parts depend on beside those that `code_version` follows."""


def reproduce(lab: Lab, form: Form, models: Sequence[Path], folder: Path, compute: Compute) -> Reproduction:
    """Compute every part that is not in ``folder`` yet, and judge.

    Raises
    ------
    RunInUse
        When somebody else computes in the same folder.
    PartFailed
        When the bench did not measure what it was to.
    StorageError
        When something cannot be written.
    """
    with ExitStack() as held:
        with storage(folder, "making a folder"):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(folder, "reproducing an article"))
        found = dict(_parts(lab, form, models, folder, compute))
    parts = {name: each.part for name, each in found.items()}
    sections = tuple(
        Section(name, title, what, part, tuple(judges(parts[part]))) for name, title, what, part, judges in FIGURES
    )
    seconds = {name: each.seconds for name, each in found.items()}
    return Reproduction(form, parts, sections, seconds, sum(each.seconds_now for each in found.values()))


def _parts(lab: Lab, form: Form, models: Sequence[Path], folder: Path, compute: Compute) -> Iterator[tuple[str, Kept]]:
    """In the order in which they are computed: what takes seconds first."""
    home, code = folder / "parts" / form.name, code_version() + _sources(*COMPUTING)
    family = {"models": [file_digest(path) for path in models], "code": code, "tokens": form.tokens}
    levels = len(form.photons) * len(form.seeds), len(form.photons_on_paper) * len(form.seeds)
    energy = sorted(data_path("energy").glob("*"))
    tables = hashlib.sha256(b"".join(path.read_bytes() for path in energy)).hexdigest()

    def told(words: str, total: int, part: Callable[[Callable[[int], None]], dict[str, Any]]) -> Callable[[], Any]:
        def computing() -> dict[str, Any]:
            with lab.console.progress(words, total) as bar:
                return part(bar.advance)

        return computing

    yield (
        "price",
        kept(home, "price", {"tables": tables, "code": _sources(simulation.energy, price)}, price.prices),
    )
    about = {"station": form.station, "per_layer": form.per_layer, "model": file_digest(shipped_model())}
    at = folder / f"bench-{form.name}"
    yield (
        "experiment",
        kept(home, "experiment", about | {"code": code}, lambda: experiment.measured(lab, form, at)),
    )
    sweep = family | {"photons": form.photons_on_paper, "seeds": form.seeds}
    yield "paper", kept(
        home, "paper", sweep,
        told("the article's machine", len(models) * (levels[1] + 2),
             lambda advance: language.on_paper(form, models, folder / "points", compute, advance)),
    )  # fmt: skip
    yield "bits", kept(
        home, "bits", family | {"bits": form.bits, "trained": form.trained_bits},
        told("few bits", len(models), lambda advance: language.few_bits(form, models, folder / "models", advance)),
    )  # fmt: skip
    sweep = family | {"photons": form.photons, "seeds": form.seeds, "tokens": form.tokens_for_law}
    yield "law", kept(
        home, "law", sweep,
        told("shot noise alone", len(models) * (levels[0] + 3),
             lambda advance: language.light(form, models, folder / "points", compute, advance)),
    )  # fmt: skip


def _sources(*modules: ModuleType) -> str:
    """A digest of the files of these modules and packages."""
    files = [
        file
        for module in modules
        for file in (
            sorted(Path(module.__path__[0]).glob("*.py")) if hasattr(module, "__path__") else [module.__file__]
        )
    ]
    return hashlib.sha256(b"".join(Path(str(file)).read_bytes() for file in files)).hexdigest()[:12]
