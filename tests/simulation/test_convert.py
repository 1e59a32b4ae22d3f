"""Every product of a model becomes optical, whatever the model is made of, and exact light gives exact logits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from simulation.conversion.convert import convert, digitally, shared_copy
from simulation.conversion.routing import routing_of
from simulation.energy.operations import count_operations
from simulation.models.gpt import GPT, GPTConfig


class Exact:
    """Light without noise that counts what it is asked to do."""

    def __init__(self):
        self.calls, self.made = [], []

    def matrix(self, name: str, weight: Tensor):
        self.made.append(name)

        def multiply(x, weight, bias):
            self.calls.append((name, x.shape[-1], weight.shape[0], x.numel() // x.shape[-1]))
            return nn.functional.linear(x, weight, bias)

        return multiply

    def pair(self, name: str):
        def multiply(a, b):
            self.calls.append((name, a.shape[-1], b.shape[-1], a.numel() // a.shape[-1]))
            return a @ b

        return multiply

    @property
    def macs(self):
        return sum(k * m * n for _, k, m, n in self.calls)


class Conv1D(nn.Module):
    """A linear layer that stores its weight (in, out)."""

    def __init__(self, out, into):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(into, out)), nn.Parameter(torch.randn(out))

    def forward(self, x):
        return x @ self.weight + self.bias


class Fused(nn.Module):
    """Attention through torch's fused function, with grouped keys."""

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(16, 16), Conv1D(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 8)).transpose(1, 2).chunk(2, -1)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(y.transpose(1, 2).flatten(-2))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.body(self.embedding(tokens)))


def encoder(norm_first=False, batch_first=True):
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=batch_first, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "ours": (lambda: GPT(GPTConfig(30, 12, 16, 2, 4)), torch.arange(12)[None] % 30, 16),
    "fused": (Fused, torch.randn(2, 6, 16), 5),
    "encoder": (encoder, torch.randn(2, 6, 16), 12),
    "encoder, sequence first": (lambda: encoder(batch_first=False), torch.randn(6, 2, 16), 12),
    "tied": (Tied, torch.arange(6)[None], 1),
}


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(0)
    make, x, products = MODELS[request.param]
    return make().eval(), x, products


def test_exact_light_gives_the_same_result(case):
    model, x, products = case
    converted, light = shared_copy(model), Exact()
    done = convert(converted, light).conversion
    with torch.no_grad():
        assert torch.allclose(converted(x), model(x), atol=2e-5)
    assert len(done.optical) == products
    assert {name for name, *_ in light.calls} == set(done.optical)


def test_every_mac_but_the_heads_is_optical(case):
    model, x, _ = case
    converted, light = shared_copy(model), Exact()
    convert(converted, light)
    with torch.no_grad():
        converted(x)
    head = 30 * 16 * 12 if isinstance(model, GPT) else 20 * 8 * 6 if isinstance(model, Tied) else 0
    repeated = copy.deepcopy(model).train()  # torch's encoder layers leave their fast path
    assert light.macs == count_operations(repeated, x, tokens=1).macs - head


def test_state_dict_and_parameters_are_the_same(case):
    model, x, _ = case
    converted = shared_copy(model)
    convert(converted, Exact())
    assert list(converted.state_dict()) == list(model.state_dict())
    own = {id(p) for p in model.parameters()}
    assert {id(p) for p in converted.parameters()} == own
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        assert torch.allclose(converted(x), model(x), atol=2e-5), "a weight changed in place is shown again"


def test_the_original_is_untouched_and_gradients_flow(case):
    model, x, _ = case
    converted = shared_copy(model)
    convert(converted, Exact())
    assert routing_of(model) is None
    with digitally(converted):
        converted(x).sum().backward()
    assert all(p.grad is not None for p in converted.parameters())


def test_digitally_does_without_light(case):
    model, x, _ = case
    light = Exact()
    converted = shared_copy(model)
    convert(converted, light)
    with torch.no_grad(), digitally(converted):
        assert torch.allclose(converted(x), model(x), atol=2e-5)
    assert not light.calls


def test_masks_of_torchs_attention():
    torch.manual_seed(1)
    model, x = nn.MultiheadAttention(16, 4, batch_first=True).eval(), torch.randn(3, 5, 16)
    root = nn.ModuleDict({"a": model})
    converted = shared_copy(root)
    convert(converted, Exact())
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1, 3:] = True
    future = torch.ones(5, 5, dtype=torch.bool).triu(1)
    for extra in (
        {"key_padding_mask": padding},
        {"attn_mask": future},
        {"attn_mask": future, "key_padding_mask": padding},
        {"attn_mask": torch.randn(12, 5, 5)},
        {"average_attn_weights": False},
    ):
        expected, weights = model(x, x, x, **extra)
        got, got_weights = converted["a"](x, x, x, **extra)
        assert torch.allclose(got, expected, atol=1e-5)
        assert torch.allclose(got_weights, weights, atol=1e-5)
    one, _ = model(x[0], x[0], x[0])
    assert torch.allclose(converted["a"](x[0], x[0], x[0])[0], one, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
@pytest.mark.parametrize("norm", [None, nn.LayerNorm(8)], ids=["plain", "normalised"])
@pytest.mark.parametrize("is_trained", [False, True])
def test_padding_of_torchs_encoder_is_left_out_where_torch_leaves_it_out(norm, is_trained):
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 2, norm).eval().requires_grad_(is_trained), torch.randn(3, 6, 8)
    converted = shared_copy(model)
    convert(converted, Exact())
    last, between = torch.zeros(2, 3, 6, dtype=torch.bool)
    last[0, 4:] = last[2] = True
    between[0, 2] = True
    for padding in (last, between, torch.zeros(3, 6).masked_fill(last, -torch.inf), None):
        for call in (converted, converted.forward):
            for with_gradients in (False, True):
                with torch.set_grad_enabled(with_gradients):
                    expected = model(x, src_key_padding_mask=padding)
                    torch.testing.assert_close(call(x, src_key_padding_mask=padding), expected, rtol=1e-4, atol=1e-5)
    future = torch.ones(6, 6, dtype=torch.bool).triu(1)
    last[2] = False
    with torch.no_grad():
        expected, got = (each(x, future, last) for each in (model, converted))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_what_stays_digital_says_why():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.norm, self.kept = Own(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)
            self.apart, self.tied = nn.Conv1d(6, 6, 3, groups=6, padding=1), Tied()

        def forward(self, tokens):
            x = self.kept(self.norm(self.own(self.tied.embedding(tokens))))
            return self.tied.head(self.tied.body(self.apart(x) + x[..., :1] @ self.norm.weight[None, :1]))

    model = Mixed()
    done = convert(model, Exact(), keep=("kept",)).conversion
    tokens = torch.arange(6)[None]
    model(tokens)
    assert done.optical == ["tied.body", "own"]
    assert done.digital == {
        "norm": "normalisation",
        "kept": "kept by request",
        "apart": "convolution of a form that light has no way for",
        "tied.embedding": "embedding: a table, not a product",
        "tied.head": "output head",
        "the model itself": "an outer product: nothing is summed",
    }
    assert done.digital_macs == {
        "kept": 6 * 64, "apart": 6 * 8 * 3, "tied.head": 6 * 8 * 20, "the model itself": 6,
    }  # fmt: skip


def test_a_head_becomes_optical_when_asked():
    model = Tied()
    assert convert(model, Exact(), head=True).conversion.optical == ["body", "head"]
    assert model.head.weight is model.embedding.weight


@pytest.mark.parametrize("shape", [(8, 0), (0, 8)])
def test_layer_without_inputs_or_outputs_multiplies_nothing(shape):
    """Some architectures make one where two widths are the same."""
    with pytest.warns(UserWarning, match="zero-element"):
        empty = nn.Linear(*shape)
    converted = shared_copy(nn.Sequential(nn.Linear(8, shape[0]) if shape[0] else nn.Identity(), empty))
    done = convert(converted, Exact()).conversion
    x = torch.randn(3, shape[0] and 8)
    assert converted(x).shape == (3, shape[1])
    assert done.optical == (["0"] if shape[0] else [])
