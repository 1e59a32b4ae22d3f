"""Look at the files of somebody's model before a library builds it: what the headers claim has to be there.

A library that is told of ten million blocks begins to build them, and one that misses a weight may draw it at random.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from calibration.errors import ArtefactError
from groundwork.opening.gguf import read_gguf_header
from groundwork.opening.json_text import read_json
from groundwork.opening.tensors import MOST_TENSOR_BYTES, read_header

MOST_CONTEXT = 2**24
MOST_BESIDE = 2**28
"""The most numbers that a model may hold beside its parameters: masks of its context, say."""
_INDEX = "model.safetensors.index.json"
_DOCUMENTS = ("config.json", "generation_config.json", _INDEX, "tokenizer.json",
              "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")  # fmt: skip
"""What a library reads; whatever else lies in the folder is nobody's business."""
_LAYERS = re.compile(r"layer|block_count|depth")
_CONTEXT = re.compile(r"position|context|n_ctx|window|length|token_id")
_SIZE = re.compile(r"hidden|size|embd|inner|head|vocab|dim|feed_forward|embedding_length|expert")
_NEEDED = re.compile(
    r"(^|\.)(hidden_size|intermediate_size|vocab_size|num_(hidden_layers|attention_heads|key_value_heads)|n_(embd|head|layer)"
    r"|max_position_embeddings|n_positions|n_ctx|context_length|block_count|embedding_length|feed_forward_length|attention\.head_count(_kv)?)$"
)
_OF_EVERY_GGUF = (".block_count", ".embedding_length")
_SHARD = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.(safetensors|gguf)$")
_TIED = 2
"""Embedding and output may be one tensor in the file and two in the model."""
_LARGEST_OF_SEVERAL = 2
"""Some libraries split one axis of a tensor in two of their sizes, or join two; no model has one twice as large."""


@dataclass(frozen=True)
class Holdings:
    """What the files of a model hold.

    Attributes
    ----------
    shapes
        Of each tensor, by its name there.
    types
        Of each tensor, as safetensors calls them; empty for GGUF, whose packed types the library turns into numbers.
    is_gguf
        Is it a GGUF file?
    """

    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str] = field(default_factory=dict)
    is_gguf: bool = False

    @property
    def numbers(self) -> int:
        """Of all tensors together."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def require_sound_folder(folder: Path) -> Holdings:
    """What the weights of a Hugging Face folder are; one that is damaged, incomplete or claims more is refused.

    Raises
    ------
    ArtefactError
    """
    require_no_adapter(folder)
    try:
        documents = {
            name: read_json(folder / name, finite=False) for name in _DOCUMENTS if (folder / name).exists()
        }  # fmt: skip
        _require_all_shards(folder, documents.get(_INDEX))
        headers = [read_header(path, MOST_TENSOR_BYTES) for path in sorted(folder.glob("*.safetensors"))]
    except OSError as error:
        raise _refused(folder, "a file of the model cannot be read", "whole files", str(error)) from error
    config = documents.get("config.json")
    if not isinstance(config, dict):
        raise _refused(folder, "the model has no configuration", "config.json, a JSON object", "none")
    require_plain_numbers(folder, config)
    if not headers:
        raise _refused(folder, "the model has no weights that are opened here", "*.safetensors", "none")
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    _require_possible(folder, config, list(shapes.values()))
    return Holdings(shapes, {name: tensor.dtype for name, tensor in tensors.items()})


def require_sound_gguf(path: Path) -> Holdings:
    """What the weights of a GGUF file are; one that is damaged, a part, or claims more than there is is refused.

    Raises
    ------
    ArtefactError
    """
    try:
        header = read_gguf_header(path)
    except OSError as error:
        raise _refused(path, str(error), "a whole GGUF file", "") from error
    if (parts := header.values.get("split.count", 1)) != 1:
        number = header.values.get("split.no", 0) + 1
        raise _refused(
            path, "this is one part of a split model", "all of its tensors in one file", f"part {number} of {parts}",
            f"llama-gguf-split --merge {path.name} whole.gguf",
        )  # fmt: skip
    sizes = {key: value for key, value in header.values.items() if not key.startswith(("general.", "tokenizer."))}
    for key in _OF_EVERY_GGUF:
        if not any(claim.endswith(key) for claim in sizes):
            raise _refused(path, f"the model does not state its {key[1:]}", f"…{key}", ", ".join(sizes)[:200])
    _require_possible(path, sizes, list(header.tensors.values()))
    return Holdings(header.tensors, is_gguf=True)


def require_no_adapter(folder: Path) -> None:
    """Refuse what changes another model and is none itself.

    Raises
    ------
    ArtefactError
    """
    if (folder / "adapter_config.json").exists():
        raise _refused(
            folder, "an adapter is not a model", "a model that holds its own weights", "adapter_config.json",
            "put it into its base model and save that: peft's merge_and_unload(), then save_pretrained()",
        )  # fmt: skip


def require_plain_numbers(where: Path | str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose weights are packed into fewer bits.

    Raises
    ------
    ArtefactError
    """
    packing = config.get("quantization_config")
    if packing:
        method = packing.get("quant_method", "unnamed") if isinstance(packing, Mapping) else str(packing)[:40]
        raise _refused(
            where, "the weights are packed into fewer bits", "weights that are floating-point numbers",
            f"quantization_config of the method {method}",
            "load the model without quantisation; the bench rounds by itself",
        )  # fmt: skip


def _require_all_shards(folder: Path, index: Any) -> None:
    """All files that the index names, and all of those that are numbered."""
    named = set(index.get("weight_map", {}).values()) if isinstance(index, dict) else set()
    for path in folder.glob("*.safetensors"):
        if shard := _SHARD.match(path.name):
            stem, _, count, kind = shard.groups()
            named |= {f"{stem}-{i:05}-of-{count}.{kind}" for i in range(1, int(count) + 1)}
    missing = sorted(name for name in named if not isinstance(name, str) or not (folder / name).exists())
    if missing:
        seen = f"{len(missing)} missing: {', '.join(missing[:5])}"
        raise _refused(folder, "files of the weights are missing", f"{len(named)} files", seen)
    if named and index is None:
        raise _refused(folder, "the weights lie in several files without an index", _INDEX, "none")


def require_as_large(where: str, model: nn.Module, numbers: int) -> None:
    """Refuse a model of more parameters than its files hold numbers: what no file states, a library makes up.

    Parameters
    ----------
    model
        Its skeleton, for which no memory has been taken (on torch's device ``meta``).
    numbers
        Of `Holdings`.

    Raises
    ------
    ArtefactError
    """
    needed = sum(parameter.numel() for parameter in model.parameters())
    beside = sum(buffer.numel() for buffer in model.buffers())
    if needed > _TIED * numbers or beside > _TIED * numbers + MOST_BESIDE:
        seen = f"{needed} parameters and {beside} numbers beside them"
        raise _refused(where, "the configuration makes a larger model than its weights", f"{numbers} numbers", seen)


def _require_possible(path: Path, claims: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]) -> None:
    """A model has no more layers than tensors, and none of its sizes is much larger than every axis of its weights."""
    largest = _LARGEST_OF_SEVERAL * max((axis for shape in shapes for axis in shape), default=0)
    for key, value in claims.items():
        if type(value) is not int:
            continue
        if _CONTEXT.search(key) and not _SIZE.search(key):
            most = MOST_CONTEXT
        elif _LAYERS.search(key) and not _SIZE.search(key):
            most = len(shapes)
        elif _SIZE.search(key):
            most = largest
        else:
            continue
        if value > most or value < (1 if _NEEDED.search(key) else -1):
            raise _refused(
                path, f"the model claims {key} = {value}, which its weights cannot fill", f"1 to {most}", str(value)
            )


def _refused(
    path: Path | str, what: str, expected: str, seen: str, hint: str = "copy the model again from where it came"
) -> ArtefactError:
    return ArtefactError(what, device=str(path), action="load a model", expected=expected, seen=seen, hint=hint)
