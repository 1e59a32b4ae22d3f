"""Where matrices lie is remembered for the shapes that were asked for last."""

from __future__ import annotations

import torch

from simulation.conversion.optical import layers_of, opticalize
from simulation.light.product import Bench
from simulation.light.recent import MOST, Recent
from simulation.models.gpt import GPT


def test_what_was_asked_for_last_is_kept_and_the_rest_is_made_anew() -> None:
    made: list[int] = []
    recent: Recent[int, int] = Recent()
    for key in [*range(MOST), 0, MOST, 0, 1]:
        assert recent.of(key, lambda key=key: made.append(key) or key) == key  # type: ignore[misc, func-returns-value]
    assert made == [*range(MOST + 1), 1]
    assert len(recent) == MOST


def test_reading_on_token_by_token_keeps_no_more_places_than_a_few(model: GPT) -> None:
    optical = opticalize(model, "paper", photons_per_mac=50.0)
    bench = layers_of(optical).bench
    assert isinstance(bench, Bench)
    ids = torch.randint(300, (1, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for length in range(2, 64):  # attention's matrices are of another shape each time
            optical(ids[:, :length])
    assert len(bench.optics.placements) == MOST
