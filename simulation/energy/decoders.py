"""Decoders as people run them: a prompt, then token by token with a cache of keys and values.

Operations follow from the shape by arithmetic; nothing is run. All scores of a pass are counted, masked ones too, as
`simulation.energy.operations` counts those of a model that it watches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from calibration.errors import OutOfDomain
from groundwork.errors import FileRefused
from groundwork.opening.toml_text import read_toml
from simulation.energy.operations import MatrixProduct, Operations
from simulation.energy.recurrent import Recurrent
from simulation.models.gpt import GPT, GPTConfig

HEAD = GPT.__name__
"""The layer of the output head, as `simulation.energy.operations` calls that of our own model."""
BLOCKS = "blocks.*"


@dataclass(frozen=True)
class Latent:
    """Keys and values of all heads as one vector of ``rank`` numbers, and a key of ``rotary`` that has the position.

    Attributes
    ----------
    rank, rotary
        Of what is cached for each token.
    plain, value
        Widths of a head's query without position, and of its value.
    query_rank
        Of the bottleneck before the queries.
    """

    rank: int
    rotary: int
    plain: int
    value: int
    query_rank: int


@dataclass(frozen=True)
class Decoder:
    """A decoder as its authors print it.

    Attributes
    ----------
    name, source
        As in the table.
    vocabulary, context, width, blocks, heads
        As of `simulation.models.gpt.GPTConfig`.
    kv_heads
        Heads of keys and values, each of which serves ``heads / kv_heads`` queries; 0: as many as heads.
    head_width
        Of keys and values; 0: width / heads.
    feed_forward
        Width of a block's inner layer; 0: 4 width.
    gated
        The inner layer is a product of two.
    rectified
        The inner layer cannot be negative.
    experts, active, expert_width
        Feed-forward layers of a block that a router chooses among, how many it chooses for a token, their inner width.
    shared
        Experts that see every token, beside the chosen ones.
    dense
        First blocks, whose feed-forward layer is one of ``feed_forward``.
    window, windowed
        How many blocks see the last ``window`` tokens only.
    latent
        `Latent`, for attention by a compressed cache; None: by heads.
    rotary
        Positions are rotations of queries and keys; otherwise they are added to the tokens.
    positions
        There are positions at all; recurrent blocks know the order without them.
    gated_attention
        The result of attention is multiplied by a gate for each of its numbers, a projection of its own.
    recurrent
        `Recurrent` blocks in the place of attention; None: all blocks have attention.
    bare
        Blocks without a feed-forward layer.
    """

    name: str
    source: str
    vocabulary: int
    context: int
    width: int
    blocks: int
    heads: int
    kv_heads: int = 0
    head_width: int = 0
    feed_forward: int = 0
    gated: bool = True
    rectified: bool = False
    experts: int = 0
    active: int = 0
    expert_width: int = 0
    shared: int = 0
    dense: int = 0
    window: int = 0
    windowed: int = 0
    latent: Latent | None = None
    rotary: bool = True
    positions: bool = True
    gated_attention: bool = False
    recurrent: Recurrent | None = None
    bare: int = 0

    def __post_init__(self) -> None:
        for name, default in (
            ("kv_heads", self.heads),
            ("head_width", self.width // self.heads if self.heads else 0),
            ("feed_forward", 4 * self.width),
        ):
            object.__setattr__(self, name, getattr(self, name) or default)
        sizes = [getattr(self, f.name) for f in fields(self) if f.type == "int"]
        above = (self.vocabulary, self.context, self.width, self.blocks)
        routed, attending = self.experts > 0, self.attending
        is_whole = all(type(size) is int and size >= 0 for size in sizes) and min(above) > 0
        if not (
            is_whole
            and attending >= 0
            and (self.kv_heads > 0 and self.heads % self.kv_heads == 0 if attending else not self.heads)
            and self.dense + self.bare <= self.blocks
            and self.windowed <= attending
            and (0 < self.active <= self.experts and self.expert_width > 0 if routed else not self.active)
            and bool(self.window) == bool(self.windowed)
        ):
            raise OutOfDomain("no decoder has this shape", device=self.name, expected=SHAPES, seen=str(self)[:300])

    @classmethod
    def of(cls, config: GPTConfig, name: str = "", source: str = "") -> Decoder:
        """A GPT-2-like decoder of this package."""
        return cls(
            name, source, config.vocabulary, config.context, config.width, config.blocks, config.heads,
            gated=False, rectified=True, rotary=False,
        )  # fmt: skip

    @property
    def attending(self) -> int:
        """Blocks that have attention."""
        return self.blocks - (0 if self.recurrent is None else self.recurrent.blocks)

    def kept(self, tokens: int) -> int:
        """Numbers of the keys and values of a sequence of so many tokens, as far as each block sees."""
        return self.cached * (self.attending * tokens - self.windowed * max(0, tokens - self.window))

    @property
    def states(self) -> int:
        """Numbers of the recurrent states of a sequence, whatever its length."""
        return 0 if self.recurrent is None else self.recurrent.blocks * self.recurrent.kept

    @property
    def parameters(self) -> int:
        """Of the matrices of the blocks, all experts [1]."""
        return sum(
            (p.batch + p.idle) * p.k * p.m
            for p in self.forward(1).products
            if p.kind == "linear" and p.layer.startswith(BLOCKS)
        )

    @property
    def cached(self) -> int:
        """Numbers that a block keeps for each token."""
        if self.latent is not None:
            return self.latent.rank + self.latent.rotary
        return 2 * self.kv_heads * self.head_width

    def forward(self, tokens: int) -> Operations:
        """One sequence, scored at every token: no cache, and so many vectors that fetching matrices is not counted."""
        return _operations(self, Span(1, tokens), logits=tokens, is_served=False)

    def prompt(self, sequences: int, tokens: int) -> Operations:
        """Prompts are read, keys and values go into the cache, and the last token has logits."""
        return _operations(self, Span(sequences, tokens), logits=sequences, is_served=True)

    def step(self, sequences: int, length: int) -> Operations:
        """One more token of each sequence, which then has ``length`` tokens."""
        return _operations(self, Span(sequences, 1, length - 1), logits=sequences, is_served=True)


SHAPES = "whole sizes; heads that are a multiple of kv_heads; active ≤ experts of some expert_width"


@dataclass(frozen=True)
class Span:
    """What goes through a decoder in one pass: ``new`` tokens of each sequence, after ``cached`` ones."""

    sequences: int
    new: int
    cached: int = 0

    def __post_init__(self) -> None:
        if min(self.sequences, self.new) < 1 or self.cached < 0:
            raise OutOfDomain("no tokens go through the model", expected="at least one", seen=str(self))

    @property
    def tokens(self) -> int:
        """That are computed."""
        return self.sequences * self.new

    @property
    def length(self) -> int:
        """That each sequence has in the end."""
        return self.cached + self.new


@dataclass
class _Counts:
    """Products and elementwise operations of all blocks, which are alike but for their kinds."""

    span: Span
    products: list[MatrixProduct] = field(default_factory=list)
    elementwise: dict[tuple[str, str], int] = field(default_factory=dict)

    def linear(self, layer: str, k: int, m: int, matrices: int, *, non_negative: bool = False) -> None:
        self.products.append(MatrixProduct(layer, "linear", self.span.tokens, k, m, matrices, non_negative))

    def elements(self, layer: str, kind: str, count: int) -> None:
        self.elementwise[layer, kind] = self.elementwise.get((layer, kind), 0) + count


def _operations(decoder: Decoder, span: Span, logits: int, is_served: bool) -> Operations:
    counts, kept = _Counts(span), 0
    for blocks, seen in _by_window(decoder, span):
        if decoder.latent is None:
            _attention(counts, decoder, blocks, seen)
        else:
            _latent_attention(counts, decoder, decoder.latent, blocks, seen)
        kept += blocks * span.sequences * (seen - span.new if span.cached else 0)
    _recurrent(counts, decoder)
    _feed_forward(counts, decoder)
    per_block = decoder.blocks * span.tokens * decoder.width
    halves = 2 * per_block - decoder.bare * span.tokens * decoder.width
    counts.elements(f"{BLOCKS}.norm", "norm", halves)
    counts.elements("norm", "norm", span.tokens * decoder.width)
    counts.elements(f"{BLOCKS}.residual", "residual", halves)
    if decoder.positions and not decoder.rotary:
        counts.elements("positions", "residual", span.tokens * decoder.width)
    counts.products.append(MatrixProduct(HEAD, "linear", logits, decoder.width, decoder.vocabulary))
    written = decoder.attending * span.tokens if is_served else 0
    return Operations(
        span.tokens, tuple(counts.products), counts.elementwise,
        is_served=is_served, cache_read=decoder.cached * kept, cache_written=decoder.cached * written,
        state_read=span.sequences * decoder.states if span.cached else 0,
        state_written=span.sequences * decoder.states if is_served else 0,
    )  # fmt: skip


def _recurrent(counts: _Counts, decoder: Decoder) -> None:
    """The blocks that have a state, which a pass reads and writes whole."""
    found = decoder.recurrent
    if found is None:
        return

    def linear(layer: str, k: int, m: int) -> None:
        counts.linear(layer, k, m, found.blocks)

    found.count(f"{BLOCKS}.recurrent", decoder.width, counts.span.tokens, linear, counts.elements)


def _by_window(decoder: Decoder, span: Span) -> Iterator[tuple[int, int]]:
    """How many blocks see how many tokens."""
    if decoder.attending > decoder.windowed:
        yield decoder.attending - decoder.windowed, span.length
    if decoder.windowed:
        yield decoder.windowed, min(span.length, max(decoder.window, span.new if span.cached else 0))


def _attention(counts: _Counts, decoder: Decoder, blocks: int, seen: int) -> None:
    """Queries of a group share the keys and the values of one head."""
    span, d = counts.span, decoder.head_width
    group = decoder.heads // decoder.kv_heads
    layer = f"{BLOCKS}.attention"
    for name, heads in (("query", decoder.heads), ("key", decoder.kv_heads), ("value", decoder.kv_heads)):
        counts.linear(f"{layer}.{name}", decoder.width, heads * d, blocks)
    counts.linear(f"{layer}.output", decoder.heads * d, decoder.width, blocks)
    if decoder.gated_attention:
        counts.linear(f"{layer}.gate", decoder.width, decoder.heads * d, blocks)
        for kind in ("activation", "gate"):
            counts.elements(layer, kind, blocks * span.tokens * decoder.heads * d)
    new = d * span.new if span.cached or seen < span.length else None
    each = blocks * span.sequences * decoder.kv_heads
    _scores(counts, layer, (each, group * span.new), (d, seen, d), new)
    if decoder.positions and decoder.rotary:
        counts.elements(layer, "rotary", blocks * span.tokens * (decoder.heads + decoder.kv_heads) * d)


def _scores(
    counts: _Counts, layer: str, rows: tuple[int, int], widths: tuple[int, int, int], new: int | None,
    new_values: int | None = None,
) -> None:  # fmt: skip
    """(batch, n) queries of a width against ``seen`` keys, and the weights of attention against as many values."""
    (batch, n), (width, seen, value) = rows, widths
    new_values = new if new_values is None else new_values
    counts.products.append(MatrixProduct(f"{layer}.qk", "attention", n, width, seen, batch, new=new))
    counts.products.append(MatrixProduct(f"{layer}.av", "attention", n, seen, value, batch, True, new=new_values))
    counts.elements(layer, "softmax", batch * n * seen)


def _latent_attention(counts: _Counts, decoder: Decoder, latent: Latent, blocks: int, seen: int) -> None:
    """A prompt expands the cache to keys and values; a step maps its queries to the cache, and its result back.

    In a step all heads share the one cache, which lies on the modulators twice, as keys and as values.
    """
    span, heads = counts.span, decoder.heads
    layer, query = f"{BLOCKS}.attention", latent.plain + latent.rotary
    counts.linear(f"{layer}.query_down", decoder.width, latent.query_rank, blocks)
    counts.linear(f"{layer}.query", latent.query_rank, heads * query, blocks)
    counts.linear(f"{layer}.latent", decoder.width, latent.rank + latent.rotary, blocks)
    counts.linear(f"{layer}.output", heads * latent.value, decoder.width, blocks)
    counts.elements(f"{layer}.norm", "norm", blocks * span.tokens * (latent.query_rank + latent.rank))
    counts.elements(layer, "rotary", blocks * span.tokens * (heads + 1) * latent.rotary)
    keys, values = f"{layer}.key", f"{layer}.value"
    if not span.cached:
        counts.linear(keys, latent.rank, heads * latent.plain, blocks)
        counts.linear(values, latent.rank, heads * latent.value, blocks)
        _scores(counts, layer, (blocks * span.sequences * heads, span.new), (query, seen, latent.value), None)
        return
    counts.linear(keys, latent.plain, latent.rank, blocks * heads)
    counts.linear(values, latent.rank, latent.value, blocks * heads)
    cached = latent.rank + latent.rotary
    _scores(
        counts, layer, (blocks * span.sequences, heads * span.new), (cached, seen, latent.rank),
        cached * span.new, latent.rank * span.new,
    )  # fmt: skip


def _feed_forward(counts: _Counts, decoder: Decoder) -> None:
    dense = decoder.dense if decoder.experts else decoder.blocks - decoder.bare
    ways = 2 if decoder.gated else 1
    if dense:
        _inner(counts, decoder, f"{BLOCKS}.ffn", decoder.feed_forward, dense)
    routed = decoder.blocks - decoder.bare - dense
    if not routed:
        return
    tokens, width = counts.span.tokens, decoder.expert_width
    counts.linear(f"{BLOCKS}.ffn.router", decoder.width, decoder.experts, routed)
    counts.elements(f"{BLOCKS}.ffn.router", "softmax", routed * tokens * decoder.experts)
    if decoder.shared:
        _inner(counts, decoder, f"{BLOCKS}.ffn.shared", decoder.shared * width, routed)
    layer = f"{BLOCKS}.ffn.experts"
    for name, k, m in (("up", decoder.width, ways * width), ("down", width, decoder.width)):
        non_negative = decoder.rectified and name == "down"
        counts.products += _shared_out(decoder, f"{layer}.{name}", tokens, (k, m, routed), non_negative)
    counts.elements(layer, "activation", routed * tokens * decoder.active * width)
    gates = routed * tokens * decoder.active * ((ways - 1) * width + decoder.width)
    counts.elements(layer, "gate", gates)
    counts.elements(layer, "residual", routed * tokens * decoder.active * decoder.width)


def _inner(counts: _Counts, decoder: Decoder, layer: str, width: int, blocks: int) -> None:
    """One feed-forward layer, which all tokens see."""
    tokens, ways = counts.span.tokens, 2 if decoder.gated else 1
    counts.linear(f"{layer}.up", decoder.width, ways * width, blocks)
    counts.linear(f"{layer}.down", width, decoder.width, blocks, non_negative=decoder.rectified)
    counts.elements(layer, "activation", blocks * tokens * width)
    if decoder.gated:
        counts.elements(layer, "gate", blocks * tokens * width)


def asked(experts: int, active: int, tokens: int) -> int:
    """Experts of a block that at least one of the tokens asks, expected of a router without favourites.

    ``E (1 − (1 − a/E)^tokens)``, rounded; one token asks ``a`` of them.
    """
    return min(experts, max(active, round(experts * (1 - (1 - active / experts) ** tokens))))


def _shared_out(
    decoder: Decoder, layer: str, tokens: int, sizes: tuple[int, int, int], non_negative: bool
) -> Iterator[MatrixProduct]:
    """The tokens' choices, shared out evenly among the experts that are asked; the others are idle."""
    k, m, blocks = sizes
    busy = asked(decoder.experts, decoder.active, tokens)
    share, rest = divmod(tokens * decoder.active, busy)
    idle = blocks * (decoder.experts - busy)
    for n, experts in ((share + 1, rest), (share, busy - rest)):
        if experts:
            yield MatrixProduct(
                layer, "linear", n, k, m, blocks * experts, non_negative, idle=idle, stage=tokens
            )  # fmt: skip
            idle = 0


def load_decoders(path: Path) -> dict[str, Decoder]:
    """By name, from a TOML table with one table per model.

    Raises
    ------
    OutOfDomain
        When the file is not TOML, or a decoder has no source, unknown keys or impossible sizes.
    """
    try:
        table = read_toml(path)
    except FileRefused as error:
        raise OutOfDomain("the table of decoders is not TOML", device=str(path), seen=str(error)) from error
    return {name: _decoder(path, name, entry) for name, entry in table.items()}


def _decoder(path: Path, name: str, entry: Any) -> Decoder:
    if not isinstance(entry, dict) or not str(entry.get("source", "")).strip():
        raise OutOfDomain("a decoder has no source", device=f"{path.name}: {name}", expected="a citation")
    try:
        parts: dict[str, Any] = {"latent": Latent, "recurrent": Recurrent}
        made = {part: of(**entry.pop(part)) for part, of in parts.items() if part in entry}
        return Decoder(name, **made, **entry)
    except TypeError as error:
        raise OutOfDomain("no decoder has this shape", device=f"{path.name}: {name}", seen=str(error)) from error
