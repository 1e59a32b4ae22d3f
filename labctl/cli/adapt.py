"""``labctl adapt``: a model that was trained for a computer, made fit for a bench."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.completing import calibration_names
from labctl.cli.handler import CALIBRATION, RUNS, TOKENS, RunsOption, SeedOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.studies.adapt import Adaptation
    from simulation.benches.imported import Imported
    from simulation.light.optics import Optics
    from simulation.training.adapt import AdaptConfig

COLUMNS = "run as", "perplexity", "× digital"


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(adapt)


@dataclass(frozen=True)
class BenchOptions:
    """The light in the loop."""

    calibration: Annotated[
        str,
        typer.Option(
            "--calibration",
            metavar="CALIB",
            help=f"{CALIBRATION}; or a preset (labctl presets).",
            autocompletion=calibration_names,
        ),
    ]
    photons: Annotated[
        float | None,
        typer.Option(
            "--photons-per-mac",
            metavar="N",
            help="At the weight plane per MAC and pass; the bench's own light if left out.",
        ),
    ] = None
    clip: Annotated[
        float | None,
        typer.Option(
            "--clip",
            min=50.0,
            max=100.0,
            help="Percentile of weights and of attention's second operands that full scale stands for; the bench's.",
        ),
    ] = None
    qat: Annotated[
        bool,
        typer.Option("--qat", help="Quantisation-aware: inputs clipped, outputs clipped and rounded to 8 bits, too."),
    ] = False


@dataclass(frozen=True)
class MoveOptions:
    """What moves, and how far."""

    full: Annotated[bool, typer.Option("--full", help="Move every weight, instead of corrections of low rank.")] = False
    rank: Annotated[int, typer.Option("--rank", min=1, help="Of the corrections (LoRA).")] = 16
    rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="At its peak; 0.0015, or 0.0005 with --full, if left out."),
    ] = None
    text_share: Annotated[
        float,
        typer.Option(
            "--text-loss",
            min=0.0,
            max=1.0,
            help="Part of the loss that is the text's own; the rest draws the model towards what it was.",
        ),
    ] = 0.0


@dataclass(frozen=True)
class ReadOptions:
    """What is read."""

    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            help="What it learns from, all but the last tenth; repeatable; Python's documentation if left out.",
        ),
    ] = None
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="Tokens to learn from.")] = 200_000
    context: Annotated[int, typer.Option("--context", min=2, help="Tokens of a window; at most the model's.")] = 256
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in each step.")] = 4
    score: Annotated[int, typer.Option("--score", min=2, help="Held-out tokens to compare on.")] = TOKENS
    evaluate_every: Annotated[
        int,
        typer.Option("--evaluate-every", min=1, help="Steps between held-out evaluations; each is a place to resume."),
    ] = 50


def adapt(
    lab: Lab,
    *,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A checkpoint, a folder, a GGUF or llama2.c file, or a hub name.")
    ],
    bench: BenchOptions,
    moves: MoveOptions,
    reads: ReadOptions,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder for the adapted model.")],
    seed: SeedOption = 0,
    runs: RunsOption = RUNS,
) -> None:
    """Adapt a trained model to a bench. A command that was stopped goes on where it was.

    What the model answers in light is drawn towards what it answered digitally. The folder holds an ordinary model, a
    page with figures, and adaptation.json.
    """
    from labctl.cli.train_options import teller
    from labctl.studies.adapt import adapt_to, read_corpus, require_free, state_path
    from simulation.models.loading import load_language

    require_free(output)
    machine = _machine(bench, runs)
    language = load_language(model)
    config = _config(bench, moves, reads, language.context, seed)
    corpus = read_corpus(language.encode, reads.text or [])
    if state_path(output).exists():
        lab.console.say(f"going on with the unfinished adaptation of {output}")
    with lab.console.progress(f"adapting {language.name}", config.steps) as bar:
        found = adapt_to(
            output,
            model,
            language,
            machine,
            corpus,
            config,
            score_tokens=reads.score,
            progress=teller(lab, bar, "held-out in light"),
            finish=_write_page,
        )
    if not lab.console.json_mode:
        lab.console.say(in_words(found))
        lab.console.table(COLUMNS, _rows(found))
    light = "" if found.photons_per_mac is None else f" --photons-per-mac {found.photons_per_mac:g}"
    hint = f"{output / 'report.html'}   ·   next: labctl simulate {bench.calibration} {found.saved}{light}"
    lab.console.result({"adaptation": found}, hint)


def _write_page(folder: Path, found: Adaptation) -> None:
    from labctl.report.adaptation import write_adaptation_page

    write_adaptation_page(folder / "report.html", in_words(found), found, COLUMNS, _rows(found))


def in_words(found: Adaptation) -> str:
    """What was adapted to what, and what was compared on which text."""
    light = "its own light" if found.photons_per_mac is None else f"{found.photons_per_mac:g} photons per MAC and pass"
    return (
        f"{found.model} adapted to {found.machine} at {light}: {found.moved:,} of {found.parameters:,} numbers moved "
        f"with {found.tokens_learned:,} tokens; compared on {found.tokens_scored:,} tokens of "
        f"{', '.join(found.texts)} that it did not learn from"
    )


def _machine(bench: BenchOptions, runs: Path) -> Optics | Imported:
    from dataclasses import replace

    from labctl.studies.simulate import any_machine_of, light_levels
    from simulation.benches.opening import described

    if bench.photons is not None:
        light_levels([str(bench.photons)])
    machine = described(any_machine_of(bench.calibration, runs))
    return machine if bench.clip is None else replace(machine, clip=(bench.clip, bench.clip))


def _config(bench: BenchOptions, moves: MoveOptions, reads: ReadOptions, context: int, seed: int) -> AdaptConfig:
    from simulation.training.adapt import AdaptConfig

    return AdaptConfig(
        photons_per_mac=bench.photons,
        rank=None if moves.full else moves.rank,
        quantise=bench.qat,
        text_share=moves.text_share,
        tokens=reads.tokens,
        batch=reads.batch,
        context=min(reads.context, context),
        learning_rate=moves.rate,
        seed=seed,
        evaluate_every=reads.evaluate_every,
        score_tokens=min(reads.score, 1024),
    )


def _rows(found: Adaptation) -> list[tuple[str, str, str]]:
    return [
        (score.run_as, _with(score.ppl, score.stderr), _with(score.times_digital, score.times_stderr))
        for score in found.scores
    ]


def _with(value: float, stderr: float | None) -> str:
    from labctl.summary import rounded, with_error

    return with_error(value, stderr) if stderr else rounded(value, 4 if value < 1e4 else 2)
