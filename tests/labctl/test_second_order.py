"""The second order of a family beside its sweep: they agree, and what is known is not measured again."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from labctl.resources import shipped_family
from labctl.studies.second_order import Subject, compare, second_order
from simulation.light.optics import ideal, paper
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.loading import language_of
from simulation.models.text import pydoc_text
from simulation.scaling.evaluate import Material, Reader
from simulation.scaling.kept import ExpansionStore
from simulation.scaling.points import DIGITAL, Point, Windows
from simulation.scaling.requirement import Sweep, bright_cost, resample

LEVELS, SEEDS, TOKENS = (300.0, 1000.0, 3000.0), (0, 1), 1024


@pytest.mark.slow
def test_sweep_and_second_order_agree_on_what_light_costs(tmp_path: Path) -> None:
    smallest = min(shipped_family(), key=lambda path: path.stat().st_size)
    checkpoint = load_checkpoint(smallest)
    ids = language_of(smallest.stem, checkpoint).encode(pydoc_text("heldout").content)[: TOKENS + 1]
    context = checkpoint.model.config.context
    material = Material({"m": Reader.of(checkpoint.model, ids)}, "ideal")

    def read(machine: str, photons: float | None, seed: int) -> Windows:
        return material.score(Point("m", machine, photons, seed, "t", TOKENS, context, "c"))

    digital = read(DIGITAL, None, 0)
    lit = np.stack([read("ideal", n, seed).nats for n, seed in product(LEVELS, SEEDS)])
    sweep = Sweep(
        32, np.array(LEVELS), lit.reshape(len(LEVELS), len(SEEDS), -1), digital.nats, digital.nats, digital.tokens
    )
    subject = Subject(32, "m", checkpoint.model, ids, context)
    unread = replace(subject, width=64, model=None)  # type: ignore[arg-type]  # the same file: nothing is measured again
    told: list[int] = []
    found = second_order([subject, unread], ideal(), TOKENS, ExpansionStore(tmp_path), told.append)
    assert told == [1, 1]
    assert found[0] == found[1]
    sweeps = [sweep, replace(sweep, width=64)]
    draws = [resample(each, 300, np.random.default_rng(0), np.random.default_rng(1)) for each in sweeps]
    law = compare(ideal(), found, sweeps, draws)
    seen = law.agreement[0]
    error = np.hypot(seen.theory[2] - seen.theory[0], seen.swept[2] - seen.swept[0]) / 1.96
    assert seen.swept[0] == pytest.approx(seen.theory[0], abs=4 * error)
    assert error < 0.5 * seen.theory[0]
    assert {(trend.kind, trend.metric) for trend in law.trends} == set(
        product(("all", "ffn", "qkvo", "qk", "av"), ("kl", "loss"))
    )
    assert all(t.law is None or t.law.exponent == pytest.approx(0, abs=1e-9) for t in law.trends)
    assert compare(paper(), found, sweeps, draws).agreement == ()  # it has other noise beside
    assert [each["width"] for each in law.document()["widths"]] == [32, 64]


@pytest.mark.parametrize("tokens", [2, 9, 60])
def test_text_shorter_than_the_context_is_cut_into_windows(tmp_path: Path, tokens: int) -> None:
    model = GPT(GPTConfig(48, 64, 16, 2, 1), torch.Generator().manual_seed(0)).eval()
    ids = np.random.default_rng(3).integers(0, 48, 61).tolist()
    found = second_order([Subject(16, "m", model, ids, 64)], ideal(), tokens, ExpansionStore(tmp_path), lambda n: None)
    assert found[0].tokens == tokens
    assert found[0].total.kl > 0


def test_sweep_too_dim_for_the_second_order_says_nothing() -> None:
    nats = np.full((3, 1, 4), 100.0)
    dim = Sweep(16, np.array(LEVELS), nats, nats[0, 0] * 0, nats[0, 0] * 0, np.full(4, 10.0))
    draws = resample(dim, 10, np.random.default_rng(0), np.random.default_rng(1))
    assert np.isnan(bright_cost(dim, draws)).all()
