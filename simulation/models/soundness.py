"""Look at the files of somebody's model before a library builds it: what the headers claim has to be there.

A library that is told of ten million blocks begins to build them, and one that misses a weight may draw it at random.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
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
_DOCUMENTS = ("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
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
_PACKED = 8
"""Quantised weights are packed, eight of four bits in one number."""
_TIED = 2
"""Embedding and output may be one tensor in the file and two in the model."""
_LARGEST_OF_SEVERAL = 2
"""Some libraries split one axis of a tensor in two of their sizes, or join two; no model has one twice as large."""


def require_sound_folder(folder: Path) -> int:
    """How many numbers the weights of a Hugging Face folder are; one that is damaged or claims more is refused.

    Raises
    ------
    ArtefactError
    """
    try:
        documents = {
            name: read_json(folder / name, finite=False) for name in _DOCUMENTS if (folder / name).exists()
        }  # fmt: skip
        headers = [read_header(path, MOST_TENSOR_BYTES) for path in sorted(folder.glob("*.safetensors"))]
    except OSError as error:
        raise _refused(folder, "a file of the model cannot be read", "whole files", str(error)) from error
    config = documents.get("config.json")
    if not isinstance(config, dict):
        raise _refused(folder, "the model has no configuration", "config.json, a JSON object", "none")
    if not headers:
        raise _refused(folder, "the model has no weights that are opened here", "*.safetensors", "none")
    shapes = [tensor.shape for header in headers for tensor in header.tensors.values()]
    _require_possible(folder, config, shapes)
    return _count(shapes) * (_PACKED if "quantization_config" in config else 1)


def require_sound_gguf(path: Path) -> int:
    """How many numbers the weights of a GGUF file are; one that is damaged or claims more than there is is refused.

    Raises
    ------
    ArtefactError
    """
    try:
        header = read_gguf_header(path)
    except OSError as error:
        raise _refused(path, str(error), "a whole GGUF file", "") from error
    sizes = {key: value for key, value in header.values.items() if not key.startswith(("general.", "tokenizer."))}
    for key in _OF_EVERY_GGUF:
        if not any(claim.endswith(key) for claim in sizes):
            raise _refused(path, f"the model does not state its {key[1:]}", f"…{key}", ", ".join(sizes)[:200])
    shapes = list(header.tensors.values())
    _require_possible(path, sizes, shapes)
    return _count(shapes)


def require_as_large(where: str, model: nn.Module, numbers: int) -> None:
    """Refuse a model of more parameters than its files hold numbers: what no file states, a library makes up.

    Parameters
    ----------
    model
        Its skeleton, for which no memory has been taken (on torch's device ``meta``).
    numbers
        As of `require_sound_folder` or `require_sound_gguf`.

    Raises
    ------
    ArtefactError
    """
    needed = sum(parameter.numel() for parameter in model.parameters())
    beside = sum(buffer.numel() for buffer in model.buffers())
    if needed > _TIED * numbers or beside > _TIED * numbers + MOST_BESIDE:
        seen = f"{needed} parameters and {beside} numbers beside them"
        raise _refused(where, "the configuration makes a larger model than its weights", f"{numbers} numbers", seen)


def _count(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


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


def _refused(path: Path | str, what: str, expected: str, seen: str) -> ArtefactError:
    return ArtefactError(
        what, device=str(path), action="load a model", expected=expected, seen=seen,
        hint="copy the model again from where it came",
    )  # fmt: skip
