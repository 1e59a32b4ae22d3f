"""Small models in styles that few people write in. All take (B, n) tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from zoo_ours import HEADS, D, OfTokens


class Mapped(OfTokens):
    """Attention of one query and one head, mapped over heads, places and rows by `torch.func.vmap`."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Parameter(torch.randn(HEADS, D, D // HEADS)) for _ in range(3))

    def mix(self, x: Tensor) -> Tensor:
        def head(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = x @ k, x @ v
            return torch.func.vmap(lambda one: torch.softmax(keys @ one, 0) @ values)(x @ q)

        rows = torch.func.vmap(torch.func.vmap(head, (None, 0, 0, 0)), (0, None, None, None))
        return rows(x, self.q, self.k, self.v).transpose(1, 2).flatten(2)


class Accumulated(OfTokens):
    """A product as a loop of `addcmul_`, and messages that are gathered by `index_add_`."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.out = nn.Parameter(torch.randn(D, D)), nn.Linear(D, D)

    def mix(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for i in range(D):
            y = torch.addcmul(y, x[..., i : i + 1], self.w[i])
        places = torch.arange(x.shape[1]) // 2
        gathered = torch.zeros_like(x).index_add(1, places, x * self.w[0])
        z: Tensor = self.out(y + gathered)
        return z


class Cells(OfTokens):
    """Single cells of memory, one step after the other, each of another kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.LSTMCell(D, D), nn.GRUCell(D, D), nn.RNNCell(D, D)

    def mix(self, x: Tensor) -> Tensor:
        h = c = g = r = x.new_zeros(len(x), D)
        out = []
        for step in x.unbind(1):
            h, c = self.first(step, (h, c))
            g, r = self.second(h, g), self.third(g, r)
            out.append(r)
        return torch.stack(out, 1)


class Borrowed(OfTokens):
    """A layer that is called with weights that a product makes, and another inside a checkpointed function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.make = nn.Linear(D, D, bias=False), nn.Parameter(0.1 * torch.randn(D, D))
        self.wide = nn.Parameter(torch.randn(D, 2 * D))

    def mix(self, x: Tensor) -> Tensor:
        weights = {"weight": self.layer.weight @ self.make}
        y = torch.func.functional_call(self.layer, weights, (x,))
        return checkpoint(lambda y: (y @ self.wide).tanh() @ self.wide.T, y, use_reentrant=False)


class Kernels(OfTokens):
    """A convolution as windows and a product, a transposed one, and a bilinear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.back = nn.Parameter(torch.randn(D, 3 * D)), nn.ConvTranspose1d(D, D, 3, padding=1)
        self.both = nn.Bilinear(D, D, D)

    def mix(self, x: Tensor) -> Tensor:
        windows = nn.functional.pad(x, (0, 0, 1, 1)).unfold(1, 3, 1).flatten(2)
        y = windows @ self.kernel.T
        z: Tensor = self.both(y.tanh(), self.back(x.mT).mT.tanh())
        return z


class Tensors(OfTokens):
    """Products of whole tensors: `tensordot`, `inner`, `multi_dot`, `baddbmm`, a `kron` of small factors."""

    def __init__(self) -> None:
        super().__init__()
        self.cores = nn.ParameterList([nn.Parameter(torch.randn(4, 4)) for _ in range(2)])
        self.left, self.right = nn.Parameter(torch.randn(D, 4, 4)), nn.Parameter(torch.randn(4, 4, D))

    def mix(self, x: Tensor) -> Tensor:
        y = torch.tensordot(torch.tensordot(x, self.left, 1), self.right, 2)
        y = torch.inner(y, torch.kron(*self.cores))
        scores = torch.baddbmm(torch.eye(x.shape[1]).expand(len(x), -1, -1), y, x.mT, beta=0.5, alpha=0.25)
        return torch.stack([torch.linalg.multi_dot([s.softmax(-1), row, self.left.flatten(1)]) for s, row in
                            zip(scores, x, strict=True)])  # fmt: skip


class Normalised(OfTokens):
    """Steps in logarithms: running sums of exponentials, running products, a sum that is written as a view."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.value = nn.Linear(D, D), nn.Linear(D, D)
        self.w = nn.Parameter(torch.randn(D, D))

    def mix(self, x: Tensor) -> Tensor:
        decay, value = self.decay(x).sigmoid(), self.value(x)
        seen = torch.logcumsumexp(decay, 1) + decay.cumprod(1)
        return seen * value + (x[..., None] * self.w).mT.sum(-1)


ODD: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "mapped": (Mapped, 1.000),
    "accumulated": (Accumulated, 0.585),
    "cells one by one": (Cells, 1.000),
    "borrowed weights": (Borrowed, 0.861),
    "kernels": (Kernels, 0.156),
    "whole tensors": (Tensors, 1.000),
    "in logarithms": (Normalised, 0.690),
}
"""As `zoo_ours.ARCHITECTURES`."""
