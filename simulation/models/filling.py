"""Whether what was loaded is what the files hold: every weight has its tensor, every tensor its weight."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

from torch import nn

from simulation.models.language import not_loaded
from simulation.models.rope_factors import TENSOR
from simulation.models.soundness import Holdings, listed

NUMBERS = ("F64", "F32", "F16", "BF16")
"""Types of tensors that hold the numbers themselves, and not what a scale has yet to multiply."""
EIGHT_BITS = ("I8", "U8", "F8_E4M3", "F8_E5M2")
_TABLES = re.compile(r"(^|\.)(masked_bias|inv_freq|position_ids)$")
"""What libraries used to write beside the weights and now compute: positions, their angles, what a mask adds."""
_COPY = "compare config.json with the weights, or copy all files of the model again from where they came"
_COPY_GGUF = "copy the file again from where it came, or take the model as a Hugging Face folder"


def require_filled(where: str, model: nn.Module, told: Mapping[str, Any], held: Holdings | None) -> None:
    """Refuse a model whose weights are not, one by one, the tensors of its files.

    Parameters
    ----------
    told
        What Hugging Face's library says of its loading: ``missing_keys``, ``mismatched_keys``, ``unexpected_keys``.
    held
        What the files hold, where they are here.

    Raises
    ------
    ArtefactError
    """
    buffers = [name for name, _ in model.named_buffers()]
    shapes = {str(entry[0]): entry[1:] for entry in told["mismatched_keys"]}
    unexpected = {str(name) for name in told["unexpected_keys"] if not _TABLES.search(str(name))}
    extra = {name for name in unexpected if not _is_among(name, buffers)}
    faults = {
        "missing": {str(name) for name in told["missing_keys"]} - shapes.keys(),
        "of another shape": {_with_shapes(name, *both) for name, both in shapes.items()},
        "without a place in the model": extra,
        "without numbers": {name for name, parameter in model.named_parameters() if parameter.is_meta},
    }
    if found := {fault: names for fault, names in faults.items() if names}:
        counts = ", ".join(f"{len(names)} {fault}" for fault, names in found.items())
        seen = "; ".join(f"{fault}: {listed(names)}" for fault, names in found.items())
        expected = f"the {sum(1 for _ in model.named_parameters())} tensors of {type(model).__name__}, and no others"
        hint = _COPY_GGUF if held is not None and held.is_gguf else _COPY
        raise not_loaded(where, f"the checkpoint does not fill the model (tensors: {counts})", expected, seen, hint)
    if held is not None:
        _require_numbers(where, model, held)
        _require_all_used(where, model, held)


def _require_numbers(where: str, model: nn.Module, held: Holdings) -> None:
    """A library takes whole numbers for weights, too, and leaves out the scale that they stand on."""
    parameters, buffers = ([name for name, _ in named] for named in (model.named_parameters(), model.named_buffers()))
    packed = {
        f"{name} ({kind})"
        for name, kind in held.types.items()
        if kind not in NUMBERS and not _is_among(name, buffers)
        if _is_among(name, parameters) or (kind in EIGHT_BITS and name.endswith("weight"))
    }
    if packed:
        raise not_loaded(
            where,
            f"{len(packed)} tensors are packed into fewer bits",
            " or ".join(NUMBERS),
            listed(packed),
            "load the model without quantisation; the bench rounds by itself",
        )


def _require_all_used(where: str, model: nn.Module, held: Holdings) -> None:
    """A GGUF file has no tensors that the library passes over without a word."""
    if not held.is_gguf:
        return
    filled = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}
    spare = held.numbers - sum(filled.values()) - math.prod(held.shapes.get(TENSOR, (0,)))
    if spare > 0:
        known = names_in_gguf(model)
        extra = {name for name in held.shapes if name not in known and name != TENSOR}
        raise not_loaded(
            where,
            f"{len(extra) or 'some'} tensors of the file have no place in the model",
            f"{sum(filled.values())} numbers, as in {type(model).__name__}",
            f"{spare} more: {listed(extra)}",
            "take the model as a Hugging Face folder: of this kind of GGUF file the library reads a part",
        )


def names_in_gguf(model: Any) -> Collection[str]:
    """What the library calls the tensors of a model in a GGUF file; none where it does not say."""
    try:
        library: Any = import_module("transformers.modeling_gguf_pytorch_utils")
        kind = library.TENSOR_PROCESSORS.get(model.config.model_type, library.TensorProcessor)
        return set(library.get_gguf_hf_weights_map(model, kind(config=model.config.to_dict())))
    except Exception:  # no public part of the library; names are for the message alone
        return ()


def require_own_vocabulary(where: str, tokenizer: Any, config: Any, vocabulary: int) -> None:
    """Refuse a tokenizer that has tokens beyond the model's, or lacks those that the model's configuration names.

    Special tokens may lie beyond, which an ordinary text does not have; one that has them is refused when it is read.

    Raises
    ------
    ArtefactError
    """
    tokens: Mapping[str, int] = tokenizer.get_vocab()
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    beyond = {token for token, i in tokens.items() if i >= vocabulary and i not in special}
    if beyond:
        raise not_loaded(
            where,
            "the tokenizer is larger than the model",
            f"at most {vocabulary} tokens",
            f"{len(tokens)}, of which {len(beyond)} are beyond: {listed({repr(token) for token in beyond})}",
            "copy tokenizer and model from one place",
        )
    last = max(tokens.values(), default=-1)
    named = {f"{name}_token_id": getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad")}
    for name, value in named.items():
        for i in value if isinstance(value, list | tuple) else [value]:
            if isinstance(i, int) and last < i < vocabulary:
                raise not_loaded(
                    where,
                    "the tokenizer is of another vocabulary than the model",
                    f"a token {i}, the model's {name}",
                    f"{len(tokens)} tokens, the last of them {last}",
                    "copy tokenizer and model from one place",
                )


def _is_among(name: str, others: Collection[str]) -> bool:
    """With or without the prefix that a model has inside another."""
    return any(name == other or name.endswith(f".{other}") or other.endswith(f".{name}") for other in others)


def _with_shapes(name: str, *shapes: Any) -> str:
    return f"{name} ({' for '.join('×'.join(map(str, shape)) for shape in shapes)})"
