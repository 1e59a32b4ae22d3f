"""``labctl train``: a model, a family of widths, quantisation-aware, or with the bench in the loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.handler import RUNS, RunsOption, SetOption, command
from labctl.lab import Lab

if TYPE_CHECKING:
    from simulation.training.forward import Forward


def register(app: typer.Typer) -> None:
    """Add the command to the top of the command line."""
    command(app)(train)


def train(
    lab: Lab,
    output: Annotated[
        Path, typer.Argument(help="The checkpoint, *.safetensors, with *.json beside it; a folder for several widths.")
    ],
    text: Annotated[
        list[Path] | None, typer.Option("--text", help="A text to train on beside Python's documentation; repeatable.")
    ] = None,
    width: Annotated[
        str | None, typer.Option("--width", metavar="D[,D…]", help="Width of the model, or several; 128 if left out.")
    ] = None,
    family: Annotated[bool, typer.Option("--family", help="Widths 32, 64, 128 and 256, all else equal.")] = False,
    blocks: Annotated[int | None, typer.Option("--blocks", min=1, help="Transformer blocks; 4 if left out.")] = None,
    heads: Annotated[int | None, typer.Option("--heads", min=1, help="Attention heads; 4 if left out.")] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="Tokens the model sees; 128 if left out.")
    ] = None,
    vocabulary: Annotated[
        int | None, typer.Option("--vocabulary", min=257, help="Tokens of the BPE; 1024 if left out.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps; 5600 if left out, 560 with --start.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in each step.")] = 16,
    evaluate_every: Annotated[
        int,
        typer.Option("--evaluate-every", min=1, help="Steps between held-out evaluations; each is a place to resume."),
    ] = 200,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Products in bfloat16 while training: faster where the processor has it.")
    ] = False,
    start: Annotated[
        Path | None, typer.Option("--start", help="Go on from this checkpoint; its shape and tokenizer stay.")
    ] = None,
    qat: Annotated[
        bool, typer.Option("--qat", help="Quantisation-aware: 256 levels for inputs, weights and outputs.")
    ] = False,
    running: Annotated[
        bool, typer.Option("--running-ranges", help="With --qat: running extremes instead of one calibration batch.")
    ] = False,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="CALIB",
            help="Noise-aware: light goes forward, the model's gradient back; a file, or a preset: ideal, paper.",
        ),
    ] = None,
    photons: Annotated[
        float | None,
        typer.Option("--photons-per-mac", help="Of --calibration: at the weight plane, per MAC and pass."),
    ] = None,
    on_bench: Annotated[
        str | None, typer.Option("--on-bench", metavar="LAYER", help="Measure this layer's products on the bench.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random here.")] = 0,
    set_: SetOption = None,
    runs: RunsOption = RUNS,
) -> None:
    """Train GPT-2-like models from text; a command that was stopped goes on where it was.

    ReLU6 and pre-LayerNorm as in the paper; seed, texts and loss curve are written beside each checkpoint.
    """
    from labctl.errors import UsageError
    from labctl.studies.train import FAMILY, recipe_from, state_path, targets, train_to
    from simulation.models.checkpoint import load_checkpoint
    from simulation.models.text import load_texts
    from simulation.training.recipe import TrainingConfig
    from simulation.training.train import Progress

    asked = {"--qat": qat, "--calibration": calibration, "--on-bench": on_bench}
    special = [name for name, value in asked.items() if value]
    if special and start is None:
        raise UsageError(
            "quantisation and noise come after a training in float",
            expected="--start CHECKPOINT",
            seen="no checkpoint to start from",
            hint=f"labctl train float.safetensors, then labctl train {output} --start float.safetensors",
        )
    if len(special) > 1:
        raise UsageError(f"{' and '.join(special)} are separate trainings", hint="one first, then --start its result")
    shape = {"blocks": blocks, "heads": heads, "context": context, "vocabulary": vocabulary}
    given = {name: value for name, value in {**shape, "steps": steps}.items() if value is not None}
    begun = None if start is None else load_checkpoint(start)
    if begun is not None:
        if width or family or any(value is not None for value in shape.values()):
            raise UsageError("the shape comes from the checkpoint", seen="--start with a shape", hint="leave it out")
        configs = [recipe_from(begun, steps=steps, batch=batch, seed=seed, evaluate_every=evaluate_every)]
    else:
        widths = FAMILY if family else _widths(width or "128")
        common = {**given, "batch": batch, "seed": seed, "evaluate_every": evaluate_every}
        configs = [TrainingConfig(width=d, precision="bfloat16" if bfloat16 else "float32", **common) for d in widths]
    files = targets(output, [config.width for config in configs])
    texts = load_texts(text or [])
    records = {}
    for config in configs:
        file = files[config.width]
        if state_path(file).exists():
            lab.console.say(f"going on with the unfinished training of {file}")
        with (
            _forward(lab, qat, running, calibration, photons, on_bench, set_, runs) as forward,
            lab.console.progress(f"training d = {config.width}", config.steps) as bar,
        ):
            done = 0

            def advance(step: Progress) -> None:
                nonlocal done
                bar.advance(step.step - done, f"{step.train_nats:.2f} nats/token")
                done = step.step
                if step.heldout_nats is not None:
                    lab.console.say(f"  step {step.step}: held-out {step.heldout_nats:.3f} nats/token")

            records[file] = train_to(file, config, texts, start=begun, forward=forward, progress=advance)
    models = [
        {"path": str(file), "width": record["config"]["width"], **{k: record[k] for k in ("heldout", "seconds")}}
        for file, record in records.items()
    ]
    lines = [f"{m['path']}: held-out perplexity {m['heldout']['ppl']:.2f}" for m in models]
    lab.console.result({"models": models}, "\n".join(lines) + f"   ·   next: labctl sample {models[-1]['path']}")


def _widths(text: str) -> list[int]:
    from labctl.errors import UsageError

    try:
        widths = sorted({int(part) for part in text.split(",")})
    except ValueError:
        widths = []
    if not widths or widths[0] < 1:
        raise UsageError("a width is a positive whole number", seen=text, hint="--width 32,64,128")
    return widths


@contextmanager
def _forward(
    lab: Lab,
    qat: bool,
    running: bool,
    calibration: str | None,
    photons: float | None,
    layer: str | None,
    overrides: list[str] | None,
    runs: Path,
) -> Iterator[Forward | None]:
    """What computes the products; a bench stays open as long as the training."""
    if qat:
        from simulation.training.qat import QuantisedForward

        yield QuantisedForward("running" if running else "batch")
    elif calibration is not None:
        from labctl.studies.simulate import machine_of
        from simulation.training.physical import CalibratedForward

        yield CalibratedForward(machine_of(calibration), photons)
    elif layer is not None:
        from labctl.studies.bench_training import bench_forward

        with bench_forward(lab, lab.station(overrides), runs, layer) as forward:
            yield forward
    else:
        yield None
