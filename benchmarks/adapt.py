"""How far adapting brings a model that is bad in light: perplexity against steps, and against light before and after.

Two models under the preset ``paper``: stories260K of llama2.c with a text of short stories (``--stories FOLDER``), and
the widest model that ships with the suite. Each is adapted at one light level by the function of `labctl adapt`, with
corrections of low rank, and then scored at others. What lies in ``--out`` is not computed again: a benchmark that was
stopped goes on where it was.

    python benchmarks/adapt.py --stories ../shared/data [--out adapted] [--json] [--quick]
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from _common import Figure, figure, parser, show
from matplotlib.figure import Figure as Drawing

from labctl.archive.atomic import atomic_write_json
from labctl.resources import shipped_family
from labctl.studies.adapt import RECORD, adapt_to, read_corpus
from simulation import load_language, opticalize, perplexity
from simulation.light.optics import optics
from simulation.training.adapt import AdaptConfig
from simulation.training.train import Progress

GOAL = 1.5  # × digital
LEVELS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 10_000.0)


@dataclass(frozen=True)
class Case:
    """A model, the text that it is adapted with, and how."""

    name: str
    model: Path
    text: Path | None
    config: AdaptConfig
    score_tokens: int


def cases(stories: Path | None, quick: bool) -> list[Case]:
    """Those whose files are at hand."""
    found = []
    if stories is not None:
        config = AdaptConfig(photons_per_mac=1000.0, tokens=400_000, evaluate_every=40)
        model, text = stories / "models" / "stories260K.bin", stories / "text" / "tinystories-niklas6.txt"
        found.append(Case("stories260K", model, text, config, 4096))
    widest = next(path for path in shipped_family() if path.stem.endswith("d256"))
    config = AdaptConfig(photons_per_mac=3.0, tokens=80_000, context=128, evaluate_every=30, learning_rate=2e-3)
    found.append(Case("d256", widest, None, config, 2048))
    if quick:
        return [replace(case, config=replace(case.config, tokens=2000), score_tokens=512) for case in found]
    return found


def tell(case: Case, step: Progress) -> None:
    """A line for each evaluation, at once: it may be read while the rest is computed."""
    if step.heldout_nats is not None:
        print(f"{case.name} {step.step}/{step.steps}: {step.heldout_nats:.4f} nats/token in light", flush=True)


def sweep(case: Case, out: Path) -> dict[str, list[list[float]]]:
    """``[photons per MAC, perplexity, its standard error]`` at every level, of the model before and after."""
    file = out / f"{case.name}-levels.json"
    found: dict[str, list[list[float]]] = json.loads(file.read_text()) if file.exists() else {"before": [], "after": []}
    saved = json.loads((out / case.name / RECORD).read_text())["saved"]
    for when, source in (("before", case.model), ("after", Path(saved))):
        language = load_language(source)
        heldout = read_corpus(language.encode, [case.text] if case.text else []).heldout[: case.score_tokens + 1]
        for level in LEVELS[len(found[when]) :]:
            optical = opticalize(language.model, "paper", photons_per_mac=level, seed=2)
            score = perplexity(optical, heldout, context=case.config.context)
            found[when].append([level, score.ppl, score.ppl * score.stderr])
            atomic_write_json(file, found)
            print(f"{case.name} {when}: {score.ppl:.4g} at {level:g} photons per MAC", flush=True)
    return found


def limits(case: Case, out: Path) -> dict[str, float]:
    """Perplexity of the adapted model digitally, on the preset, and without one of its errors at a time."""
    file = out / f"{case.name}-limits.json"
    if file.exists():
        kept: dict[str, float] = json.loads(file.read_text())
        return kept
    language = load_language(json.loads((out / case.name / RECORD).read_text())["saved"])
    heldout = read_corpus(language.encode, [case.text] if case.text else []).heldout[: case.score_tokens + 1]
    bench, light = optics("paper"), case.config.photons_per_mac
    steady = replace(bench, spread=(0.0, 0.0))
    benches = {
        "all of it": (bench, light),
        "without shot noise": (bench, None),
        "without reading error": (steady, light),
        "without either": (steady, None),
        "without clipping": (replace(bench, clip=(100.0, 100.0)), light),
    }
    found = {"digital": perplexity(language.model, heldout, context=case.config.context).ppl}
    for name, (machine, photons) in benches.items():
        optical = opticalize(language.model, machine, photons_per_mac=photons, seed=2)
        found[name] = perplexity(optical, heldout, context=case.config.context).ppl
    atomic_write_json(file, found)
    return found


def draw(case: Case, out: Path, levels: dict[str, list[list[float]]]) -> None:
    """Perplexity against steps and against light."""
    record = json.loads((out / case.name / RECORD).read_text())
    drawing = Drawing(figsize=(8.5, 3.4), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=False)
    digital = record["scores"][0]["ppl"]
    left.plot([row[0] for row in record["curve"]], [math.exp(row[2]) for row in record["curve"]], "o-")
    left.set(xlabel="steps", ylabel="held-out perplexity in light", title=f"{case.name}, 1024 tokens")
    for when, rows in levels.items():
        light, ppl, stderr = zip(*rows, strict=True)
        right.errorbar(light, ppl, stderr, fmt="o-", label=when, capsize=2)
    right.axhline(digital, ls="--", lw=1, color="gray", label="digital")
    right.axhline(GOAL * digital, ls=":", lw=1, color="gray", label=f"{GOAL} × digital")
    right.axvline(record["photons_per_mac"], ls=":", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="photons per MAC and pass", ylabel="held-out perplexity")
    right.legend(frameon=False, fontsize=8)
    drawing.savefig(out / f"{case.name}.png", dpi=130)


def measure(stories: Path | None, out: Path, quick: bool) -> list[Figure]:
    """Adapt, score, draw."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    for case in cases(stories, quick):
        if not (out / case.name / RECORD).exists():
            language = load_language(case.model)
            corpus = read_corpus(language.encode, [case.text] if case.text else [])
            adapt_to(
                out / case.name,
                str(case.model),
                language,
                optics("paper"),
                corpus,
                case.config,
                score_tokens=case.score_tokens,
                progress=partial(tell, case),
            )
        draw(case, out, sweep(case, out))
        scores = json.loads((out / case.name / RECORD).read_text())["scores"]
        for name, value in limits(case, out).items():
            figures.append(figure(f"{case.name} adapted, {name}", value / scores[0]["ppl"], "× digital"))
        for score in scores[1:3]:
            name = f"{case.name}, {score['run_as']}, {case.config.photons_per_mac:g} photons"
            times = score["times_digital"]
            goal, reached = (f"≤ {GOAL}", times <= GOAL) if score["run_as"].endswith("after") else ("", None)
            figures.append(figure(name, times, "× digital", goal, reached))
            figures.append(figure(f"{name}: standard error", score["times_stderr"] or float("nan"), "× digital"))
    return figures


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--stories", type=Path, help="folder with models/stories260K.bin and text/*.txt")
    arguments.add_argument("--out", type=Path, default=Path("adapted"), help="what was computed, and the figures")
    given = arguments.parse_args()
    show("adapt", lambda: measure(given.stories, given.out, given.quick), given.json)


if __name__ == "__main__":
    main()
