"""Put light under any model: its linear layers and attention products, found by what they are and not by a list.

What is converted: `torch.nn.Linear` and subclasses that keep its forward; layers with a transposed weight (Hugging
Face's ``Conv1D``); `torch.nn.MultiheadAttention` with its packed projection; attention through
`torch.nn.functional.scaled_dot_product_attention` or Hugging Face's attention interface; `simulation.models.gpt`'s
`Product`. The output head stays digital unless asked for. Parameters are held, not copied, and keep their names:
``state_dict`` has the same keys before and after.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from inspect import unwrap
from typing import Protocol, TypeVar

from torch import Tensor, nn

from simulation.conversion.attention import HF_INTERFACE, SDPA, FusedAttention, PackedAttention, Pair, use_hugging_face
from simulation.models.gpt import Product

Model = TypeVar("Model", bound=nn.Module)
Matrix = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, weight, bias) → ``x @ weight.T + bias`` for x (…, K), weight (M, K), bias (M,) or None."""

STANDS_FOR_LINEAR = "stands_for_linear"
"""Attribute of a subclass of `torch.nn.Linear` with a forward of its own that light may replace."""

LinearFactory = Callable[[str, nn.Linear], nn.Module]
ProductFactory = Callable[[str, Product], nn.Module]


class Light(Protocol):
    """What computes products: a calibrated bench, or anything that can stand in for one."""

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """What multiplies by a ``weight`` (M, K) that stays; it is handed the weight of now with every call."""

    def pair(self, name: str) -> Pair:
        """A function (…, n, K), (…, K, M) → (…, n, M) for two operands that are new with every call."""


@dataclass
class Conversion:
    """What became optical and what did not.

    Attributes
    ----------
    optical
        Names of matrices and attention products; those of a packed layer have names of their own.
    digital
        Name of a layer with parameters, or of an attention, that stayed digital → why.
    """

    optical: list[str] = field(default_factory=list)
    digital: dict[str, str] = field(default_factory=dict)


def shared_copy(model: Model) -> Model:
    """A copy of the structure that holds the very same parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def convert(model: nn.Module, light: Light, *, keep: Iterable[str] = (), head: bool = False) -> Conversion:
    """Convert in place.

    Parameters
    ----------
    light
        `Light`
    keep
        Names, or shell patterns of names, that stay digital: ``("blocks.0.*",)``.
    head
        Whether the output head becomes optical too; in the paper it stays digital.

    Returns
    -------
    What became optical, and why the rest did not, in the model's order.
    """
    keep, done = tuple(keep), Conversion()
    heads = set() if head else _heads(model)
    inside = ""  # of a packed attention, which was dealt with as a whole
    for name, module in list(model.named_modules()):
        if inside and name.startswith(inside):
            continue
        dotted = f"{name}." if name else ""
        if any(fnmatchcase(name, pattern) for pattern in keep):
            if _holds_parameters(module) or _attends(module):
                done.digital[name] = "kept by request"
        elif name in heads:
            done.digital[name] = "output head"
        elif not name and not _attends(module):
            continue  # the model itself cannot be put in its own place
        elif isinstance(module, Product):
            model.set_submodule(name, ConvertedProduct(light.pair(name)))
            done.optical.append(name)
        elif isinstance(module, nn.MultiheadAttention):
            inside = f"{name}."
            _packed(model, name, module, light, done)
        elif _is_linear(module):
            model.set_submodule(name, ConvertedLinear(name, module, light, transposed=False))
            done.optical.append(name)
        elif _is_transposed(module):
            model.set_submodule(name, ConvertedLinear(name, module, light, transposed=True))
            done.optical.append(name)
        elif SDPA in _names(module):
            pairs = light.pair(f"{dotted}qk"), light.pair(f"{dotted}av")
            module.forward = FusedAttention(module, pairs)
            done.optical += [f"{dotted}qk", f"{dotted}av"]
        elif HF_INTERFACE in _names(module):
            use_hugging_face(module, (light.pair(f"{dotted}qk"), light.pair(f"{dotted}av")))
            done.optical += [f"{dotted}qk", f"{dotted}av"]
        elif _holds_parameters(module):
            done.digital[name] = _why(module)
    return done


@contextmanager
def digitally(model: nn.Module) -> Iterator[None]:
    """While open, converted layers compute what they did before: the same names, exact products."""
    converted = [m for m in model.modules() if isinstance(m, ConvertedLinear | ConvertedProduct | PackedAttention)]
    fused = [m.forward for m in model.modules() if isinstance(m.forward, FusedAttention)]
    pairs = [m for m in model.modules() if hasattr(m, "optical_pairs")]
    for item in (*converted, *fused, *pairs):
        item.digital = True
    try:
        yield
    finally:
        for item in (*converted, *fused, *pairs):
            item.digital = False


class ConvertedLinear(nn.Module):
    """A linear layer in light: the original parameters; the bias is added digitally.

    Parameters
    ----------
    linear
        Has ``weight``, (M, K) or transposed (K, M), and ``bias`` (M,) or None.
    """

    def __init__(self, name: str, linear: nn.Module, light: Light, *, transposed: bool) -> None:
        super().__init__()
        weight, bias = linear.weight, linear.bias
        assert isinstance(weight, Tensor)
        assert bias is None or isinstance(bias, Tensor)
        self.weight, self.bias = weight, bias
        self.transposed, self.digital = transposed, False
        self._matrix = light.matrix(name, self._of_now)

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, M)."""
        multiply = nn.functional.linear if self.digital else self._matrix
        return multiply(x, self._of_now, self.bias)

    @property
    def _of_now(self) -> Tensor:
        return self.weight.mT if self.transposed else self.weight


class ConvertedProduct(Product):
    """``a @ b`` in light."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self._pair, self.digital = pair, False

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(…, n, K) and (…, K, M) to (…, n, M)."""
        return a @ b if self.digital else self._pair(a, b)


def _packed(model: nn.Module, name: str, module: nn.MultiheadAttention, light: Light, done: Conversion) -> None:
    refusal = PackedAttention.refusal(module)
    if refusal:
        done.digital[name] = refusal
        return
    model.set_submodule(name, PackedAttention(name, module, light))
    done.optical += [f"{name}.{part}" for part in ("query", "key", "value", "qk", "av", "out_proj")]


def _heads(model: nn.Module) -> set[str]:
    """Linear layers that give the logits: tied to an embedding, or what the model calls its output embeddings."""
    tied = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    found = {name for name, m in model.named_modules() if isinstance(m, nn.Linear) and id(m.weight) in tied}
    ask = getattr(model, "get_output_embeddings", None)
    own = ask() if callable(ask) else None
    return found | {name for name, m in model.named_modules() if own is not None and m is own}


def _is_linear(module: nn.Module) -> bool:
    """``torch.nn.Linear`` that computes as such, or says that it does."""
    if not isinstance(module, nn.Linear):
        return False
    return type(module).forward is nn.Linear.forward or getattr(module, STANDS_FOR_LINEAR, False)


def _is_transposed(module: nn.Module) -> bool:
    """A linear layer by protocol, with its weight stored (K, M): Hugging Face's ``Conv1D``."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and isinstance(weight, Tensor) and weight.ndim == 2


def _names(module: nn.Module) -> tuple[str, ...]:
    """What the module's own forward calls."""
    code = getattr(unwrap(type(module).forward), "__code__", None)
    return code.co_names if code is not None else ()


def _attends(module: nn.Module) -> bool:
    return isinstance(module, Product | nn.MultiheadAttention) or bool({SDPA, HF_INTERFACE} & set(_names(module)))


def _holds_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def _why(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return "a linear layer with a forward of its own"
    if isinstance(module, nn.Embedding):
        return "embedding: a table, not a product"
    if "Norm" in type(module).__name__:
        return "normalisation"
    return f"{type(module).__name__}: no product that is known"


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
        if not name or any(fnmatchcase(name, kept) for kept in keep):
            continue
        if isinstance(module, nn.Linear):
            model.set_submodule(name, linear_factory(name, module))
        elif isinstance(module, Product):
            model.set_submodule(name, product_factory(name, module))
        else:
            continue
        replaced.append(name)
    return replaced
