"""What a model computes: counted by watching it, or by its shape where only that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from groundwork.nearest import did_you_mean
from labctl.errors import UsageError
from labctl.resources import data_path, shipped_model
from labctl.studies.serving import Conversation
from simulation.conversion.convert import heads_of
from simulation.energy.decoders import HEAD, Decoder, load_decoders
from simulation.energy.operations import Operations, count_operations
from simulation.energy.shapes import load_shapes
from simulation.models.checkpoint import load_checkpoint
from simulation.models.language import Language
from simulation.models.loading import load_language

DIGITAL = (HEAD, "lm_head")
"""What stays digital, as in the paper: the output head."""
RECURRENT = re.compile(
    r"mamba|rwkv|ssm|selectivescan|rg_?lru|recurrent|delta_?net|gateddelta|[ms]lstm|xlstm|retention|shortconv"
    r"|linearattention|lightningattention|hyena|griffin",
    re.I,
)
"""In the name of a module's class: it keeps a state from token to token."""
LONGEST = 4096
"""Tokens of a forward pass of an open decoder, whose own context may be longer."""


@dataclass(frozen=True)
class Traced:
    """What a model computes.

    Attributes
    ----------
    operations
        Of one forward pass, or of one step of a conversation.
    name, width, parameters
        What was counted; parameters are those of its blocks.
    blocks, head_width
        Of the model; 0 where it does not say.
    heads
        Names of the modules that give the logits.
    decoder
        Its shape; None where it is no decoder that is known here.
    """

    operations: Operations
    name: str
    width: int
    parameters: int
    blocks: int = 0
    head_width: int = 0
    heads: tuple[str, ...] = DIGITAL
    decoder: Decoder | None = None

    def in_conversation(self, conversation: Conversation) -> Traced:
        """One step of a conversation instead.

        Raises
        ------
        UsageError
            Where it is not known how the model decodes, or the conversation is too long for it.
        """
        if self.decoder is None:
            raise UsageError(
                "how this model decodes is not known here", device=self.name,
                expected="a decoder whose configuration gives the operations that were counted",
                seen=f"{self.operations.macs} MACs in a forward pass", hint="leave --generate out",
            )  # fmt: skip
        return replace(self, operations=conversation.of(self.decoder), heads=DIGITAL)


def known_shapes() -> dict[str, Decoder]:
    """Decoders of both tables by name: published GPT-2-like ones, then open ones of 2023 to 2026."""
    shapes = load_shapes(data_path("energy/models.toml"))
    found = {name: Decoder.of(shape.config, name, shape.source) for name, shape in shapes.items()}
    return found | load_decoders(data_path("energy/decoders.toml"))


def operations_for(model: str | None, shape: str | None, tokens: int | None = None) -> Traced:
    """What a model computes: a checkpoint, whatever `load_language` takes, or a published shape.

    Parameters
    ----------
    tokens
        Of one forward pass; a full context if None, of open decoders `LONGEST` at most.

    Raises
    ------
    UsageError
        When there is no such shape, or it takes fewer tokens.
    ArtefactError
        When there is no such model.
    """
    if shape is not None:
        shapes = known_shapes()
        if shape not in shapes:
            raise UsageError(
                "no such model shape", expected=", ".join(shapes), seen=repr(shape),
                hint=did_you_mean(shape, shapes, "every shape on one page: labctl energy --report energy.html"),
            )  # fmt: skip
        return of_decoder(shapes[shape], tokens)
    path = shipped_model() if model is None else Path(model)
    if path.suffix == ".safetensors":
        loaded = load_checkpoint(path).model
        config = loaded.config
        length = _length(path.stem, tokens, config.context, config.context)
        counted = count_operations(loaded, torch.zeros(1, length, dtype=torch.long), tokens=length)
        known = of_decoder(Decoder.of(config, path.stem), length)
        return replace(known, operations=counted)
    language = load_language(str(model), to_score=False)
    _require_no_recurrence(language)
    length = _length(language.name, tokens, language.context, language.context)
    counted = count_operations(language.model, torch.zeros(1, length, dtype=torch.long), tokens=length)
    return _of_language(language, counted)


def _require_no_recurrence(language: Language) -> None:
    """Refuse a model part of whose work is a recurrence.

    What is seen of it depends on how its library writes it: products between pieces of the text, or single numbers one
    after the other, which are not counted. Neither is what a bill should stand for.

    Raises
    ------
    UsageError
        With the class of the first such module.
    """
    named = ((name, type(module).__name__) for name, module in language.model.named_modules())
    found = next((f"{name or 'the model'} ({kind})" for name, kind in named if RECURRENT.search(kind)), None)
    if found is not None:
        raise UsageError(
            "a recurrence is not counted by watching the model", device=language.name,
            expected="a model of matrices and attention, or a shape whose recurrent blocks are counted",
            seen=found, hint="--shape mamba-2.8b, --shape jamba-v0.1 or --shape qwen3-next-80b-a3b",
        )  # fmt: skip


def of_decoder(decoder: Decoder, tokens: int | None = None) -> Traced:
    """A forward pass of a shape."""
    length = _length(decoder.name, tokens, decoder.context, LONGEST)
    return Traced(
        decoder.forward(length), decoder.name, decoder.width, decoder.parameters, decoder.blocks, decoder.head_width,
        decoder=decoder,
    )  # fmt: skip


def _length(name: str, tokens: int | None, context: int, longest: int) -> int:
    if tokens is not None and not 1 <= tokens <= context:
        raise UsageError(
            "not so many tokens in a forward pass", device=name, expected=f"1 … {context}", seen=str(tokens),
            hint=f"--context {context}",
        )  # fmt: skip
    return min(context, longest) if tokens is None else tokens


def _of_language(language: Language, counted: Operations) -> Traced:
    heads = tuple(heads_of(language.model))
    outside = {id(p) for name in heads for p in language.model.get_submodule(name).parameters()}
    outside |= {id(m.weight) for m in language.model.modules() if isinstance(m, torch.nn.Embedding)}
    parameters = sum(p.numel() for p in language.model.parameters() if id(p) not in outside)
    config: Any = getattr(language.model, "config", None)
    blocks = _size(config, "num_hidden_layers", "n_layer", "blocks")
    head_width = _size(config, "head_dim") or language.width // max(_size(config, "num_attention_heads", "heads"), 1)
    seen = _signature(counted)
    known = next((d for d in _candidates(language, config) if _signature(d.forward(counted.tokens)) == seen), None)
    if known is not None:
        known = _with_window(known, config)
    return Traced(counted, language.name, language.width, parameters, blocks, head_width, heads, known)


def _candidates(language: Language, config: Any) -> Iterator[Decoder]:
    """What the configuration may mean; only one that gives the operations that were counted is believed."""
    sizes: dict[str, Any] = {
        "blocks": _size(config, "num_hidden_layers", "n_layer", "blocks"),
        "heads": _size(config, "num_attention_heads", "n_head", "heads"),
        "kv_heads": _size(config, "num_key_value_heads"),
        "head_width": _size(config, "head_dim"),
        "feed_forward": _size(config, "intermediate_size", "n_inner", "ffn_dim"),
    }
    experts = _size(config, "num_local_experts", "num_experts")
    if experts:
        sizes |= {
            "experts": experts,
            "active": _size(config, "num_experts_per_tok"),
            "expert_width": _size(config, "moe_intermediate_size", "intermediate_size"),
        }
    if min(sizes["blocks"], sizes["heads"]) > 0:
        for gated, rectified in product((True, False), (False, True)):
            yield Decoder(
                language.name, "its own configuration", language.vocabulary, language.context, language.width,
                **sizes, gated=gated, rectified=rectified,
            )  # fmt: skip


def _signature(operations: Operations) -> tuple[int, int]:
    """Multiply–accumulates, and those whose vectors cannot be negative, which take half the passes."""
    return operations.macs, sum(p.macs for p in operations.products if p.non_negative)


def _with_window(decoder: Decoder, config: Any) -> Decoder:
    """Blocks that see the last tokens only: in a forward pass their scores are computed and masked, in a step not."""
    window = _size(config, "sliding_window")
    if not 0 < window < decoder.context:
        return decoder
    kinds = getattr(config, "layer_types", None)
    windowed = decoder.blocks if kinds is None else sum(kind == "sliding_attention" for kind in kinds)
    return replace(decoder, window=window, windowed=windowed) if windowed else decoder


def _size(config: Any, *names: str) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((size for size in found if isinstance(size, int) and size > 0), 0)
