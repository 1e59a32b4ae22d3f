"""Put light under any model: its linear layers and attention products, found by what they are and not by a list.

What is converted: `torch.nn.Linear` and subclasses that keep its forward; layers with a transposed weight (Hugging
Face's ``Conv1D``); `torch.nn.MultiheadAttention` with its packed projection; attention through
`torch.nn.functional.scaled_dot_product_attention` or Hugging Face's attention interface; `simulation.model.Product`.
The output head stays digital unless asked for. Parameters are held, not copied, and keep their names: ``state_dict``
has the same keys before and after.
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

from simulation.attention import HF_INTERFACE, SDPA, FusedAttention, PackedAttention, Pair, use_hugging_face
from simulation.model import Product

Model = TypeVar("Model", bound=nn.Module)
Matrix = Callable[[Tensor], Tensor]


class Light(Protocol):
    """What computes products: a calibrated bench, or anything that can stand in for one."""

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """A function (…, K) → (…, M) for a ``weight`` (M, K) that stays; called again when the weight has changed."""

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
        elif isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
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
        self._name, self._light = name, light
        self._shown: tuple[int, Matrix] | None = None
        self._matrix()

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, M)."""
        if self.digital:
            weight = self.weight.mT if self.transposed else self.weight
            return nn.functional.linear(x, weight, self.bias)
        y = self._matrix()(x)
        return y if self.bias is None else y + self.bias

    def _matrix(self) -> Matrix:
        """Shown once, and again after the weight was changed in place."""
        version = 0 if self.weight.is_inference() else self.weight._version
        if self._shown is None or self._shown[0] != version:
            weight = self.weight.mT if self.transposed else self.weight
            self._shown = version, self._light.matrix(self._name, weight)
        return self._shown[1]


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
