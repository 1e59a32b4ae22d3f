"""Small architectures in plain torch, each with a way of its own to multiply. All take (B, n) tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

D, HEADS, VOCABULARY = 16, 4, 64


class OfTokens(nn.Module):
    """A table of embeddings, something in between, and a head with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, D), nn.Linear(D, 8)

    def mix(self, x: Tensor) -> Tensor:
        """(B, n, d) to (B, n, d)."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, n) to (B, n, 8)."""
        x: Tensor = self.table(input_ids)
        logits: Tensor = self.head(x + self.mix(x))
        return logits


class NanoGPT(OfTokens):
    """As nanoGPT has it without flash attention: one projection for three, a mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.register_buffer("bias", torch.tril(torch.ones(32, 32)).view(1, 1, 32, 32))

    def mix(self, x: Tensor) -> Tensor:
        b, t, c = x.size()
        q, k, v = self.c_attn(x).split(D, dim=2)
        q, k, v = (part.view(b, t, HEADS, c // HEADS).transpose(1, 2) for part in (q, k, v))
        att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        att = att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf")).softmax(-1)
        y: Tensor = self.c_proj((att @ v).transpose(1, 2).contiguous().view(b, t, c))
        return y


class Rearranged(OfTokens):
    """Attention as with einops: every product an `einsum` over named axes."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Parameter(torch.randn(3, HEADS, D, 4)), nn.Parameter(torch.randn(HEADS, 4, D))

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = torch.einsum("bnd,thde->tbhne", x, self.qkv)
        weights = torch.einsum("bhie,bhje->bhij", q, k).mul(0.5).softmax(-1)
        return torch.einsum("bhij,bhje,hed->bid", weights, v, self.out)


class Shared(OfTokens):
    """Products by bare parameters, and by the weights of other modules, both ways round."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate = nn.Parameter(torch.randn(D, 32)), nn.Linear(D, 32)

    def mix(self, x: Tensor) -> Tensor:
        hidden = (x @ self.up) * nn.functional.linear(x, self.gate.weight).sigmoid()
        logits = nn.functional.linear(hidden @ self.gate.weight, self.table.weight)
        return logits.softmax(-1) @ self.table.weight


class LinearAttention(OfTokens):
    """Keys and values summed up before the queries ask, token by token: a state instead of scores."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))

    def mix(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x).exp(), self.k(x).exp(), self.v(x)
        state, norm, out = x.new_zeros(len(x), D, D), x.new_zeros(len(x), D), []
        for t in range(x.shape[1]):
            state = state + k[:, t, :, None] * v[:, t, None, :]
            norm = norm + k[:, t]
            above = torch.bmm(q[:, t, None], state)[:, 0]
            out.append(above / (q[:, t] * norm).sum(-1, keepdim=True))
        return torch.stack(out, 1)


class Receptance(OfTokens):
    """Time mixing as in RWKV: decaying sums of exponentials, element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.value, self.receptance, self.output = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.decay, self.first = nn.Parameter(torch.rand(D)), nn.Parameter(torch.rand(D))

    def mix(self, x: Tensor) -> Tensor:
        before = nn.functional.pad(x, (0, 0, 1, -1))
        k, v, r = self.key(before).exp(), self.value(before), self.receptance(x).sigmoid()
        a = b = x.new_zeros(len(x), D)
        out = []
        for t in range(x.shape[1]):
            boost = self.first.exp() * k[:, t]
            out.append((a + boost * v[:, t]) / (b + boost + 1e-3))
            a, b = (self.decay * part + k[:, t] * more for part, more in ((a, v[:, t]), (b, 1.0)))
        y: Tensor = self.output(r * torch.stack(out, 1))
        return y


class StateSpace(OfTokens):
    """A selective scan as in Mamba: input and output of the state are matrices, its decay is not."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.c, self.step = nn.Linear(D, 4), nn.Linear(D, 4), nn.Linear(D, D)
        self.a = nn.Parameter(torch.rand(D, 4))

    def mix(self, x: Tensor) -> Tensor:
        b, c, step = self.b(x), self.c(x), nn.functional.softplus(self.step(x))
        h, out = x.new_zeros(len(x), D, 4), []
        for t in range(x.shape[1]):
            h = torch.exp(-step[:, t, :, None] * self.a.abs()) * h + (step[:, t] * x[:, t])[..., None] * b[:, t, None]
            out.append((h @ c[:, t, :, None])[..., 0])
        return torch.stack(out, 1)


class LongConvolution(OfTokens):
    """A convolution as long as the text, by Fourier transforms: a filter of each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.out = nn.Parameter(torch.randn(D, 32)), nn.Linear(D, D)

    def mix(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        spectrum = torch.fft.rfft(x.mT, 2 * n) * torch.fft.rfft(self.filter[:, :n], 2 * n)
        y: Tensor = self.out(torch.fft.irfft(spectrum, 2 * n)[..., :n].mT)
        return y


class Graph(OfTokens):
    """Messages along edges: once by a sparse matrix of the graph, once gathered and added up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, D), nn.Linear(2 * D, D)

    def mix(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        source = torch.arange(n)
        target = (source * 2 + 1) % n
        graph = torch.sparse_coo_tensor(torch.stack([target, source]), torch.full((n,), 0.5), (n, n))
        x = torch.stack([torch.sparse.mm(graph, self.first(each)) for each in x]).relu()
        messages = self.second(torch.cat([x[:, source], x[:, target]], -1))
        return torch.zeros_like(x).index_add(1, target, messages)


class Gated(OfTokens):
    """Gated recurrent cells, both ways, and one cell called by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.cell = nn.GRU(D, D // 2, batch_first=True, bidirectional=True), nn.LSTMCell(D, D)

    def mix(self, x: Tensor) -> Tensor:
        x, state = self.cells(x)[0], None
        out = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            out.append(state[0])
        return torch.stack(out, 1)


class Latents(OfTokens):
    """A Perceiver: latent vectors ask the tokens, each other, and are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(5, D))
        self.ask, self.think, self.tell = (nn.MultiheadAttention(D, HEADS, batch_first=True) for _ in range(3))

    def mix(self, x: Tensor) -> Tensor:
        z = self.latents.expand(len(x), -1, -1)
        z = self.ask(z, x, x, need_weights=False)[0]
        z = self.think(z, z, z)[0]
        y: Tensor = self.tell(x, z, z, need_weights=False)[0]
        return y


class UNet(OfTokens):
    """Down by strides, up by transposed convolutions, with a bridge."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv1d(D, 32, 3, stride=2, padding=1), nn.Conv1d(32, 32, 3, padding=2, dilation=2)
        self.up, self.join = nn.ConvTranspose1d(32, D, 3, stride=2, padding=1), nn.Conv1d(2 * D, D, 1)

    def mix(self, x: Tensor) -> Tensor:
        x = x.mT
        below = self.middle(self.down(x).relu()).relu()
        y: Tensor = self.join(torch.cat([x, self.up(below)], 1)).mT
        return y


class Capsules(OfTokens):
    """Votes of every capsule for every other, and three rounds of agreement."""

    def __init__(self) -> None:
        super().__init__()
        self.votes = nn.Parameter(torch.randn(4, 4, 4, 4))

    def mix(self, x: Tensor) -> Tensor:
        votes = torch.einsum("bnid,ijde->bnije", x.unflatten(-1, (4, 4)), self.votes)
        agreement = votes.new_zeros(votes.shape[:-1])
        for _ in range(3):
            s = (agreement.softmax(-1)[..., None] * votes).sum(-3)
            v = s * s.norm(dim=-1, keepdim=True) / (1 + s.square().sum(-1, keepdim=True))
            agreement = agreement + (votes * v[..., None, :, :]).sum(-1)
        return v.flatten(-2)


class Mixer(OfTokens):
    """Tokens are mixed by a matrix on the left, channels by one on the right."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.channels = nn.Parameter(torch.randn(9, 9)), nn.Linear(D, D)

    def mix(self, x: Tensor) -> Tensor:
        y: Tensor = self.channels((self.tokens @ x).relu())
        return y


class Written(OfTokens):
    """Attention as on paper: multiplied element by element, then summed."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(D, D))

    def mix(self, x: Tensor) -> Tensor:
        y = (x[..., None, :] * self.w).sum(-1)
        scores = (y[:, :, None] * y[:, None]).sum(-1).mul(0.1).softmax(-1)
        return (scores[..., None] * y[:, None]).sum(2)


class Hyper(OfTokens):
    """A small network writes the weights of another, for each text its own."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = nn.Linear(D, D * D)

    def mix(self, x: Tensor) -> Tensor:
        weights = self.writer(x.mean(1)).unflatten(-1, (D, D))
        return torch.bmm(x, weights).tanh()


class Experts(OfTokens):
    """A router sends each token to the best two of four, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(D, 4), nn.ModuleList(nn.Linear(D, D) for _ in range(4))

    def mix(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            share = (weights * (chosen == i)).sum(-1)
            here = share > 0
            y[here] += share[here][:, None] * expert(x[here])
        return y


class Retention(OfTokens):
    """Scores that fade with distance instead of a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))

    def mix(self, x: Tensor) -> Tensor:
        apart = torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])
        fade = torch.where(apart >= 0, 0.9 ** apart.clamp_min(0), 0.0)
        return ((self.q(x) @ self.k(x).mT) * fade) @ self.v(x) / D


class Flow(OfTokens):
    """One function of a learned field, integrated by Runge and Kutta: the same weights many times."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(D, 32), nn.Tanh(), nn.Linear(32, D))

    def mix(self, x: Tensor) -> Tensor:
        for _ in range(2):
            a = self.field(x)
            b = self.field(x + 0.25 * a)
            x = x + 0.5 * b
        return x


class Pairs(OfTokens):
    """Neighbours are compared by a bilinear form, by their distance, and by an inverse covariance."""

    def __init__(self) -> None:
        super().__init__()
        self.form, self.out = nn.Bilinear(D, D, D), nn.Linear(D + 9, D)

    def mix(self, x: Tensor) -> Tensor:
        apart = torch.cdist(x, x)
        spread = torch.linalg.inv(torch.eye(D) + x.mT @ x)
        y: Tensor = self.out(torch.cat([self.form(x, x.roll(1, 1)), (-apart).exp()], -1)) @ spread
        return y


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "nanoGPT": (NanoGPT, 1.000),
    "axes by name": (Rearranged, 1.000),
    "shared weights": (Shared, 0.448),
    "linear attention": (LinearAttention, 0.986),
    "receptance": (Receptance, 1.000),
    "selective scan": (StateSpace, 1.000),
    "long convolution": (LongConvolution, 0.479),
    "graph": (Graph, 0.982),
    "gated cells": (Gated, 1.000),
    "latents": (Latents, 1.000),
    "U-Net": (UNet, 0.789),
    "capsules": (Capsules, 1.000),
    "mixer": (Mixer, 1.000),
    "written out": (Written, 1.000),
    "hypernetwork": (Hyper, 1.000),
    "experts by hand": (Experts, 1.000),
    "retention": (Retention, 1.000),
    "flow": (Flow, 1.000),
    "pairs": (Pairs, 0.181),
}
"""Name → what makes it, and its share of MACs in light."""
