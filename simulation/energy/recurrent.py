"""Blocks that keep a state of fixed size instead of keys and values: selective scans, and gated delta rules.

Their projections are matrices, and in light as all others. The short convolution along the text multiplies each channel
by numbers of its own, and the state of each channel goes on by products of single numbers: no vector meets a matrix
that others meet. So both are elementwise work of a processor, in the form in which a token is generated. A prompt may
be read in another form, of matrix products between pieces of the text (arXiv 2405.21060, 2412.06464), which takes more
multiplications and less time; it is digital, too, and not counted so.

Per token, channel and number of the state seven operations: ``h ← a h + b`` and ``y = Σ c h``, with ``a = exp(Δ A)``
and ``b = B (Δ x)`` in a scan (Gu and Dao, arXiv 2312.00752, algorithm 2), and in a gated delta rule
``S ← a S + k (β (v − a Sᵀ k))ᵀ``, ``y = Sᵀ q`` (Yang, Kautz and Hatamizadeh, arXiv 2412.06464), where a scales the
state once before both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, get_args

from calibration.errors import OutOfDomain

Rule = Literal["scan", "delta"]
Linear = Callable[[str, int, int], None]
"""Notes a matrix: its layer, inputs, outputs."""
Elements = Callable[[str, str, int], None]
"""Notes elementwise work: its layer, kind, elements."""


@dataclass(frozen=True)
class Recurrent:
    """The recurrent blocks of a decoder.

    Attributes
    ----------
    rule
        ``"scan"``: Mamba; ``"delta"``: a gated delta rule.
    blocks
        How many blocks are recurrent; the others have attention.
    inner
        Channels of what goes through the state: of a delta rule heads × width of a value.
    state
        Numbers of the state for each of them: of a delta rule the width of a key.
    kernel
        Tokens that the convolution before it sees.
    rank
        Of a scan: of the bottleneck before the steps Δ.
    normed
        Of a scan: Δ, B and C are normalised, as in Jamba.
    keys, heads
        Of a delta rule: all keys of a token together, and heads of values, each with a decay and a gate.
    """

    rule: Rule
    blocks: int
    inner: int
    state: int
    kernel: int
    rank: int = 0
    normed: bool = False
    keys: int = 0
    heads: int = 0

    def __post_init__(self) -> None:
        sizes = [getattr(self, field.name) for field in fields(self) if field.type == "int"]
        own, other = (self.rank, self.keys + self.heads) if self.rule == "scan" else (self.keys * self.heads, self.rank)
        is_whole = all(type(size) is int and size >= 0 for size in sizes)
        if self.rule not in get_args(Rule) or not is_whole or min(*sizes[:4], own) < 1 or other:
            raise OutOfDomain(
                "no recurrent block has this shape",
                expected="a scan with a rank, or a delta rule with keys and heads; whole sizes",
                seen=str(self),
            )

    @property
    def channels(self) -> int:
        """That the convolution sees."""
        return self.inner if self.rule == "scan" else 2 * self.keys + self.inner

    @property
    def kept(self) -> int:
        """Numbers of one block for one sequence: its state, and the last tokens that the convolution sees again."""
        return self.inner * self.state + (self.kernel - 1) * self.channels

    def count(self, layer: str, width: int, tokens: int, linear: Linear, elements: Elements) -> None:
        """Note what these blocks of a decoder of a width do for so many tokens."""
        each = self.blocks * tokens
        if self.rule == "scan":
            linear(f"{layer}.input", width, 2 * self.inner)
            linear(f"{layer}.parameters", self.inner, self.rank + 2 * self.state)
            linear(f"{layer}.steps", self.rank, self.inner)
            elements(layer, "activation", 3 * each * self.inner)  # after the convolution, of the gate, and of Δ
            elements(layer, "gate", 3 * each * self.inner)  # Δ x, D x, and the gate
            elements(layer, "residual", each * self.inner)
            if self.normed:
                elements(f"{layer}.norm", "norm", each * (self.rank + 2 * self.state))
        else:
            linear(f"{layer}.input", width, 2 * self.keys + 2 * self.inner)
            linear(f"{layer}.gates", width, 2 * self.heads)
            elements(layer, "activation", each * (self.channels + self.inner + 2 * self.heads))
            elements(layer, "gate", 2 * each * self.inner)  # β, and the gate of the result
            elements(layer, "residual", each * self.inner)  # v − Sᵀ k
            elements(f"{layer}.norm", "norm", each * (2 * self.keys + self.inner))
        linear(f"{layer}.output", self.inner, width)
        elements(layer, "convolution", each * self.channels * self.kernel)
        elements(layer, "state", each * self.inner * self.state)
