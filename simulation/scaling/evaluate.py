"""Compute one sweep point, anywhere: what a worker needs is handed to it, none of it by the name of a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from groundwork.opening.regular import read_regular
from simulation.benches.opening import Source
from simulation.conversion.optical import opticalize
from simulation.conversion.quantise import quantise_int8
from simulation.evaluation.perplexity import window_nats
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.huggingface import model_of
from simulation.scaling.points import DIGITAL, INT8, Point, Windows


@dataclass(frozen=True)
class Reader:
    """A model and the text in its tokens, as arrays that travel between processes and machines.

    Attributes
    ----------
    config
        The shape of one of our own models, or the configuration of one of Hugging Face's.
    weights
        Float32 by name.
    ids
        (N,) int64, the text.
    """

    config: GPTConfig | Mapping[str, Any]
    weights: Mapping[str, NDArray[np.float32]]
    ids: NDArray[np.int64]

    @classmethod
    def of(cls, model: nn.Module, ids: list[int]) -> Reader:
        """A model, ours or one of Hugging Face's, on the tokens of a text."""
        weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        config: Any = model.config
        stated = config if isinstance(config, GPTConfig) else config.to_dict()
        return cls(stated, weights, np.array(ids, np.int64))

    def model(self) -> nn.Module:
        """The model, in evaluation mode."""
        model = GPT(self.config) if isinstance(self.config, GPTConfig) else model_of(self.config)
        model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in self.weights.items()})
        return model.eval()


@dataclass(frozen=True)
class Material:
    """What the points of a sweep refer to: readers by the digest of their model, and the machine if it is optical.

    Attributes
    ----------
    bench
        A calibration of a bench that labctl drives or of an import, or the name of a preset or machine.
    """

    readers: Mapping[str, Reader]
    bench: Source

    def score(self, point: Point) -> Windows:
        """Read the text on the machine of the point.

        Raises
        ------
        BadOperands
            If the model answers with NaN.
        """
        reader = self.readers[point.model]
        model = self._on_machine(reader.model(), point)
        nats, tokens = window_nats(model, torch.from_numpy(reader.ids), context=point.context, max_tokens=point.tokens)
        return Windows(nats.numpy(), tokens.numpy())

    def _on_machine(self, model: nn.Module, point: Point) -> nn.Module:
        if point.machine == DIGITAL:
            return model
        if point.machine == INT8:
            return quantise_int8(model)
        return opticalize(model, self.bench, photons_per_mac=point.photons_per_mac, seed=point.seed)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def model_digest(model: nn.Module) -> str:
    """SHA-256 of a model of Hugging Face: its configuration and its weights."""
    config: Any = model.config
    sha256 = hashlib.sha256(config.to_json_string(use_diff=False).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha256.update(name.encode())
        sha256.update(tensor.numpy().tobytes())
    return sha256.hexdigest()
