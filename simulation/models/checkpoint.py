"""A trained model in one safetensors file: half-precision weights, configuration, tokenizer and what made them.

The metadata holds strings: ``schema``, ``config``, ``tokenizer`` and ``record`` (JSON), and ``digest``, the sha256 of
the tensors' bytes in the order of their names; ``metadata_digest`` is that of the other strings, which files of version
0.2.0 and before lack. Beside ``NAME.safetensors`` lies ``NAME.json``, the record for people.
Loading runs no code from the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor, nn

from calibration.errors import ArtefactError, CalibrationError
from groundwork.errors import FileRefused
from groundwork.files import write_whole
from groundwork.opening.json_text import parse_json
from groundwork.opening.tensors import MOST_TENSOR_BYTES, read_header, read_safetensors
from simulation.models.bare import bare
from simulation.models.gpt import GPT, GPTConfig

SCHEMA = "labctl.transformer/1"
SHOWN = 5
"""So many tensors are named of those that do not fit."""
_AGAIN = "copy it again from where it came, or train a new one: labctl train"
_ELSEWHERE = "of a model of Hugging Face name the folder: labctl simulate CALIB FOLDER"
_STATED = ("schema", "config", "tokenizer", "record", "digest")


@dataclass(frozen=True)
class Checkpoint:
    """A float32 model in evaluation mode, its tokenizer, and the record of its training."""

    model: GPT
    tokenizer: Tokenizer
    record: dict[str, Any]


def save_checkpoint(path: str | Path, model: GPT, tokenizer: Tokenizer, record: Mapping[str, Any]) -> None:
    """Write ``path`` and, beside it, its record ``path.with_suffix(".json")``.

    Either file appears whole or not at all, also when the writer is killed.

    Raises
    ------
    ArtefactError
        If a weight is not a finite half-precision number.
    """
    path = Path(path)
    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(path, tensors)
    metadata = {
        "schema": SCHEMA,
        "config": json.dumps(asdict(model.config)),
        "tokenizer": tokenizer.to_str(),
        "record": json.dumps(dict(record)),
        "digest": _digest(tensors),
    }
    metadata["metadata_digest"] = _metadata_digest(metadata)
    raw = save(tensors, metadata)
    write_whole(path, raw)
    sha256 = hashlib.sha256(raw).hexdigest()
    beside = {"checkpoint": {"name": path.name, "sha256": sha256, "bytes": len(raw)}, **record}
    write_whole(path.with_suffix(".json"), (json.dumps(beside, indent=2) + "\n").encode())


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises
    ------
    ArtefactError
        If the file is missing, truncated, altered, of another schema, lacks a tensor or holds one that is not finite.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    if strange := metadata.keys() - {*_STATED, "metadata_digest"}:
        raise _error(path, "checkpoint's metadata hold what does not belong there", ", ".join(_STATED), str(strange))
    try:
        config = GPTConfig(**parse_json(metadata["config"], path))
        record = dict(parse_json(metadata["record"], path))
        stated = metadata["digest"]
        tokenizer = Tokenizer.from_str(metadata["tokenizer"])
    except KeyError as error:
        raise _error(path, "checkpoint's metadata is incomplete", f"an entry {error}", "none") from error
    except (CalibrationError, TypeError, ValueError) as error:
        raise _error(path, "checkpoint's metadata cannot be read", "JSON of the schema", str(error)) from error
    except Exception as error:  # tokenizers raises bare Exception
        raise _error(path, "checkpoint's tokenizer cannot be read", "a tokenizers JSON", str(error)) from error
    expected = _metadata_digest(metadata)
    if metadata.get("metadata_digest", expected) != expected:
        seen = metadata["metadata_digest"][:12]
        raise _error(path, "checkpoint's metadata were altered", f"sha256 {expected[:12]}…", f"{seen}…")
    if tokenizer.get_vocab_size() > config.vocabulary:
        seen = f"{tokenizer.get_vocab_size()} tokens"
        raise _error(path, "tokenizer does not fit the model", f"at most {config.vocabulary} tokens", seen)
    _check_shapes(path, config, tensors)
    _check_finite(path, tensors)
    if _digest(tensors) != stated:
        raise _error(path, "checkpoint's weights were altered", f"sha256 {stated[:12]}…", _digest(tensors)[:12] + "…")
    model = GPT(config)
    model.load_state_dict(tensors)  # copies into float32
    return Checkpoint(model.eval(), tokenizer, record)


def digest(model: nn.Module) -> str:
    """SHA-256 of the model's tensors as they are."""
    return _digest(model.state_dict())


def _metadata_digest(metadata: Mapping[str, str]) -> str:
    stated = {key: metadata.get(key, "") for key in _STATED}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha256 = hashlib.sha256()
    for name in sorted(tensors):
        sha256.update(name.encode())
        sha256.update(tensors[name].numpy().tobytes())
    return sha256.hexdigest()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        header = read_header(path, MOST_TENSOR_BYTES)
        if (schema := header.metadata.get("schema", "no schema")) != SCHEMA:
            hint = _ELSEWHERE if schema == "no schema" else _AGAIN
            raise _error(path, "checkpoint of another schema", SCHEMA, schema, hint)
        for name, tensor in header.tensors.items():
            if tensor.dtype != "F16":
                raise _error(path, f"tensor {name} is of another type", "half-precision numbers (F16)", tensor.dtype)
        metadata, arrays = read_safetensors(path, MOST_TENSOR_BYTES)
        return metadata, {name: torch.from_numpy(array) for name, array in arrays.items()}
    except FileRefused as error:
        if path.suffix == ".json" and (beside := path.with_suffix(".safetensors")).exists():
            what = "the record beside a checkpoint is not the checkpoint"
            raise _error(path, what, beside.name, path.name, f"name the other: {beside}") from error
        raise _error(
            path,
            f"checkpoint is truncated or damaged: {error.what}",
            error.expected or "a safetensors file",
            error.seen,
        ) from error
    except OSError as error:
        raise _error(path, "checkpoint cannot be read", "a readable file", str(error)) from error


def _check_shapes(path: Path, config: GPTConfig, tensors: Mapping[str, Tensor]) -> None:
    if config.blocks > len(tensors):  # a model of millions of blocks takes minutes to build, even without memory
        raise _error(
            path, "checkpoint holds fewer tensors than its model has blocks", str(config.blocks), str(len(tensors))
        )
    with bare():
        expected = {name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()}
    seen = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = sorted(name for name in expected.keys() | seen.keys() if expected.get(name) != seen.get(name))
    if wrong:
        what = f"{len(wrong)} of the checkpoint's tensors do not fit its configuration"
        shown = [(name, expected.get(name, "no such tensor"), seen.get(name, "missing")) for name in wrong[:SHOWN]]
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        wanted, found = ("; ".join(f"{entry[0]}: {entry[i]}" for entry in shown) + more for i in (1, 2))
        raise _error(path, what, wanted, found)


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        bad = int((~tensor.isfinite()).sum())
        if bad:
            seen = f"{bad} NaN, infinite or beyond half precision"
            raise _error(path, f"weights of {name} are not finite", "finite numbers", seen)


def _error(path: Path, what: str, expected: str, seen: str, hint: str = _AGAIN) -> ArtefactError:
    return ArtefactError(
        what, device=str(path), action="load or save a checkpoint", expected=expected, seen=seen, hint=hint
    )
