"""The 8-bit baseline, and the walk that puts modules in place of others."""

from __future__ import annotations

import math

import numpy as np
import torch

from simulation.conversion.quantise import Int8, clip_scale, quantise_int8
from simulation.models.gpt import GPT


def test_int8_is_close_to_float_and_not_equal(model: GPT, sequences: list[list[int]]) -> None:
    tokens = torch.tensor(sequences)
    exact, rounded = model(tokens), quantise_int8(model)(tokens)
    error = (rounded - exact).square().mean().sqrt() / exact.std()
    # Clipping a Gaussian at its 99th percentile costs 4.3 % rms of a product, at its 98th 6.5 %: here 18 and 6 times.
    assert 1e-3 < error < math.sqrt(18 * 0.043**2 + 6 * 0.065**2)


def test_int8_linear_is_the_integer_product(model: GPT) -> None:
    linear = model.blocks[0].ffn.up
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    weight = linear.weight.detach().double().numpy()
    s_w = np.percentile(np.abs(weight), 99, method="inverted_cdf") / 127
    s_x = np.abs(x.double().numpy()).max(1, keepdims=True) / 127
    codes_w = np.clip(np.rint(weight / s_w), -127, 127)
    codes_x = np.rint(x.double().numpy() / s_x)
    expected = s_x * s_w * (codes_x @ codes_w.T)
    seen = Int8().matrix("up", linear.weight)(x, linear.weight, None).detach().numpy()
    np.testing.assert_allclose(seen, expected, rtol=0, atol=2e-6 * abs(expected).max())  # fp32 sums of 32 terms


def test_attention_product_is_clipped_per_head() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(1, 2, 6, 8, generator=generator), torch.randn(1, 2, 8, 30, generator=generator)
    b[0, 1] *= 1000  # a loud head costs the quiet one nothing
    product = Int8().pair("qk")
    alone = product(a[:, :1], b[:, :1])
    torch.testing.assert_close(product(a, b)[:, :1], alone)


def test_zero_operands_stay_zero() -> None:
    assert torch.equal(Int8().pair("qk")(torch.zeros(2, 3), torch.zeros(3, 4)), torch.zeros(2, 4))


def test_clip_of_a_sparse_matrix_falls_back_to_its_maximum() -> None:
    sparse = torch.zeros(20, 20)
    sparse[3, 4] = -5.0
    assert clip_scale(sparse, 99.0).item() == 5.0


def test_original_keeps_its_modules_and_the_copy_its_parameters(model: GPT) -> None:
    quantised = quantise_int8(model, keep=("blocks.0.*",))
    x = torch.randn(3, 32)
    for block, is_rounded in ((0, False), (1, True)):
        ours, theirs = quantised.blocks[block].ffn.up, model.blocks[block].ffn.up
        assert torch.equal(ours(x), theirs(x)) is not is_rounded
    assert quantised.blocks[1].ffn.up.weight is model.blocks[1].ffn.up.weight
    assert list(quantised.state_dict()) == list(model.state_dict())
