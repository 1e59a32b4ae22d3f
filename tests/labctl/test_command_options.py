"""Options in groups: a dataclass of options stands in a command for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import torch
import typer

from labctl.cli.handler import command, run_app
from labctl.cli.train import ProductOptions, _recipes
from labctl.cli.train_options import ScheduleOptions, ShapeOptions
from labctl.lab import Lab
from simulation.models.checkpoint import Checkpoint
from simulation.models.gpt import GPT, GPTConfig


@dataclass(frozen=True)
class Light:
    photons: Annotated[float, typer.Option("--photons", min=0.0, help="Per MAC.")] = 1.0
    reload: Annotated[bool, typer.Option("--reload", help="Anew.")] = False


seen: list[object] = []


def shine(lab: Lab, *, name: Annotated[str, typer.Argument()], light: Light, seed: Annotated[int, typer.Option()] = 3):
    seen.append((name, light, seed))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a"], ("a", Light(), 3)),
        (["a", "--photons", "2.5", "--seed", "4", "--reload", "--quiet"], ("a", Light(2.5, True), 4)),
    ],
)
def test_a_group_arrives_as_one_object(arguments: list[str], expected: object) -> None:
    app = typer.Typer()
    command(app)(shine)
    seen.clear()
    assert run_app(app, arguments) == 0
    assert seen == [expected]


def test_limits_of_grouped_options_hold() -> None:
    app = typer.Typer()
    command(app)(shine)
    assert run_app(app, ["a", "--photons", "-1"]) == 2


def test_recipes_follow_the_options_or_the_checkpoint_that_is_gone_on_from() -> None:
    schedule = ScheduleOptions(steps=7, batch=3, bfloat16=True)
    narrow, wide = _recipes(ShapeOptions(width="64,32", blocks=2), schedule, None, 5)
    assert (narrow.width, wide.width, narrow.blocks, narrow.steps, narrow.batch) == (32, 64, 2, 7, 3)
    assert (narrow.seed, narrow.precision, narrow.heads) == (5, "bfloat16", 4)
    model = GPT(GPTConfig(300, context=16, width=16, blocks=1, heads=2), torch.Generator().manual_seed(1))
    [further] = _recipes(ShapeOptions(), schedule, Checkpoint(model, None, {}), 5)
    assert (further.width, further.blocks, further.steps, further.precision) == (16, 1, 7, "bfloat16")


def test_only_what_was_asked_for_computes_the_products() -> None:
    assert ProductOptions().asked == []
    assert ProductOptions(qat=True, on_bench="ffn").asked == ["--qat", "--on-bench"]


@pytest.mark.parametrize(
    ("words", "owner"),
    [
        ("train m.safetensors --bits 4", "--qat"),
        ("train m.safetensors --running-ranges", "--qat"),
        ("train m.safetensors --photons-per-mac 5", "--calibration"),
        ("train m.safetensors --qat --photons-per-mac 5 --start m.safetensors", "--calibration"),
        ("train m.safetensors --replicas 2", "--arms"),
        ("train m.safetensors --tokens-per-parameter 5", "--arms"),
        ("scaling ideal --beside a.txt", "--arms"),
        ("scaling ideal --arms arms --text a.txt --tolerance 0.1", "a sweep"),
        ("scaling ideal --arms arms --photons-per-mac 3", "a sweep"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    words: str, owner: str, labctl: Callable[..., tuple[int, str, str]], here: Path
) -> None:
    code, _, error = labctl(*words.split())
    assert code == 2
    assert f"would do nothing without {owner}" in error


def test_arms_have_seeds_of_their_own(labctl: Callable[..., tuple[int, str, str]], here: Path) -> None:
    code, _, error = labctl("train", "arms", "--arms", "width", "--seed", "3")
    assert (code, "seed of its own" in error) == (2, True)
