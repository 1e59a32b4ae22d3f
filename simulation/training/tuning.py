"""Which numbers of a model move while it is adapted: corrections of low rank to its matrices, or all of them.

The model always holds its whole weights, so that light shows what the adapted model will show, and so that what is
saved is an ordinary model: a correction is written into the weight, and its gradient is read off that of the weight.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from calibration.errors import OutOfDomain


class Tuning(Protocol):
    """Moves a model's parameters."""

    @property
    def moving(self) -> nn.Module:
        """A module whose parameters are what the optimiser moves.

        Its ``state_dict`` is what a resumed adaptation needs beside the model that it began with.
        """

    def write(self) -> None:
        """Put what has moved into the model."""

    def gather(self) -> None:
        """Take the gradients of what moves from those of the model, which are cleared."""


class WholeWeights:
    """Every parameter of the model moves (full fine-tuning)."""

    def __init__(self, model: nn.Module) -> None:
        self.moving = _Parameters(dict(model.named_parameters()))

    def write(self) -> None:
        """Nothing: they are the model's own."""

    def gather(self) -> None:
        """Nothing: they have their gradients."""


class LowRank:
    """Each matrix W₀ (…, M, K) becomes W₀ + B A with B (…, M, r) and A (…, r, K); vectors move as a whole.

    Hu et al., LoRA: low-rank adaptation of large language models (arXiv 2106.09685). B begins at zero and A with normal
    deviates of variance 1/K, so that the model begins as it was. Embeddings and the output head, which stay digital, do
    not move; a matrix that is no larger than its corrections would be moves as a whole.

    Parameters
    ----------
    model
        Its parameters that do not move no longer ask for a gradient.
    rank
        r
    generator
        Where A is drawn from.
    """

    def __init__(self, model: nn.Module, rank: int, generator: torch.Generator) -> None:
        if rank < 1:
            raise OutOfDomain("a correction has a rank from 1 on", seen=str(rank), hint="--rank 16")
        tables = _tables(model)
        self._matrices: dict[str, tuple[Tensor, Tensor]] = {}  # the model's parameter, and what it was
        moving: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if id(parameter) in tables:
                parameter.requires_grad_(False)
            elif parameter.ndim < 2 or _is_small(parameter, rank):
                moving[name] = parameter
            else:
                *many, outputs, inputs = parameter.shape
                a = torch.randn(*many, rank, inputs, generator=generator) / math.sqrt(inputs)
                moving[f"{name}.A"] = nn.Parameter(a.to(parameter.device, parameter.dtype))
                moving[f"{name}.B"] = nn.Parameter(parameter.new_zeros(*many, outputs, rank))
                self._matrices[name] = parameter, parameter.detach().clone()
        self.moving = _Parameters(moving)

    def write(self) -> None:
        """W = W₀ + B A."""
        with torch.no_grad():
            for name, (weight, before) in self._matrices.items():
                a, b = self._factors(name)
                weight.copy_(before + b @ a)

    def gather(self) -> None:
        """∂A = Bᵀ ∂W and ∂B = ∂W Aᵀ."""
        for name, (weight, _) in self._matrices.items():
            a, b = self._factors(name)
            if weight.grad is not None:
                a.grad, b.grad = b.detach().mT @ weight.grad, weight.grad @ a.detach().mT
                weight.grad = None

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        return self.moving.get_parameter(_key(f"{name}.A")), self.moving.get_parameter(_key(f"{name}.B"))


class _Parameters(nn.Module):
    """Parameters by the names that they have elsewhere."""

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        for name, parameter in parameters.items():
            self.register_parameter(_key(name), parameter)


def _key(name: str) -> str:
    return name.replace(".", "/")


def _is_small(parameter: Tensor, rank: int) -> bool:
    outputs, inputs = parameter.shape[-2:]
    return rank * (outputs + inputs) >= outputs * inputs


def _tables(model: nn.Module) -> set[int]:
    """Embeddings, and what gives the logits."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    ask = getattr(model, "get_output_embeddings", None)
    head = ask() if callable(ask) else None
    return {id(table) for table in tables} | ({id(head.weight)} if head is not None else set())
