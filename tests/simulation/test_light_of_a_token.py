"""What is done once instead of many times when one token is written gives the numbers that doing it each time gives."""

from __future__ import annotations

import copy

import pytest
import torch
from sim_bench import calibrated, loud
from torch import Tensor, nn

from simulation.conversion.convert import digitally
from simulation.conversion.optical import optical_report, optical_state, opticalize
from simulation.conversion.quantise import clip_scale
from simulation.light.optics import Optics
from simulation.light.weights import Placement

HEADS, KEYS, TOKENS, SIZE = 6, 2, 7, 8


class Attention(nn.Module):
    """One token looks back; ``mask``: one that hides nothing, with which torch takes attention apart."""

    def __init__(self, mask: Tensor | None = None, scale: float | None = None, learned: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (
            nn.Linear(SIZE, SIZE * HEADS),
            nn.Linear(SIZE, SIZE * KEYS),
            nn.Linear(SIZE, SIZE * KEYS),
        )
        self.keys = nn.Parameter(torch.randn(1, KEYS, TOKENS, SIZE)) if learned else None
        self.mask, self.scale = mask, scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).unflatten(-1, (-1, SIZE)).transpose(1, 2) for each in (self.q, self.k, self.v))
        k = k if self.keys is None else self.keys.expand(len(x), -1, -1, -1)
        y = nn.functional.scaled_dot_product_attention(
            q[:, :, -1:], k, v, attn_mask=self.mask, scale=self.scale, enable_gqa=True
        )
        return y * q[:, :, -1:].sum(-1, keepdim=True)  # what is multiplied and summed after it is told apart from it


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, TOKENS, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("keep", [(), ("product1",), ("product2",)])
@pytest.mark.parametrize("learned", [False, True])
def test_attention_at_once_is_attention_by_its_parts(
    x: Tensor, scale: float | None, keep: tuple[str, ...], learned: bool
) -> None:
    found = []
    for mask in (None, torch.zeros(1, TOKENS)):
        optical = opticalize(Attention(mask, scale, learned), calibrated(loud()), photons_per_mac=50.0, keep=keep)
        with torch.inference_mode():
            found.append((optical(x), optical(x[:1]), optical_state(optical), optical_report(optical)))
    (first, one, state, report), (first_by_parts, one_by_parts, state_by_parts, report_by_parts) = found
    torch.testing.assert_close(first, first_by_parts, rtol=0, atol=0)
    torch.testing.assert_close(one, one_by_parts, rtol=0, atol=0)
    assert state == state_by_parts
    assert report.layers == report_by_parts.layers
    assert report.digital == report_by_parts.digital
    assert report.share == report_by_parts.share
    assert learned or set(keep) <= set(report.digital)


def test_attention_of_exact_light_is_the_models_own(x: Tensor) -> None:
    for model in (Attention(), Attention(scale=0.3), Attention(learned=True)):
        optical = opticalize(model, "ideal")
        with torch.inference_mode():
            torch.testing.assert_close(optical(x), model(x), rtol=1e-4, atol=1e-4)
        assert optical_report(optical).share == 1.0


@pytest.mark.parametrize("differs", ["nowhere", "in a sign of nothing", "in its last number"])
def test_matrix_that_is_shown_twice_in_a_row_is_seen_as_if_it_were_alone(differs: str) -> None:
    optics = Optics.of(calibrated(loud()))
    one = torch.randn(31, 40, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    one[0, 0], other = 0.0, torch.randn(31, 40, generator=torch.Generator().manual_seed(5))
    again = one.clone()
    if differs == "in a sign of nothing":
        again[0, 0] = -0.0
    if differs == "in its last number":
        again[-1, -1] *= 0.5
    placement = Placement(optics, (31, 40))
    together = placement.show(torch.stack([one, again, other, other]), static=False)
    for b, matrix in enumerate((one, again, other, other)):
        alone = placement.show(matrix[None], static=False)
        for name in ("signed", "light", "planes", "scatter", "columns", "lone", "mean_light"):
            torch.testing.assert_close(getattr(together, name)[b], getattr(alone, name)[0], rtol=0, atol=0)


def test_clip_of_a_matrix_that_comes_twice_is_that_of_each() -> None:
    one, other = torch.randn(2, 9, 70, generator=torch.Generator().manual_seed(0))
    scales = clip_scale(torch.stack([one, one, other, one]), 97.0)
    assert scales.flatten().tolist() == [float(clip_scale(each, 97.0)) for each in (one, one, other, one)]


def test_weights_that_come_to_lie_where_others_lay_are_shown_anew() -> None:
    optical = opticalize(nn.Sequential(nn.Linear(64, 64, bias=False)), "ideal")
    x = torch.randn(1, 64)
    with torch.inference_mode():
        for _ in range(20):
            optical(x)
            optical[0].weight.data = torch.randn(64, 64)
            with digitally(optical):
                expected = optical(x)
            torch.testing.assert_close(optical(x), expected, rtol=1e-4, atol=1e-4)


def test_copy_looks_at_weights_of_its_own() -> None:
    optical = opticalize(nn.Sequential(nn.Linear(64, 64, bias=False)), "ideal")
    x = torch.randn(1, 64)
    with torch.inference_mode():
        before = optical(x)
        other = copy.deepcopy(optical)
        optical[0].weight.data.mul_(2.0)
        torch.testing.assert_close(other(x), before, rtol=1e-4, atol=1e-4)
        other[0].weight.data.mul_(3.0)
        torch.testing.assert_close(optical(x), 2 * before, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(other(x), 3 * before, rtol=1e-4, atol=1e-4)
