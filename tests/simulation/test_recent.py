"""Where matrices lie is remembered for the shapes that were asked for last."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from simulation.conversion.optical import layers_of, opticalize
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.recent import MOST, Recent
from simulation.light.weights import Placement
from simulation.models.gpt import GPT


def test_what_was_asked_for_last_is_kept_and_the_rest_is_made_anew() -> None:
    made: list[int] = []
    recent: Recent[int, int] = Recent()
    for key in [*range(MOST), 0, MOST, 0, 1]:
        assert recent.of(key, lambda key=key: made.append(key) or key) == key  # type: ignore[misc, func-returns-value]
    assert made == [*range(MOST + 1), 1]
    assert len(recent) == MOST


def test_what_stays_is_made_once_however_much_else_is_asked_for() -> None:
    made: list[int] = []
    recent: Recent[int, int] = Recent()
    for key in [*range(2 * MOST)] * 2:
        recent.of(key, lambda key=key: made.append(key) or key, stays=True)  # type: ignore[misc, func-returns-value]
    for key in [*range(4 * MOST)]:
        recent.of(key, lambda key=key: made.append(key) or key)  # type: ignore[misc, func-returns-value]
    assert made == [*range(4 * MOST)]
    assert len(recent) == 3 * MOST


def test_each_matrix_of_many_shapes_has_its_place_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[int, int]] = []
    place = Placement.__init__

    def counted(self: Placement, optics: Optics, shape: tuple[int, int]) -> None:
        found.append(shape)
        place(self, optics, shape)

    monkeypatch.setattr(Placement, "__init__", counted)
    widths = [*range(2, MOST + 6)]
    optical = opticalize(nn.Sequential(*map(nn.Linear, widths, widths[1:])), "paper", photons_per_mac=50.0)
    for rows in (1, 9, 1):
        optical(torch.randn(rows, 2))
    assert sorted(found) == [(m, k) for k, m in pairwise(widths)]


def test_reading_on_token_by_token_keeps_no_more_places_than_a_few(model: GPT) -> None:
    optical = opticalize(model, "paper", photons_per_mac=50.0)
    bench = layers_of(optical).bench
    assert isinstance(bench, Bench)
    ids = torch.randint(300, (1, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for length in range(2, 64):  # attention's matrices are of another shape each time
            optical(ids[:, :length])
    static = {(m.out_features, m.in_features) for m in model.blocks.modules() if isinstance(m, nn.Linear)}
    assert len(bench.optics.placements) == MOST + len(static)
