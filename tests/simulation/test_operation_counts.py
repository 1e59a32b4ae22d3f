"""Multiply–accumulates counted by hand, from sizes alone, against what watching a model counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simulation.energy.constants import load_components
from simulation.energy.decoders import Decoder
from simulation.energy.machine import Machine, PhotonLaw
from simulation.energy.operations import OPS_PER_ELEMENT, MatrixProduct, Operations, count_operations
from simulation.energy.pricing import price_digital, price_optical

TABLE = Path(__file__).parents[2] / "data" / "energy" / "components.toml"
B, N, D = 2, 5, 8


class Of(nn.Module):
    """A formula of an input (2, 5, 8) and a weight (8, 8)."""

    def __init__(self, formula: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.formula, self.w = formula, nn.Parameter(torch.randn(D, D))

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x, self.w)


def counted(formula: Callable[[Tensor, Tensor], Tensor], device: str = "cpu") -> Operations:
    return count_operations(Of(formula).to(device), torch.randn(B, N, D, device=device), tokens=B * N)


BY_HAND: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "matmul": (lambda x, w: x @ w, B * N * D * D),
    "linear": (lambda x, w: F.linear(x, w, w[0]), B * N * D * D),
    "mv": (lambda x, w: w @ x[0, 0], D * D),
    "addmv": (lambda x, w: torch.addmv(x[0, 1], w, x[0, 0]), D * D),
    "addmm": (lambda x, w: torch.addmm(x[0], x[1], w), N * D * D),
    "baddbmm": (lambda x, w: torch.baddbmm(x @ x.mT, x, x.mT), 2 * B * N * N * D),
    "addbmm": (lambda x, w: torch.addbmm(x[0, :, :N], x, x.mT), B * N * N * D),
    "dot": (lambda x, w: torch.dot(x[0, 0], w[0]), D),
    "inner": (lambda x, w: torch.inner(x, w), B * N * D * D),
    "einsum": (lambda x, w: torch.einsum("bid,de,bje->bij", x, w, x), B * N * D * D + B * N * N * D),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1), B * N * D * D),
    "bilinear": (lambda x, w: F.bilinear(x, x, w.view(1, D, D)), B * N * D * D),
    "written out": (lambda x, w: (x[..., None, :] * w).sum(-1), B * N * D * D),
    "dots": (lambda x, w: (x * x.flip(0)).sum(-1), B * N * D),
    "attention": (lambda x, w: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None]), 2 * B * N * N * D),
    "masked attention": (
        lambda x, w: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
        2 * B * N * N * D,
    ),
    "grouped attention": (
        lambda x, w: F.scaled_dot_product_attention(
            x.view(B, N, 4, 2).transpose(1, 2), x[..., :4].view(B, N, 2, 2).transpose(1, 2),
            x[..., 4:].view(B, N, 2, 2).transpose(1, 2), enable_gqa=True,
        ),
        2 * B * 4 * N * N * 2,
    ),
    "convolution": (lambda x, w: F.conv1d(x.mT, w[:, :, None].expand(D, D, 3)), B * (N - 2) * D * 3 * D),
    "picture": (lambda x, w: F.conv2d(x[:, None], w.view(16, 1, 2, 2), stride=2, padding=1), B * 3 * 5 * 4 * 16),
    "volume": (lambda x, w: F.conv3d(x[None, None], w[:4, :6].reshape(3, 1, 2, 2, 2)), 1 * 4 * 7 * 8 * 3),
    "depthwise": (lambda x, w: F.conv1d(x.mT, w[:, None, :3], groups=D), B * (N - 2) * 3 * D),
    "transposed": (lambda x, w: F.conv_transpose1d(x.mT, w[:, :6].reshape(D, 2, 3)), B * N * D * 2 * 3),
    "dilated": (lambda x, w: F.conv1d(x.mT, w[:, :, None].expand(D, D, 2), dilation=3), B * (N - 3) * D * 2 * D),
    "distances": (lambda x, w: torch.cdist(x, w), B * N * D * D),
    "outer": (lambda x, w: torch.outer(x[0, 0], w[0]), 0),
}  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", BY_HAND)
def test_operation_is_counted_as_by_hand(name: str, device: str) -> None:
    formula, macs = BY_HAND[name]
    found = counted(formula, device)
    assert found.macs == macs
    assert found.uncounted == ()


@pytest.mark.parametrize("name", ["linear", "attention", "einsum", "convolution"])
def test_count_does_not_depend_on_whether_gradients_are_off_for_good(name: str) -> None:
    formula, macs = BY_HAND[name]
    with torch.inference_mode():
        assert counted(formula).macs == macs


def test_recurrent_layers_and_the_fast_path_of_an_encoder_are_counted() -> None:
    lstm, gru = nn.LSTM(D, 6, batch_first=True), nn.GRU(D, 6, batch_first=True, bidirectional=True)
    x = torch.randn(B, N, D)
    assert count_operations(lstm, x, tokens=1).macs == B * N * 4 * 6 * (D + 6)
    assert count_operations(gru, x, tokens=1).macs == 2 * B * N * 3 * 6 * (D + 6)
    layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True).eval()
    by_hand = B * N * (4 * D * D + 2 * D * 16) + 2 * B * N * N * D
    assert count_operations(layer, x, tokens=1).macs == by_hand
    assert torch.backends.mha.get_fastpath_enabled()


def test_groups_of_a_convolution_are_matrices_of_their_own() -> None:
    (found,) = counted(BY_HAND["depthwise"][0]).products
    assert (found.n, found.k, found.m, found.batch, found.kind) == (B * (N - 2), 3, 1, D, "linear")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_experts_are_counted_by_the_rows_that_they_get(device: str) -> None:
    """Mixtral of two blocks: each token passes two of four experts, a gated layer each."""
    transformers = pytest.importorskip("transformers")
    d, ffn, tokens, vocabulary, heads = 32, 48, 9, 64, 4
    config = transformers.MixtralConfig(
        hidden_size=d, intermediate_size=ffn, num_hidden_layers=2, num_attention_heads=heads, num_key_value_heads=2,
        vocab_size=vocabulary, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    with torch.device(device):
        model, ids = transformers.MixtralForCausalLM(config).eval(), torch.zeros(1, tokens, dtype=torch.long)
    if device == "meta":
        model = model.bfloat16()  # torch has grouped products of no other type there
    found = count_operations(model, ids, tokens=tokens)
    block = tokens * (2 * d * d + 2 * d * d // 2 + 4 * d) + 2 * tokens * tokens * d + 2 * tokens * 3 * d * ffn
    assert found.macs == 2 * block + tokens * d * vocabulary
    assert {product.kind for product in found.products} == {"linear", "attention"}
    experts = [product for product in found.products if "experts" in product.layer]
    assert sum(product.batch * product.n for product in experts) == 2 * 2 * 2 * tokens, "two products, blocks, choices"


def test_a_model_of_somebody_elses_library_counts_as_its_shape_does() -> None:
    """Norms by a root, gates and rotations that are written out, and keys that are copied for each query of a group."""
    transformers = pytest.importorskip("transformers")
    shape = Decoder("tiny", "a test", 50, 64, 48, 3, 8, kv_heads=2, feed_forward=80)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=48, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2,
        intermediate_size=80, max_position_embeddings=64,
    )  # fmt: skip
    for attention in ("eager", "sdpa"):
        config._attn_implementation = attention
        model, ids = transformers.LlamaForCausalLM(config).eval(), torch.zeros(1, 12, dtype=torch.long)
        seen, known = count_operations(model, ids, tokens=12), shape.forward(12)
        assert seen.macs == known.macs
        norms, residuals, gated = 7 * 48 * 8, 6 * 48, 3 * 2 * 80
        rotations, softmax, angles = 3 * 3 * (8 + 2) * 6, 3 * 8 * 12 * 5, 3
        assert operations_by_hand(known) == 12 * (norms + residuals + gated + rotations + softmax)
        assert operations_by_hand(seen) == operations_by_hand(known) + 12 * angles
        assert by_kind(seen) == by_kind(known) + Counter(gate=12 * angles)
        found = {(p.n, p.k, p.m, p.batch) for p in seen.products if p.kind == "attention"}
        assert found == {(4 * 12, 6, 12, 2), (4 * 12, 12, 6, 2)}, "four queries meet the keys of one head"


def by_kind(counted: Operations) -> Counter[str]:
    """Elements of all layers together."""
    found: Counter[str] = Counter()
    for (_, kind), count in counted.elementwise.items():
        found[kind] += count
    return found


def operations_by_hand(counted: Operations) -> int:
    return sum(elements * OPS_PER_ELEMENT[kind] for (_, kind), elements in counted.elementwise.items())


def test_a_product_that_is_written_out_is_not_counted_element_by_element_too() -> None:
    found = counted(lambda x, w: (x * x.flip(0)).sum(-1) + (x * x).sum(-1))
    assert (found.macs, operations_by_hand(found)) == (B * N * D, B * N)
    assert operations_by_hand(counted(lambda x, w: x * x.flip(0))) == B * N * D


def test_what_is_no_matrix_product_is_never_priced_in_light() -> None:
    found = counted(lambda x, w: torch.fft.fft(x @ w).real)
    assert [(p.kind, p.macs) for p in found.products] == [("linear", 640), ("digital", 300)]
    machine, components = Machine(PhotonLaw(1.0)), load_components(TABLE, "today")
    bill = price_optical(found, machine, components)
    assert {row.component for row in bill.rows if row.kind == "digital"} == {"digital MAC"}
    assert sum(row.amount for row in bill.rows if row.kind == "digital") == 300
    light = price_optical(replace(found, products=found.products[:1]), machine, components)
    assert bill.total_j == pytest.approx(light.total_j + 300 * components["digital.mac"].value)
    assert price_digital(found, components, "digital.mac").total_j == pytest.approx(
        940 * components["digital.mac"].value
    )


def test_what_nobody_can_count_is_named() -> None:
    assert counted(lambda x, w: torch.linalg.svdvals(x @ w)).uncounted == (("Of", "_linalg_svd"),)


def test_matrix_that_was_computed_from_weights_is_one() -> None:
    found: Any = counted(lambda x, w: x @ (w * 2 + w.T).softmax(-1))
    assert found.products == (MatrixProduct("Of", "linear", B * N, D, D),)


def test_a_sparse_weight_is_counted_as_if_it_were_full() -> None:
    assert counted(lambda x, w: w.to_sparse() @ x[0].T).macs == D * D * N
