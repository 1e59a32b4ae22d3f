"""How much of the article is computed: a quick form on the shipped models, and a full one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from labctl.studies.scaling import LEVELS
from labctl.studies.second_order import TOKENS
from simulation.models.checkpoint import load_checkpoint

BENCH_S = {"mock": 60.0, "paper": 900.0}
"""Of a run on the mock bench of a station, on two cores of 2020 [s]."""
PRODUCTS = 60
"""Readings of the text that the second order takes: twenty-five products, two signs of the noise, and a first probe."""
LIGHT = 2.0
"""How many times longer a model takes in light than digitally."""
TRAINING = 6.0
"""How many times longer a token takes in quantised training than in a digital reading."""
TRAINED_TOKENS = 560 * 16 * 128
"""That a model sees when it goes on with few bits."""


@dataclass(frozen=True)
class Form:
    """What is computed.

    Attributes
    ----------
    name
        ``quick`` or ``full``.
    station
        Whose mock bench stands for the experiment.
    per_layer
        Products of each of its four layers.
    tokens
        Of the text that models are scored on.
    tokens_for_law
        Of the text that the law is measured on: the second order reads it a hundred times.
    photons
        Light levels of the sweep with shot noise alone.
    photons_on_paper
        Light levels on the article's machine.
    seeds
        Of the noise.
    bits
        That models run with.
    trained_bits
        That models are trained for first.
    """

    name: str
    station: str
    per_layer: int
    tokens: int
    tokens_for_law: int
    photons: tuple[float, ...]
    photons_on_paper: tuple[float, ...]
    seeds: tuple[int, ...]
    bits: tuple[int, ...]
    trained_bits: tuple[int, ...] = ()

    def about(self) -> dict[str, Any]:
        """JSON."""
        return asdict(self)


QUICK = Form(
    name="quick",
    station="mock",
    per_layer=33,
    tokens=1024,
    tokens_for_law=512,
    photons=(3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    photons_on_paper=(10.0, 100.0, 1000.0, 10000.0),
    seeds=(0,),
    bits=(8, 4),
)
FULL = Form(
    name="full",
    station="paper",
    per_layer=132,
    tokens=4096,
    tokens_for_law=4096,
    photons=LEVELS,
    photons_on_paper=LEVELS,
    seeds=(0, 1, 2),
    bits=(8, 6, 4),
    trained_bits=(8, 4),
)


def expected_s(form: Form, models: Sequence[Path], jobs: int) -> float:
    """How long it takes [s], from how long a digital reading of each model takes here and now."""
    each = [_reading_s(path) for path in models]
    lit = form.tokens * len(form.photons_on_paper) + form.tokens_for_law * len(form.photons)
    sweeps = sum(each) * LIGHT * len(form.seeds) * lit / jobs
    rest = sum(each) * (PRODUCTS * min(TOKENS, form.tokens_for_law) + LIGHT * len(form.bits) * form.tokens)
    steps = TRAINED_TOKENS * TRAINING * len(form.trained_bits) * sum(each)
    return BENCH_S[form.station] + sweeps + rest + steps


def _reading_s(path: Path) -> float:
    """Of one token [s]."""
    model = load_checkpoint(path).model
    tokens = torch.zeros(4, model.config.context, dtype=torch.long)
    with torch.inference_mode():
        model(tokens)
        began = time.perf_counter()
        model(tokens)
    return (time.perf_counter() - began) / tokens.numel()
