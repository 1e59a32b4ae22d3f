"""``labctl train --arms``: models that differ in one thing, for a law that says what each thing does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.cli.train_options import ScheduleOptions, ShapeOptions, teller, widths_of
from labctl.lab import Lab

if TYPE_CHECKING:
    from simulation.training.arms import Planned, Recipe
    from simulation.training.train import Progress


@dataclass(frozen=True)
class ArmOptions:
    """Which arms of a family, and how far each model is trained."""

    arms: Annotated[
        str | None,
        typer.Option(
            "--arms", metavar="ARM[,ARM…]", help="Arms of a family: width, depth, heads, qat, tokens; or all."
        ),
    ] = None
    replicas: Annotated[int, typer.Option("--replicas", min=1, help="Of --arms: seeds of training per shape.")] = 3
    tokens_per_parameter: Annotated[
        float, typer.Option("--tokens-per-parameter", min=0.01, help="Of --arms: seen in training, by every model.")
    ] = 20.0


def train_all(
    lab: Lab, folder: Path, options: ArmOptions, shape: ShapeOptions, schedule: ScheduleOptions, texts: Sequence[Path]
) -> None:
    """Train what the folder lacks of the arms, and say what each model reaches."""
    from labctl.studies.arms import asked_arms, train_arms
    from simulation.models.text import load_texts

    recipe = _recipe(options, shape, schedule)
    with ExitStack() as bars:

        def begin(planned: Planned) -> Callable[[Progress], None]:
            bars.close()
            return teller(lab, bars.enter_context(lab.console.progress(planned.name, planned.config.steps)))

        records = train_arms(folder, asked_arms(options.arms or "all"), recipe, load_texts(texts), begin)
    models = [
        {"path": str(folder / f"{name}.safetensors"), "heldout": record["heldout"], "seconds": record["seconds"]}
        for name, record in records.items()
    ]
    lines = [f"{name}: held-out perplexity {record['heldout']['ppl']:.2f}" for name, record in records.items()]
    lab.console.result({"models": models}, "\n".join([*lines, f"next: labctl scaling ideal --arms {folder}"]))


def _recipe(options: ArmOptions, shape: ShapeOptions, schedule: ScheduleOptions) -> Recipe:
    from labctl.errors import UsageError
    from simulation.training.arms import WIDTHS, Recipe

    fixed = {"--steps": schedule.steps, "--blocks": shape.blocks, "--heads": shape.heads, "--family": shape.family}
    if said := [name for name, value in fixed.items() if value]:
        raise UsageError(
            "the arms say this themselves", seen=", ".join(said), hint="--tokens-per-parameter, --width and --replicas"
        )
    return Recipe(
        tokens_per_parameter=options.tokens_per_parameter,
        seeds=tuple(range(options.replicas)),
        widths=tuple(widths_of(shape.width)) if shape.width else WIDTHS,
        vocabulary=shape.vocabulary or Recipe.vocabulary,
        context=shape.context or Recipe.context,
        batch=schedule.batch,
        evaluate_every=schedule.evaluate_every,
        precision="bfloat16" if schedule.bfloat16 else "float32",
    )
