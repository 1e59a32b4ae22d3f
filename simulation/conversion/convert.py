"""Put light under any model: its matrix products, found as they are computed and not by a list of layers.

`simulation.conversion.routing` says how. The output head stays digital unless asked for. The model keeps its modules,
hooks and parameters; ``state_dict`` has the same keys before and after.
"""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from calibration.errors import OutOfDomain
from simulation.conversion.keeping import is_kept
from simulation.conversion.origins import constants_of
from simulation.conversion.routing import Light, Routing, routing_of
from simulation.models.gpt import Product

Model = TypeVar("Model", bound=nn.Module)

LinearFactory = Callable[[str, nn.Linear], nn.Module]
ProductFactory = Callable[[str, Product], nn.Module]


def shared_copy(model: Model) -> Model:
    """A copy of the structure that holds the very same parameters, buffers, and tensors computed from them.

    Raises
    ------
    OutOfDomain
        When a module holds what cannot be copied.
    """
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [value for module in model.modules() for value in constants_of(module).values()]
    try:
        return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    except Exception as error:
        raise OutOfDomain(
            "a model that cannot be copied cannot be put in light",
            device=type(model).__name__,
            expected="modules that copy.deepcopy copies",
            seen=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            hint="keep locks, files and generators out of the modules, or let them say __deepcopy__",
        ) from error


def convert(model: nn.Module, light: Light, *, keep: Iterable[str] = (), head: bool = False) -> Routing:
    """Route a model's products into light from now on, and no longer into any other light that it had.

    Parameters
    ----------
    light
        `Light`
    keep
        Names, or shell patterns of names, that stay digital, a module with all that is in it: ``("blocks.0",)``.
    head
        Whether the output head becomes optical too; in the paper it stays digital.

    Returns
    -------
    The routing. It knows the products of linear layers at once, and others when the model has run.

    Raises
    ------
    OutOfDomain
        For a module whose weights are not there, or not numbers that can be shown; and for a compiled model.
    """
    _require_eager(model)
    for module in model.modules():
        if (before := routing_of(module)) is not None:
            before.remove()
    return Routing(model, light, tuple(keep), partial(_survey, head))


def _survey(head: bool, routing: Routing) -> None:
    """Tell a routing what there is in its model; refuse modules that cannot be put in light."""
    model, done = routing.model, routing.conversion
    for name, module in model.named_modules():
        _require_plain(name, module)
    routing.heads = frozenset() if head else frozenset(heads_of(model))
    routing.tables = frozenset(name for name in routing.heads if holds_table(model.get_submodule(name)))
    last = {id(module._parameters.get("weight")): name for name, module in model.named_modules()}
    for name, module in model.named_modules():
        if is_kept(name, routing.keep):
            if _holds_parameters(module) or isinstance(module, Product):
                done.digital[name] = "kept by request"
        elif name in routing.heads and isinstance(module, nn.Linear):
            done.digital[name] = "output head"
        elif isinstance(module, Product):
            routing.prepared.expect_pair(name)
        elif (weight := _matrix(module)) is not None:
            if last[id(module._parameters["weight"])] == name:  # layers that share it are one matrix, by its last name
                routing.prepared.expect_matrix(name or "weight", f"{name}.weight".removeprefix("."), weight)
        elif _holds_parameters(module) and (why := _why(module)):
            done.digital[name] = why


@contextmanager
def digitally(model: nn.Module) -> Iterator[None]:
    """While open, a model computes what it did before, in this thread and in those that it starts."""
    routing = routing_of(model)
    if routing is None:
        raise OutOfDomain("the model is not optical", seen=type(model).__name__, hint="opticalize(model, calibration)")
    with routing.digitally():
        yield


def _matrix(module: nn.Module) -> Tensor | None:
    """The weight (M, K) of a linear layer that computes as such, ours or one that stores it transposed."""
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim != 2 or not weight.numel() or not weight.is_floating_point():
        return None
    if hasattr(weight, "__tensor_flatten__"):
        return None  # packed: it is a matrix once it is unpacked, when it runs
    if isinstance(module, nn.Linear):
        return weight if type(module).forward is nn.Linear.forward else None
    return weight.mT if type(module).__name__ == "Conv1D" else None


def _require_eager(model: nn.Module) -> None:
    # torch's wrapper, by its attribute: its class lies in a package that takes seconds to import
    if hasattr(model, "_orig_mod") or any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise OutOfDomain(
            "a compiled model cannot be put in light",
            hint="opticalize the model that was given to torch.compile or torch.jit.script",
        )


_CALLS_FORWARD = {"super", "__call__", "_call_impl", "_wrapped_call_impl", "_wrapped_call", "forward"}
"""Names that a ``__call__`` uses which leads to the module's forward."""


def _require_call(name: str, module: nn.Module) -> None:
    """Refuse a module that computes in a ``__call__`` of its own: torch runs no hook then, and nothing is seen."""
    code = getattr(inspect.unwrap(type(module).__call__), "__code__", None)
    if code is None or not _CALLS_FORWARD.isdisjoint(code.co_names):
        return
    if any(step.opname.startswith("RETURN_") for step in dis.get_instructions(code)):  # lists of parameters only raise
        raise OutOfDomain(
            "a module that computes in its __call__ cannot be put in light",
            device=name or type(module).__name__,
            expected="a forward, which torch's __call__ runs with its hooks",
            seen=f"{type(module).__name__}.__call__",
            hint="rename it to forward",
        )


def _require_plain(name: str, module: nn.Module) -> None:
    _require_call(name, module)
    for key, tensor in (*module._parameters.items(), *module._buffers.items()):
        if tensor is not None and is_lazy(tensor):
            raise OutOfDomain(
                "a layer that does not know its size yet cannot be put in light",
                device=f"{name}.{key}".removeprefix("."),
                expected="weights",
                seen=type(tensor).__name__,
                hint="run the model once before opticalize",
            )
        if tensor is not None and tensor.is_meta:
            raise OutOfDomain(
                "a model without its weights cannot be put in light",
                device=f"{name}.{key}".removeprefix("."),
                expected="numbers",
                seen="a tensor on the meta device",
                hint="load the weights first; opticalize a model before accelerate sends layers elsewhere",
            )
    weight = getattr(module, "weight", None)
    is_packed = inspect.ismethod(weight) or ".quantized." in f"{type(module).__module__}."
    if is_packed or (
        isinstance(weight, nn.Parameter)
        and isinstance(module, nn.Linear)
        and not (weight.is_floating_point() or weight.is_complex())
    ):
        raise OutOfDomain(
            "a layer whose weights are packed into fewer bits cannot be put in light",
            device=name or type(module).__name__,
            expected="weights that are floating-point numbers",
            seen=f"{type(module).__module__}.{type(module).__name__}",
            hint="load the model without quantisation; the bench rounds by itself",
        )


def heads_of(model: nn.Module) -> Iterator[str]:
    """Names of what gives the logits: embeddings, whose table is one when it multiplies, and the model's own answer.

    What an adapter puts into a head, or around it, is part of the head.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    ask = getattr(model, "get_output_embeddings", None)
    own = ask() if callable(ask) else None
    inside: list[str] = []
    for name, module in model.named_modules():
        is_head = id(getattr(module, "weight", None)) in tables or (own is not None and module is own)
        if is_head and not holds_table(module):
            inside.append(f"{name}.")
        if is_head or name.startswith(tuple(inside)):
            yield name


def holds_table(module: nn.Module) -> bool:
    """Whether it is an embedding, or what an adapter has made of one: it multiplies by its table as a head alone."""
    return any(isinstance(each, nn.Embedding) for each in module.modules())


def _holds_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _why(module: nn.Module) -> str:
    """Why a layer that holds parameters is no product; empty where that is seen when it runs."""
    if isinstance(module, nn.Embedding):
        return "embedding: a table, not a product"
    return "normalisation" if "Norm" in type(module).__name__ else ""


def replace_products(
    model: nn.Module, linear_factory: LinearFactory, product_factory: ProductFactory, *, keep: Iterable[str] = ()
) -> list[str]:
    """Put modules that train in place of `torch.nn.Linear` and `Product`; `convert` is for what is only run.

    Parameters
    ----------
    linear_factory, product_factory
        From a module's name and the module to what replaces it, which should hold the original parameters.
    keep
        Names, or shell patterns of names, that stay as they are.

    Returns
    -------
    Names of what was replaced, in the model's order.
    """
    keep, replaced = tuple(keep), []
    for name, module in list(model.named_modules()):
        if not name or is_kept(name, keep):
            continue
        if isinstance(module, nn.Linear):
            model.set_submodule(name, linear_factory(name, module))
        elif isinstance(module, Product):
            model.set_submodule(name, product_factory(name, module))
        else:
            continue
        replaced.append(name)
    return replaced
