"""What devices can do: whether they are there, and in which precision they compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from calibration.errors import OutOfDomain

ROWS_AT_ONCE = 1 << 22
"""Numbers in a temporary tensor of a product: rows are taken so many at a time that it holds no more."""

KERNELS = 256
"""Variants of a function that `torch.compile` may make: one for each kind of noise, and shape of a tiled matrix."""

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors, compiled for each kind of arguments at its first use, whatever their shapes.

    Its branches go by what it is told and never by values in tensors: each variant is one graph.
    """
    compiled = torch.compile(function, dynamic=True, fullgraph=True)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # a model in light has its own compiled functions run as they are written; this one is none of them
        with torch.compiler.set_stance("default"), torch._dynamo.config.patch(recompile_limit=KERNELS):
            return compiled(*args, **kwargs)

    return run


@dataclass(frozen=True)
class Precision:
    """Types of the operands of a product's two matrix products, whose sums are float32 or better.

    Attributes
    ----------
    signal
        Of the expectation.
    light
        Of the variance: bfloat16 changes it by 0.4 % in single outputs.
    """

    signal: torch.dtype = torch.float32
    light: torch.dtype = torch.float32

    @classmethod
    def of(cls, device: torch.device, operands: torch.dtype) -> Precision:
        """What pays on a device for a model of that type: on the CPU float32 throughout, as the compiled kernels."""
        if device.type == "cpu":
            return cls()
        own = operands if operands in (torch.bfloat16, torch.float16) else torch.float32
        return cls(own, own if device.type == "mps" else torch.bfloat16)


def wide(device: torch.device) -> torch.dtype:
    """The widest type of floating-point number that a device has."""
    return torch.float32 if device.type == "mps" else torch.float64


def device_of(name: str) -> torch.device:
    """A device by torch's name for it, if it is there.

    Raises
    ------
    OutOfDomain
        When torch knows no such device, or this machine has none.
    """
    there = [each for each in ("cuda", "mps") if _count(each)]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        seen = "no name of a device"
    elif device.type == "cpu" or (device.index or 0) < _count(device.type):
        return device
    else:
        seen = f"{_count(device.type) or 'no'} {device.type} device{'s' if _count(device.type) > 1 else ''}"
    raise OutOfDomain(
        "there is no such device",
        device=name,
        action="choosing where to compute",
        expected=" or ".join(["cpu", *there]),
        seen=f"{seen}; torch {torch.__version__}",
        hint=f"--device {there[0] if there else 'cpu'}",
    )


def _count(kind: str) -> int:
    """How many devices of a kind torch can use here."""
    if kind == "cuda":
        return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    return int(torch.backends.mps.is_available()) if kind == "mps" else 1
