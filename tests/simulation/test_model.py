"""The decoder: shapes, causality, the tied head, and agreement with torch's own attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from calibration.errors import OutOfDomain
from simulation.models.gpt import GPT, GPTConfig, Product


def test_logits_have_one_row_per_token(model: GPT) -> None:
    assert model(torch.zeros(2, 7, dtype=torch.long)).shape == (2, 7, 300)


def test_a_token_changes_no_earlier_logits(model: GPT) -> None:
    tokens = torch.randint(300, (1, 20), generator=torch.Generator().manual_seed(3))
    changed = tokens.clone()
    changed[0, 12] = (tokens[0, 12] + 1) % 300
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_head_is_the_embedding(model: GPT) -> None:
    assert not any("head" in name for name, _ in model.named_parameters())
    hidden: list[torch.Tensor] = []
    model.norm.register_forward_hook(lambda _, __, output: hidden.append(output))
    logits = model(torch.arange(5)[None])
    torch.testing.assert_close(logits, hidden[0] @ model.embedding.weight.T)


def test_attention_agrees_with_torch(model: GPT) -> None:
    attention = model.blocks[0].attention
    x = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(4))
    q, k, v = (
        linear(x).view(2, 9, 4, 8).transpose(1, 2) for linear in (attention.query, attention.key, attention.value)
    )
    expected = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 9, 32)
    torch.testing.assert_close(attention(x), attention.output(expected))


def test_what_becomes_optical_is_a_named_module_without_bias(model: GPT) -> None:
    optical = {name for name, module in model.named_modules() if isinstance(module, nn.Linear | Product)}
    parts = ("attention.query", "attention.key", "attention.value", "attention.output", "attention.qk", "attention.av")
    assert optical == {f"blocks.{i}.{part}" for i in range(3) for part in (*parts, "ffn.up", "ffn.down")}
    assert all(module.bias is None for module in model.modules() if isinstance(module, nn.Linear))


def test_same_generator_seed_gives_the_same_weights() -> None:
    config = GPTConfig(vocabulary=10, width=8, blocks=1, heads=2)
    a, b = (GPT(config, torch.Generator().manual_seed(5)).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_sequence_beyond_the_context_is_refused(model: GPT) -> None:
    with pytest.raises(OutOfDomain, match="longer than"):
        model(torch.zeros(1, 65, dtype=torch.long))


@pytest.mark.parametrize("shape", [{"width": 30}, {"blocks": 0}, {"heads": -4}, {"context": 1.5}])
def test_impossible_shape_is_refused(shape: dict[str, int]) -> None:
    with pytest.raises(OutOfDomain):
        GPTConfig(vocabulary=10, **shape)
