"""A GPT-2-like decoder as in the paper: pre-LayerNorm, ReLU6, learned positions, tied head, no bias where light works.

What becomes optical is a module of its own, the attention products too, so that it can be hooked or replaced by name:
``blocks.{i}.attention.{query,key,value,output,qk,av}`` and ``blocks.{i}.ffn.{up,down}``. The rest stays digital.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calibration.errors import OutOfDomain


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model.

    Attributes
    ----------
    vocabulary
        V, number of tokens.
    context
        Longest sequence, in tokens.
    width
        d; the feed-forward layer is 4d wide.
    blocks
        Number of Transformer blocks.
    heads
        h; each head is d/h wide.
    """

    vocabulary: int
    context: int = 128
    width: int = 128
    blocks: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        sizes = (self.vocabulary, self.context, self.width, self.blocks, self.heads)
        if not all(type(size) is int and size > 0 for size in sizes) or self.width % self.heads:
            raise OutOfDomain(
                "no model has this shape",
                expected="positive whole sizes, and a width that is a multiple of the heads",
                seen=str(self),
                hint="width 128 goes with 4 heads",
            )


class GPT(nn.Module):
    """Tokens in, logits of the next token out.

    Parameters
    ----------
    config
        The shape of the model.
    generator
        Where the initial weights are drawn from; the global generator if None.
    """

    def __init__(self, config: GPTConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)  # (V, d), also the output head
        self.position = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self._initialise(generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token after each one.

        Parameters
        ----------
        tokens
            (B, T) int64, T at most ``config.context``.

        Returns
        -------
        (B, T, V) float32.

        Raises
        ------
        OutOfDomain
            If the sequence is longer than the context.
        """
        time = tokens.shape[1]
        if time > self.config.context:
            raise OutOfDomain(
                "sequence longer than the model's context",
                expected=f"at most {self.config.context} tokens",
                seen=f"{time} tokens",
                hint="cut the text into windows of the context length",
            )
        x = self.embedding(tokens) + self.position(torch.arange(time, device=tokens.device))  # (B, T, d)
        for block in self.blocks:
            x = block(x)
        return nn.functional.linear(self.norm(x), self.embedding.weight)  # (B, T, V)

    def _initialise(self, generator: torch.Generator | None) -> None:
        residual = 1 / math.sqrt(2 * self.config.blocks)  # GPT-2: the sum over 2 branches per block keeps its size
        for name, parameter in self.named_parameters():
            if name in ("embedding.weight", "position.weight"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif parameter.ndim == 2:  # (out, in)
                gain = residual if name.endswith(("attention.output.weight", "ffn.down.weight")) else 1.0
                nn.init.normal_(parameter, std=gain / math.sqrt(parameter.shape[1]), generator=generator)


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + ffn(norm(x))``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        x = x + self.attention(self.attention_norm(x))
        out: Tensor = x + self.ffn(self.ffn_norm(x))
        return out


class Attention(nn.Module):
    """Causal self-attention of h heads: ``softmax(Q Kᵀ / √d_head) V``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.qk = Product()
        self.av = Product()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        batch, time, width = x.shape
        q, k, v = (
            linear(x).view(batch, time, self.heads, width // self.heads).transpose(1, 2)  # (B, h, T, d_head)
            for linear in (self.query, self.key, self.value)
        )
        scores = self.qk(q, k.transpose(-1, -2)) / math.sqrt(width // self.heads)  # (B, h, T, T)
        future = torch.ones(time, time, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, -math.inf).softmax(-1)  # (B, h, T, T)
        mixed = self.av(weights, v).transpose(1, 2).reshape(batch, time, width)  # (B, T, d)
        out: Tensor = self.output(mixed)
        return out


class FeedForward(nn.Module):
    """``down(ReLU6(up(x)))``, 4d wide; what ``down`` receives lies in 0..6, so its light needs no negative pass."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.activation = nn.ReLU6()
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) to (B, T, d)."""
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


class Product(nn.Module):
    """``a @ b`` as a module: an attention product that can be hooked, or replaced by light."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        return a @ b
