"""What stands in for the products of a model while it trains: quantised arithmetic, a simulated bench, a real one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from simulation.models.gpt import GPT


class Forward(Protocol):
    """Replaces linear layers and attention products; the parameters, their names and the digital rest stay."""

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON types: part of the record, and of what a resumed training must agree in."""

    def prepare(self, model: GPT, windows: Tensor, generator: torch.Generator) -> None:
        """Replace modules in place, once; ``windows`` (B, T+1) are one batch to calibrate ranges on."""

    def renew(self, model: GPT, generator: torch.Generator) -> None:
        """Before every step, with the weights of now."""

    def record(self, model: GPT) -> dict[str, Any]:
        """What it has learned beside the weights, as JSON types."""


def plain(model: GPT) -> GPT:
    """A GPT of ordinary modules with the weights of a prepared one, in evaluation mode."""
    bare = GPT(model.config)
    weights = model.state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare.eval()
