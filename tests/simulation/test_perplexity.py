"""Perplexity against closed forms and a direct sum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from calibration.errors import BadOperands
from simulation.evaluation.perplexity import perplexity
from simulation.models.gpt import GPT


class Uniform(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return torch.zeros(*tokens.shape, 50)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(300, (501,), generator=torch.Generator().manual_seed(6))


def test_uniform_model_is_as_perplexed_as_its_vocabulary(ids: Tensor) -> None:
    result = perplexity(Uniform(), ids % 50, context=64)
    assert result.ppl == pytest.approx(50)
    assert result.tokens == 500
    assert result.stderr == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("context", "stride"), [(64, None), (64, 16), (64, 1), (600, None)])
def test_every_token_but_the_first_is_scored_once(ids: Tensor, context: int, stride: int | None) -> None:
    assert perplexity(Uniform(), ids % 50, context=context, stride=stride).tokens == 500


def test_windows_side_by_side_agree_with_a_direct_sum(model: GPT, ids: Tensor) -> None:
    windows = [(ids[i : i + 64], ids[i + 1 : i + 65]) for i in range(0, 500, 64)]
    nats = [
        nn.functional.cross_entropy(model(inputs[None, : len(targets)])[0], targets, reduction="sum").item()
        for inputs, targets in windows
    ]
    result = perplexity(model, ids, context=64, batch=3)
    assert result.nats_per_token == pytest.approx(sum(nats) / 500, rel=1e-6)  # float32 logits
    assert result.ppl == pytest.approx(math.exp(sum(nats) / 500), rel=1e-5)


def test_strided_windows_see_at_least_the_context_less_the_stride(model: GPT, ids: Tensor) -> None:
    last = ids[500 - 64 : 500]
    expected = nn.functional.cross_entropy(model(last[None])[0, -1:], ids[500:]).item()
    with_last = perplexity(model, ids, context=64, stride=1)
    without = perplexity(model, ids, context=64, stride=1, max_tokens=499)
    assert with_last.nats_per_token * 500 - without.nats_per_token * 499 == pytest.approx(expected, abs=1e-4)


def test_stderr_is_the_scatter_between_windows() -> None:
    class Tells(nn.Module):
        """Window i costs its first token's number of nats, apart from a constant."""

        def forward(self, tokens: Tensor) -> Tensor:
            logits = torch.zeros(*tokens.shape, 50)
            logits[..., 1] = torch.where(tokens[:, :1] == 0, 2.0, -2.0)
            return logits

    ids = torch.ones(8 * 100 + 1, dtype=torch.long)
    ids[0:800:16] = 0
    nats = [-math.log(math.exp(s) / (49 + math.exp(s))) for s in (2.0, -2.0)]
    nats[1] = (7 * nats[1] + math.log(49 + math.exp(-2))) / 8  # every other window ends on token 0
    result = perplexity(Tells(), ids[:800], context=8)
    assert result.nats_per_token == pytest.approx(sum(nats) / 2, rel=0.01)
    assert result.stderr == pytest.approx(abs(nats[0] - nats[1]) / 2 / math.sqrt(99), rel=0.02)


def test_single_window_has_no_standard_error(ids: Tensor) -> None:
    assert math.isnan(perplexity(Uniform(), ids[:20] % 50, context=64).stderr)


@pytest.mark.parametrize(("length", "stride"), [(1, None), (50, 0), (50, 65)])
def test_nothing_to_score_is_refused(ids: Tensor, length: int, stride: int | None) -> None:
    with pytest.raises(BadOperands):
        perplexity(Uniform(), ids[:length] % 50, context=64, stride=stride)


@pytest.mark.parametrize(
    "tokens", [[1.5, 2.5, 3.0], "abc", None, torch.zeros(2, 9, dtype=torch.long), torch.rand(9), [[1, 2], [3]]]
)
def test_what_is_no_text_is_refused(tokens: Any) -> None:
    with pytest.raises(BadOperands, match="no tokens of a text"):
        perplexity(Uniform(), tokens, context=64)


@pytest.mark.parametrize("most", [0, -1, -5])
def test_less_than_one_token_to_score_is_refused(ids: Tensor, most: int) -> None:
    with pytest.raises(BadOperands, match="nothing to score"):
        perplexity(Uniform(), ids % 50, context=64, max_tokens=most)


def test_model_that_answers_nan_is_refused(model: GPT, ids: Tensor) -> None:
    model.norm.weight.data[3] = math.nan
    with pytest.raises(BadOperands, match="not finite"):
        perplexity(model, ids, context=64)
