"""Sampled products are the model's own, evenly drawn, and the same for the same seed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from calibration.errors import BadOperands
from calibration.frames.products import ProductGroup
from simulation.evaluation.sampling import sample_products
from simulation.models.gpt import GPT

EVERY_PART = ("attention.query", "attention.output", "attention.qk", "attention.av", "ffn.up", "ffn.down")
FP32 = 2e-6  # of the largest output: sums of at most 128 terms, 2^-24 each


def test_default_strata_are_the_papers(model: GPT, sequences: list[list[int]]) -> None:
    counts: Counter[tuple[str, int]] = Counter()
    for group in sample_products(model, sequences):
        counts[group.name.partition("/")[0], group.block] += len(group.inputs)
    assert counts == {
        (f"blocks.{block}.{part}", block): 132 for block in (0, 2) for part in ("ffn.down", "attention.qk")
    }


def test_outputs_are_weight_times_inputs(model: GPT, sequences: list[list[int]]) -> None:
    layers = [f"blocks.1.{part}" for part in EVERY_PART]
    for group in sample_products(model, sequences, layers=layers, per_stratum=40):
        expected = group.inputs.astype(np.float64) @ group.weight.astype(np.float64).T
        np.testing.assert_allclose(group.outputs, expected, rtol=0, atol=FP32 * np.abs(expected).max())


def test_products_are_those_at_their_positions(model: GPT, sequences: list[list[int]]) -> None:
    (group,) = sample_products(model, sequences, layers=["blocks.2.ffn.down"], per_stratum=20, seed=3)
    seen: list[torch.Tensor] = []
    model.blocks[2].ffn.down.register_forward_hook(lambda _, x, __: seen.append(x[0]))
    model(torch.tensor(sequences))
    expected = seen[0].detach().numpy()[group.positions[:, 0], group.positions[:, 1]]
    np.testing.assert_allclose(group.inputs, expected, rtol=0, atol=FP32 * 6)  # ReLU6: at most 6


def test_attention_groups_share_out_heads_and_never_repeat_a_product(model: GPT, sequences: list[list[int]]) -> None:
    groups = sample_products(model, sequences, layers=["blocks.0.attention.qk"], per_stratum=264, seed=5)
    assert [len(group.inputs) for group in groups] == [33] * 8
    assert Counter(_head(group) for group in groups) == {f"head{head}": 2 for head in range(4)}
    rows = [(group.name, *position) for group in groups for position in group.positions.tolist()]
    assert len(set(rows)) == len(rows)


def test_attention_operands_are_keys_queries_softmax_and_values(model: GPT, sequences: list[list[int]]) -> None:
    qk, av = (
        sample_products(model, sequences, layers=[f"blocks.0.attention.{part}"], per_stratum=8)[0]
        for part in ("qk", "av")
    )
    assert (qk.operation, qk.weight.shape, qk.outputs.shape[1]) == ("qk", (64, 8), 64)  # K is (T, d_head)
    assert (av.operation, av.weight.shape, av.outputs.shape[1]) == ("av", (8, 64), 8)  # Vᵀ is (d_head, T)
    np.testing.assert_allclose(av.inputs.sum(1), 1, rtol=1e-6)


def test_weight_scale_is_the_papers_clip_percentile(model: GPT, sequences: list[list[int]]) -> None:
    for part, percentile in (("ffn.down", 99), ("attention.qk", 98), ("attention.av", 98)):
        group = sample_products(model, sequences, layers=[f"blocks.0.{part}"], per_stratum=5)[0]
        magnitudes = np.abs(group.weight)
        assert group.weight_scale == pytest.approx(np.percentile(magnitudes, percentile, method="inverted_cdf"))


def test_bias_is_left_out_of_the_outputs(sequences: list[list[int]]) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(300, 8), torch.nn.Linear(8, 3))
    (group,) = sample_products(model, sequences, layers=["1"], per_stratum=10)
    np.testing.assert_allclose(group.outputs, group.inputs @ group.weight.T, atol=1e-5)


def test_seed_alone_decides_the_draw(model: GPT, sequences: list[list[int]]) -> None:
    a, b, other = (sample_products(model, sequences, seed=seed) for seed in (7, 7, 8))
    assert all(np.array_equal(x.outputs, y.outputs) for x, y in zip(a, b, strict=True))
    assert any(not np.array_equal(x.positions, y.positions) for x, y in zip(a, other, strict=True))


def test_sequences_may_differ_in_length(model: GPT, sequences: list[list[int]]) -> None:
    ragged = [sequence[: 20 + 9 * i] for i, sequence in enumerate(sequences)]
    groups = sample_products(model, ragged, layers=["blocks.0.attention.av", "blocks.0.ffn.up"], per_stratum=50)
    assert sum(len(group.inputs) for group in groups if group.operation == "av") == 50
    assert all((group.positions[:, 1] < [len(ragged[i]) for i in group.positions[:, 0]]).all() for group in groups)


def test_sampling_leaves_no_hook_behind(model: GPT, sequences: list[list[int]]) -> None:
    sample_products(model, sequences)
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_of_a_group_are_not_the_models_memory(model: GPT, sequences: list[list[int]]) -> None:
    (group,) = sample_products(model, sequences, layers=["blocks.0.ffn.up"], per_stratum=3)
    before = group.weight.copy()
    model.blocks[0].ffn.up.weight.data.zero_()
    np.testing.assert_array_equal(group.weight, before)


def test_unknown_layer_is_refused_with_its_likely_name(model: GPT, sequences: list[list[int]]) -> None:
    with pytest.raises(BadOperands) as caught:
        sample_products(model, sequences, layers=["blocks.0.fnn.down"])
    assert "blocks.0.ffn.down" in caught.value.hint


@pytest.mark.parametrize("more", [{"layers": []}, {"per_stratum": 0}, {"per_stratum": -3}])
def test_no_products_at_all_are_refused(model: GPT, sequences: list[list[int]], more: dict[str, Any]) -> None:
    with pytest.raises(BadOperands, match="no products are asked for"):
        sample_products(model, sequences, **more)


def test_one_layer_may_stand_without_a_list(model: GPT, sequences: list[list[int]]) -> None:
    (group,) = sample_products(model, sequences, layers="blocks.1.ffn.up", per_stratum=4)
    assert group.name == "blocks.1.ffn.up"


@pytest.mark.parametrize(
    ("layer", "lengths", "per_stratum"),
    [("ffn.down", [20], 21), ("attention.qk", [20], 100), ("attention.qk", [], 1), ("ffn.down", [5, 0], 2)],
)
def test_more_products_than_the_tokens_hold_are_refused(
    model: GPT, sequences: list[list[int]], layer: str, lengths: list[int], per_stratum: int
) -> None:
    cut = [sequence[:length] for sequence, length in zip(sequences, lengths, strict=False)]
    with pytest.raises(BadOperands, match="too few"):
        sample_products(model, cut, layers=[f"blocks.0.{layer}"], per_stratum=per_stratum)


def test_model_with_a_nan_is_refused_by_the_weights_name(model: GPT, sequences: list[list[int]]) -> None:
    model.blocks[1].attention.key.weight.data[2, 2] = float("nan")
    with pytest.raises(BadOperands, match=r"blocks\.1\.attention\.key\.weight"):
        sample_products(model, sequences)


def _head(group: ProductGroup) -> str:
    return group.name.split("/")[1]
