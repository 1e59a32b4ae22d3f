"""The state of an unfinished training in one file, so that a killed training goes on bit for bit.

Safetensors, in full precision: the model's tensors, both moments of the optimiser, and the generator behind batches and
noise. The metadata says which training it is; another training's state is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import save
from torch import Tensor, nn

from calibration.errors import ArtefactError
from groundwork.errors import FileRefused
from groundwork.files import write_whole
from groundwork.opening.json_text import parse_json
from groundwork.opening.tensors import MOST_TENSOR_BYTES, read_safetensors

SCHEMA = "labctl.training-state/1"
Model = TypeVar("Model", bound=nn.Module)
_STATED = ("schema", "identity", "counts")


@dataclass
class TrainingState(Generic[Model]):
    """What moves while a model trains.

    Attributes
    ----------
    model, optimiser, generator
        Saved and restored in place. The model is all that is trained, or a part of it.
    step
        Steps done.
    curve
        ``[step, train nats/token, held-out nats/token]`` of every evaluation so far.
    since
        Train nats/token of the steps after the last evaluation.
    seconds
        Spent by earlier sittings of this training.
    """

    model: Model
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    curve: list[list[float]] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write the state whole or not at all.

        Parameters
        ----------
        path
            An older state there is replaced.
        identity
            What makes this training, as JSON: recipe, texts by digest.
        """
        tensors = {f"model/{name}": tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in moments.items()}
        tensors["generator"] = self.generator.get_state()
        counts = {"step": self.step, "curve": self.curve, "since": self.since, "seconds": self.seconds}
        metadata = {"schema": SCHEMA, "identity": json.dumps(identity), "counts": json.dumps(counts)}
        metadata["digest"] = _digest(metadata, tensors)
        write_whole(path, save(tensors, metadata))

    def restore(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Take over the state at ``path``.

        Raises
        ------
        ArtefactError
            If the file is damaged, holds numbers that are not finite, or belongs to another training.
        """
        metadata, tensors = _read(path)
        if metadata.get("schema") != SCHEMA:
            raise _error(path, "not the state of a training", SCHEMA, metadata.get("schema", "no schema"))
        if metadata.get("identity") != json.dumps(identity):
            expected, seen = json.dumps(identity), metadata.get("identity", "")
            raise _error(path, "state of another training", *_first_difference(expected, seen))
        if strange := metadata.keys() - {*_STATED, "digest"}:
            raise _error(path, "the metadata hold what does not belong there", ", ".join(_STATED), ", ".join(strange))
        # the states of version 0.2.0 and before have no digest
        if metadata.get("digest", found := _digest(metadata, tensors)) != found:
            raise _error(
                path, "state of a training was altered", f"sha256 {metadata['digest'][:12]}…", f"{found[:12]}…"
            )
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise _error(path, f"{name} is not finite", "finite numbers", "NaN or infinite")
        try:
            counts = parse_json(metadata["counts"], path)
            self.model.load_state_dict(_under("model/", tensors))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under("optimiser/", tensors).items():
                index, _, moment = name.partition("/")
                moments.setdefault(int(index), {})[moment] = tensor
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
            self.generator.set_state(tensors["generator"])
            self.step, self.curve = int(counts["step"]), counts["curve"]
            self.since, self.seconds = counts["since"], float(counts["seconds"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise _error(path, "state of a training is incomplete", "all tensors and counts", str(error)) from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the metadata and of every tensor: name, type, shape, numbers."""
    sha256 = hashlib.sha256(json.dumps([metadata.get(key) for key in _STATED]).encode())
    for name in sorted(tensors):
        array = tensors[name].numpy()
        sha256.update(f"{name}{array.dtype}{array.shape}".encode() + array.tobytes())
    return sha256.hexdigest()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        metadata, arrays = read_safetensors(path, MOST_TENSOR_BYTES)
        return metadata, {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (OSError, FileRefused) as error:
        raise _error(path, "state of a training cannot be read", "a whole safetensors file", str(error)) from error


def _first_difference(expected: str, seen: str) -> tuple[str, str]:
    """The first entry that differs, where both are JSON objects; else the texts."""
    try:
        ours, theirs = parse_json(expected), parse_json(seen)
        name = next(key for key in ours if ours[key] != theirs.get(key))
        return f"{name} {ours[name]}", f"{name} {theirs.get(name)}"
    except (ValueError, AttributeError, StopIteration):
        return expected, seen


def _error(path: Path, what: str, expected: str, seen: str) -> ArtefactError:
    return ArtefactError(
        what,
        device=str(path),
        action="resume a training",
        expected=expected,
        seen=seen,
        hint=f"to start over: remove {path.name}",
    )
