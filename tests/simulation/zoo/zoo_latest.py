"""What was written of late: compressed caches, sinks, fast weights, splines, weights that are made up on the way."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, stack_module_state
from zoo_models import BART, EXPERTS, GROUPED, IMAGE, TEXT, Case, image, text, translation
from zoo_ours import HEADS, D, OfTokens

LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
FEW = {**EXPERTS, "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4, "n_shared_experts": 1,
       "num_shared_experts": 1, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1,
       "first_k_dense_replace": 1}  # fmt: skip


def heads(x: Tensor) -> Tensor:
    """(B, n, d) to (B, heads, n, d / heads)."""
    return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Absorbed(OfTokens):
    """Attention to compressed keys, as it decodes: what would expand them is absorbed into query and answer."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.down, self.turned = nn.Linear(D, HEADS * 6), nn.Linear(D, 6), nn.Linear(D, 2)
        self.up, self.back = (nn.Parameter(torch.randn(HEADS, 4, 6)) for _ in range(2))

    def mix(self, x: Tensor) -> Tensor:
        q, cache = heads(self.query(x)), self.down(x)
        asked = torch.einsum("bhtd,hdc->bhtc", q[..., :4], self.up)
        scores = asked @ cache[:, None].mT + q[..., 4:] @ self.turned(x)[:, None].mT
        answers = (scores / math.sqrt(6)).softmax(-1) @ cache[:, None]
        return torch.einsum("bhtc,hdc->bhtd", answers, self.back).transpose(1, 2).flatten(2)


class Sinks(OfTokens):
    """A sliding window, two learned keys that are always seen, and a score that takes weight and gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.sink = nn.Linear(D, 3 * D), nn.Parameter(torch.randn(HEADS))
        self.keys, self.values = (nn.Parameter(torch.randn(HEADS, 2, D // HEADS)) for _ in range(2))

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = (heads(part) for part in self.all(x).chunk(3, -1))
        k, v = (torch.cat([own.expand(len(x), -1, -1, -1), t], 2) for own, t in ((self.keys, k), (self.values, v)))
        i, j = torch.arange(x.shape[1])[:, None], torch.arange(-2, x.shape[1])
        scores = (q @ k.mT / 2).masked_fill(~((j < 0) | ((j <= i) & (i - j < 4))), -torch.inf)
        sink = self.sink[:, None, None].expand(len(x), -1, x.shape[1], 1)
        weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        return (weights @ v).transpose(1, 2).flatten(2)


class FastWeights(OfTokens):
    """A matrix that learns each token by the delta rule while it reads, and is asked for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.rate = nn.Linear(D, 3 * D), nn.Linear(D, 1)

    def mix(self, x: Tensor) -> Tensor:
        (q, k, v), rate = self.all(x).chunk(3, -1), self.rate(x).sigmoid()
        k, held, answers = nn.functional.normalize(k, dim=-1), x.new_zeros(len(x), D, D), []
        for t in range(x.shape[1]):
            error = v[:, t] - torch.einsum("bij,bj->bi", held, k[:, t])
            held = held + rate[:, t, :, None] * error[:, :, None] * k[:, t, None]
            answers.append((held @ q[:, t, :, None])[..., 0])
        return torch.stack(answers, 1)


class Splines(OfTokens):
    """Curves of each input as a sum of bumps, in place of a matrix and an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.heights = nn.Parameter(torch.randn(D, D, 5))

    def mix(self, x: Tensor) -> Tensor:
        bumps = torch.exp(-((x.tanh()[..., None] - torch.linspace(-1, 1, 5)) ** 2))
        return torch.einsum("btig,iog->bto", bumps, self.heights)


class Decomposed(OfTokens):
    """A weight with a correction of low rank, whose rows are then given lengths of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.lengths = nn.Linear(D, D), nn.Parameter(torch.rand(D, 1))
        self.a, self.b = nn.Parameter(torch.randn(4, D)), nn.Parameter(torch.randn(D, 4))

    def mix(self, x: Tensor) -> Tensor:
        weight = self.layer.weight + self.b @ self.a
        return nn.functional.linear(x, self.lengths * weight / weight.norm(dim=1, keepdim=True), self.layer.bias)


class Ensemble(OfTokens):
    """Three layers whose weights are stacked and mapped over, as `torch.func` has it."""

    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Linear(D, D) for _ in range(3))

    def mix(self, x: Tensor) -> Tensor:
        stacked, _ = stack_module_state(list(self.members))
        return torch.func.vmap(lambda weights: functional_call(self.members[0], weights, (x,)))(stacked).sum(0)


class Tangents(OfTokens):
    """A layer and how it would change, by forward differentiation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.direction = nn.Linear(D, D), nn.Linear(D, D)

    def mix(self, x: Tensor) -> Tensor:
        value, change = jvp(lambda z: self.layer(z).tanh(), (x,), (self.direction(x),))
        total: Tensor = value + change
        return total


class Chosen(OfTokens):
    """Experts whose matrices are gathered for each token, with one for all beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.shared = nn.Linear(D, 4, bias=False), nn.Linear(D, D)
        self.up, self.down = nn.Parameter(torch.randn(4, 24, D)), nn.Parameter(torch.randn(4, D, 24))

    def mix(self, x: Tensor) -> Tensor:
        share, chosen = self.route(x).softmax(-1).topk(2, -1)
        hidden = nn.functional.silu(torch.einsum("btd,btkfd->btkf", x, self.up[chosen]))
        y: Tensor = torch.einsum("btkf,btkdf->btkd", hidden, self.down[chosen])
        mixed: Tensor = self.shared(x) + (y * share[..., None]).sum(2)
        return mixed


LATEST_OURS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "absorbed": (Absorbed, 1.000),
    "sinks": (Sinks, 1.000),
    "fast weights": (FastWeights, 1.000),
    "splines": (Splines, 1.000),
    "decomposed": (Decomposed, 0.871),
    "ensemble": (Ensemble, 1.000),
    "tangents": (Tangents, 1.000),
    "chosen": (Chosen, 1.000),
}
"""Architecture → what makes it, and its share of MACs in light."""

LATEST: dict[str, Case] = {
    "DeepSeek 3.2, indexed": (
        "DeepseekV32ForCausalLM",
        {**TEXT, **LATENT, **FEW, "num_key_value_heads": 4, "index_topk": 4, "index_n_heads": 2, "index_head_dim": 16},
        text,
        0.922,
    ),
    "MiniCPM 3": ("MiniCPM3ForCausalLM", {**TEXT, **LATENT, "num_key_value_heads": 4}, text, 0.917),
    "MiniMax M2": ("MiniMaxM2ForCausalLM", FEW, text, 0.940),
    "Afmoe": ("AfmoeForCausalLM", FEW, text, 0.908),
    "Apertus": ("ApertusForCausalLM", GROUPED, text, 0.883),
    "NLLB, experts": (
        "NllbMoeForConditionalGeneration",
        {**BART, "num_experts": 4, "encoder_sparse_step": 1, "decoder_sparse_step": 1, "max_position_embeddings": 64},
        translation,
        0.985,
    ),
    "MobileBERT": (
        "MobileBertForMaskedLM",
        {**TEXT, "embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
        text,
        1.000,
    ),
    "DINOv2 with registers": ("Dinov2WithRegistersModel", IMAGE, image, 1.000),
}
