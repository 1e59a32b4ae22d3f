"""Look at the files of somebody's model before a library builds it: what the headers claim has to be there.

A library that is told of ten million blocks begins to build them, and one that misses a weight may draw it at random.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.errors import ArtefactError
from groundwork.opening.gguf import read_gguf_header
from groundwork.opening.json_text import read_json
from groundwork.opening.tensors import MOST_TENSOR_BYTES, read_header

MOST_CONTEXT = 2**24
_DOCUMENTS = ("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
              "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")  # fmt: skip
"""What a library reads; whatever else lies in the folder is nobody's business."""
_LAYERS = re.compile(r"layer|block_count|depth")
_CONTEXT = re.compile(r"position|context|n_ctx|window|length|token_id")
_SIZE = re.compile(r"hidden|size|embd|inner|head|vocab|dim|feed_forward|embedding_length|expert")
_NEEDED = re.compile(
    r"(^|\.)(hidden_size|intermediate_size|vocab_size|num_(hidden_layers|attention_heads|key_value_heads)|n_(embd|head|layer)"
    r"|block_count|embedding_length|feed_forward_length|attention\.head_count(_kv)?)$"
)
_LARGEST_OF_SEVERAL = 2
"""Some libraries split one axis of a tensor in two of their sizes, or join two; no model has one twice as large."""


def require_sound_folder(folder: Path) -> None:
    """Refuse a Hugging Face folder whose documents or weights are damaged, or claim more than there is.

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


def require_sound_gguf(path: Path) -> None:
    """Refuse a GGUF file that is damaged or claims more than there is.

    Raises
    ------
    ArtefactError
    """
    try:
        header = read_gguf_header(path)
    except OSError as error:
        raise _refused(path, str(error), "a whole GGUF file", "") from error
    sizes = {key: value for key, value in header.values.items() if not key.startswith(("general.", "tokenizer."))}
    _require_possible(path, sizes, list(header.tensors.values()))


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


def _refused(path: Path, what: str, expected: str, seen: str) -> ArtefactError:
    return ArtefactError(
        what, device=str(path), action="load a model", expected=expected, seen=seen,
        hint="copy the model again from where it came",
    )  # fmt: skip
