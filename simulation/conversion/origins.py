"""Where operands come from: a parameter, what was computed from parameters and constants, or the input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from calibration.errors import OutOfDomain


@dataclass(frozen=True)
class Origin:
    """Where an operand comes from.

    Attributes
    ----------
    name
        Of the parameter or buffer; empty where several, or constants, made it.
    parameter
        The tensor in whose storage it lies; None for what was computed from it.
    """

    name: str = ""
    parameter: Tensor | None = None

    @property
    def start(self) -> int:
        """Where the parameter begins in its storage."""
        return 0 if self.parameter is None else int(self.parameter.storage_offset())


def key_of(origin: Origin, weight: Tensor) -> tuple[Any, ...]:
    """Which part of a parameter, and which way round."""
    return origin.name, tuple(weight.shape), weight.stride(), weight.storage_offset() - origin.start


def storage_of(tensor: Tensor) -> int | None:
    """The address of its numbers; None where it has none of its own."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):
        return None


def inner_tensors(tensor: Tensor) -> Iterator[Tensor]:
    """What the numbers of a tensor lie in: itself, or, of a class that packs them, tensors of its own.

    Raises
    ------
    OutOfDomain
        For a tensor that is spread over a mesh of devices: most of its numbers are elsewhere.
    """
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
    else:
        for name in flatten()[0]:
            if not isinstance(inner := getattr(tensor, name), Tensor):
                raise _sharded(tensor)
            yield from inner_tensors(inner)


def _sharded(tensor: Tensor) -> OutOfDomain:
    return OutOfDomain(
        "a model whose weights are spread over several devices cannot be put in light",
        expected="whole weights, each on one device",
        seen=f"{type(tensor).__name__} {tuple(tensor.shape)}",
        hint="take DataParallel or DistributedDataParallel, which keep weights whole, in place of fully_shard",
    )


def constants_of(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that a module holds now as plain attributes, in lists and dicts, too: ``weights.0``.

    One that is put there later may depend on the input.
    """
    own = ((name, value) for name, value in vars(module).items() if name not in _OF_TORCH)
    return {name: tensor for key, value in own for name, tensor in _named_tensors(str(key), value, ())}


_OF_TORCH = {*vars(nn.Module()), "_former_parameters"}
"""Attributes of every module."""


def _named_tensors(name: str, value: Any, around: tuple[Any, ...]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, list | tuple | dict) and not any(value is each for each in around):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inside:
            yield from _named_tensors(f"{name}.{key}", each, (*around, value))


def modules_of(model: nn.Module) -> list[nn.Module]:
    """Each module once, in an order that goes by their places; asked before every call, and quicker than torch's."""
    found, seen, waiting = [], set(), [model]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            found.append(module)
            waiting += [child for child in module._modules.values() if child is not None]
    return found


def matrix_name(origin: Origin, weight: Tensor, module: str, number: int) -> str:
    """What a matrix is called: by its parameter and the part of it, or by its ``number`` in the ``module``."""
    if origin.parameter is None:
        return f"{module}.matrix{number}".removeprefix(".")
    parameter = origin.parameter
    name = origin.name.removesuffix("weight").rstrip("._") or origin.name
    if weight.numel() == parameter.numel() or not parameter.ndim:
        return name
    start = int(weight.storage_offset()) - origin.start
    each = max(parameter.stride(0), 1)
    first, rest = divmod(start, each)
    count = weight.numel() // max(parameter[0].numel(), 1)
    where = f"{first}" if parameter.ndim > 2 and count == 1 else f"{first}:{first + max(count, 1)}"
    return f"{name}[{where}]" if not rest else f"{name}[{where}, from {rest}]"


def tensors_of(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_of(each)
