"""What the commands that train have in common: the shape of a model, its schedule, and what is told on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.console import Progress as Bar
    from simulation.training.train import Progress


@dataclass(frozen=True)
class ShapeOptions:
    """The shape of the models; a checkpoint to start from has one already."""

    width: Annotated[
        str | None, typer.Option("--width", metavar="D[,D…]", help="Width of the model, or several; 128 if left out.")
    ] = None
    family: Annotated[
        bool, typer.Option("--family", help="Widths 32, 64, 128 and 256, all else equal; other widths: --width 16,48.")
    ] = False
    blocks: Annotated[int | None, typer.Option("--blocks", min=1, help="Transformer blocks; 4 if left out.")] = None
    heads: Annotated[int | None, typer.Option("--heads", min=1, help="Attention heads; 4 if left out.")] = None
    context: Annotated[int | None, typer.Option("--context", min=2, help="Tokens the model sees; 128 if left out.")] = (
        None
    )
    vocabulary: Annotated[
        int | None, typer.Option("--vocabulary", min=257, help="Tokens of the BPE; 1024 if left out.")
    ] = None

    @property
    def given(self) -> dict[str, int]:
        """What was said about everything but the width."""
        said = {
            "blocks": self.blocks,
            "heads": self.heads,
            "context": self.context,
            "vocabulary": self.vocabulary,
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class ScheduleOptions:
    """How long, and in which steps."""

    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps; 5600 if left out, 560 with --start.")
    ] = None
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in each step.")] = 16
    evaluate_every: Annotated[
        int,
        typer.Option("--evaluate-every", min=1, help="Steps between held-out evaluations; each is a place to resume."),
    ] = 200
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Products in bfloat16 while training: faster where the processor has it.")
    ] = False


def widths_of(text: str) -> list[int]:
    """Widths as stated, ascending, each once.

    Raises
    ------
    UsageError
        For what is no positive whole number.
    """
    from labctl.errors import UsageError

    try:
        widths = sorted({int(part) for part in text.split(",")})
    except ValueError:
        widths = []
    if not widths or widths[0] < 1:
        raise UsageError("a width is a positive whole number", seen=text, hint="--width 32,64,128")
    return widths


def teller(lab: Lab, bar: Bar, what: str = "held-out") -> Callable[[Progress], None]:
    """What is told after every step: the bar moves, and ``what`` was evaluated gets a line."""
    done = 0

    def tell(step: Progress) -> None:
        nonlocal done
        bar.advance(step.step - done, f"{step.train_nats:.2f} nats/token")
        done = step.step
        if step.heldout_nats is not None:
            lab.console.say(f"  step {step.step}: {what} {step.heldout_nats:.3f} nats/token")

    return tell
