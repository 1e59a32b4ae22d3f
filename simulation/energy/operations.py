"""What a model computes, counted by watching it run: every matrix product with its shape, on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

aten = torch.ops.aten

OPS_PER_ELEMENT = {"softmax": 5, "norm": 8, "activation": 1, "residual": 1}
"""Arithmetic operations per element: softmax subtracts, exponentiates, sums, divides and masks; a norm takes two sums,
a difference, a square, a root and a scale; others take one."""

_ELEMENTWISE: dict[Any, str] = {
    aten._softmax.default: "softmax",
    aten._safe_softmax.default: "softmax",
    aten.native_layer_norm.default: "norm",
    aten._fused_rms_norm.default: "norm",
    aten.rsqrt.default: "norm",
    aten.relu.default: "activation",
    aten.hardtanh.default: "activation",
    aten.gelu.default: "activation",
    aten.silu.default: "activation",
    aten.tanh.default: "activation",
    aten.add.Tensor: "residual",
}
_NON_NEGATIVE = {aten.relu.default, aten._softmax.default, aten._safe_softmax.default, aten.sigmoid.default}
_SDPA = {
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    aten._scaled_dot_product_fused_attention_overrideable.default,
}


@dataclass(frozen=True)
class MatrixProduct:
    """``batch`` products (n × k) · (k × m).

    Attributes
    ----------
    layer
        Name of the module that computes it.
    kind
        ``"linear"`` (one operand is a parameter) or ``"attention"`` (both are new).
    n, k, m
        Vectors shown, inputs of each, outputs of each.
    batch
        How many such products: heads × sequences for attention.
    non_negative
        Whether the vectors cannot be negative (after ReLU or softmax): their negative pass is dark.
    """

    layer: str
    kind: str
    n: int
    k: int
    m: int
    batch: int = 1
    non_negative: bool = False

    @property
    def macs(self) -> int:
        """Multiply–accumulates."""
        return self.batch * self.n * self.k * self.m


@dataclass(frozen=True)
class Operations:
    """All of one forward pass.

    Attributes
    ----------
    tokens
        That went through.
    products
        In the order computed.
    elementwise
        (layer, kind) → elements: softmax, norm, activation, residual.
    """

    tokens: int
    products: tuple[MatrixProduct, ...]
    elementwise: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply–accumulates of all products."""
        return sum(product.macs for product in self.products)


def count_operations(model: nn.Module, *inputs: Any, tokens: int, **keywords: Any) -> Operations:
    """Watch one forward pass; on the ``meta`` device it costs no memory whatever the model's size.

    Parameters
    ----------
    model, inputs, keywords
        ``model(*inputs, **keywords)`` is run without gradients.
    tokens
        Tokens in ``inputs``.
    """
    watch = _Watch(model)
    with torch.no_grad(), watch.tracker, watch:
        model(*inputs, **keywords)
    return Operations(tokens, tuple(watch.products), watch.elementwise)


def is_digital(layer: str, digital: tuple[str, ...]) -> bool:
    """Whether a layer's name matches one of the shell patterns of what stays digital."""
    return any(fnmatchcase(layer, pattern) for pattern in digital)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd. Operands are told apart by their storage, which views share."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = ModuleTracker()
        self.products: list[MatrixProduct] = []
        self.elementwise: dict[tuple[str, str], int] = {}
        self._root = type(model).__name__
        self._held = [parameter.untyped_storage() for parameter in model.parameters()]
        self._static = {storage._cdata for storage in self._held}
        self._non_negative: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is aten.mm.default:
            self._product(args[0], args[1])
        elif func is aten.addmm.default:
            self._product(args[1], args[2])
        elif func is aten.bmm.default:
            self._product(args[0], args[1])
        elif func is aten.baddbmm.default:
            self._product(args[1], args[2])
        elif func in _SDPA:
            self._attention(*args[:3])
        elif func in _ELEMENTWISE:
            key = (self._layer(), _ELEMENTWISE[func])
            size = args[0].numel()
            self.elementwise[key] = self.elementwise.get(key, 0) + size
        clamped = func is aten.hardtanh.default and len(args) > 1 and args[1] >= 0
        copied = func is aten.clone.default and self._is(args[0], self._non_negative)
        if func in _NON_NEGATIVE or clamped or copied:
            self._mark(out)
        return out

    def _mark(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self._held.append(storage)  # an address that is held cannot be given to another tensor
        self._non_negative.add(storage._cdata)

    def _is(self, tensor: Tensor, storages: set[int]) -> bool:
        return tensor.untyped_storage()._cdata in storages

    def _layer(self) -> str:
        """The innermost module that runs."""
        inside = max(self.tracker.parents, key=lambda name: (name.count("."), len(name)), default="")
        return inside.removeprefix(f"{self._root}.") if inside != "Global" else self._root

    def _product(self, a: Tensor, b: Tensor) -> None:
        """(…, n, k) · (…, k, m); a parameter on the left is the matrix, and the product is read from the other side."""
        batch = prod(a.shape[:-2])
        n, k, m = a.shape[-2], a.shape[-1], b.shape[-1]
        shown = a
        static = self._is(b, self._static)
        if self._is(a, self._static) and not static:
            n, m, shown, static = m, n, b, True
        self.products.append(
            MatrixProduct(
                self._layer(),
                "linear" if static else "attention",
                n,
                k,
                m,
                batch,
                self._is(shown, self._non_negative),
            )
        )

    def _attention(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Fused attention: scores, then their mix of the values. All scores are counted, masked ones too."""
        layer, batch = self._layer(), prod(query.shape[:-2])
        n, d, length, out = query.shape[-2], query.shape[-1], key.shape[-2], value.shape[-1]
        self.products.append(MatrixProduct(layer, "attention", n, d, length, batch))
        self.products.append(MatrixProduct(layer, "attention", n, length, out, batch, non_negative=True))
        key_ = (layer, "softmax")
        self.elementwise[key_] = self.elementwise.get(key_, 0) + batch * n * length
