"""What a model computes, counted by watching it run: every matrix product with its shape, on tensors without memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from simulation.conversion.by_parts import by_parts, recurrent_by_parts
from simulation.conversion.contraction import contract, forget, note
from simulation.conversion.counting import count_macs, multiplies
from simulation.conversion.origins import tensors_of
from simulation.conversion.products import Copied, kind_of
from simulation.energy.forms import Form, forms_of

aten = torch.ops.aten

OPS_PER_ELEMENT = {
    "softmax": 5, "norm": 8, "activation": 1, "residual": 1, "gate": 1, "rotary": 3, "convolution": 2, "state": 7,
}  # fmt: skip
"""Arithmetic operations per element: softmax subtracts, exponentiates, sums, divides and masks; a norm takes two sums,
a difference, a square, a root and a scale; a rotation two products and a sum; a tap of a convolution a product and a
sum; a number of a recurrent state seven (`simulation.energy.recurrent`); others take one."""

_ELEMENTWISE: dict[Any, str] = {
    aten._softmax.default: "softmax",
    aten._safe_softmax.default: "softmax",
    aten.native_layer_norm.default: "norm",
    aten._fused_rms_norm.default: "norm",
    aten.relu.default: "activation",
    aten.hardtanh.default: "activation",
    aten.gelu.default: "activation",
    aten.silu.default: "activation",
    aten.tanh.default: "activation",
}
_NON_NEGATIVE = {aten.relu.default, aten._softmax.default, aten._safe_softmax.default, aten.sigmoid.default}
_COPIES = {aten.clone.default, aten._to_copy.default}
_SCALED = {aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar}
_ANGLES = {aten.cos.default, aten.sin.default}
_ARRANGED = {*_COPIES, aten.cat.default, aten.stack.default, aten.index_select.default}
OTHER = "digital"
"""The kind of what is no matrix product: it is not priced in light."""


@dataclass(frozen=True)
class MatrixProduct:
    """``batch`` products (n × k) · (k × m).

    Attributes
    ----------
    layer
        Name of the module that computes it.
    kind
        ``"linear"`` (one operand is made of parameters) or ``"attention"`` (both are new); ``"digital"`` for what
        multiplies and is no matrix product, such as a Fourier transform, whose multiply–accumulates are its ``batch``.
    n, k, m
        Vectors shown, inputs of each, outputs of each.
    batch
        How many such products: heads × sequences for attention.
    non_negative
        Whether the vectors cannot be negative (after ReLU or softmax): their negative pass is dark.
    new
        Elements of each matrix of attention that this pass adds to a cache of keys or values, or to a window that moves
        on; None where all are new.
    idle
        Further matrices of this shape that are held and see none of the vectors: experts that nobody asked.
    stage
        Vectors that pass the stage of a pipeline of which this matrix sees ``n``; 0 where it sees them all.
    """

    layer: str
    kind: str
    n: int
    k: int
    m: int
    batch: int = 1
    non_negative: bool = False
    new: int | None = None
    idle: int = 0
    stage: int = 0

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
    uncounted
        (layer, operation) of what multiplies, nobody knows how often.
    is_served
        A user waits for these tokens: a processor fetches every matrix from memory for them, once. Otherwise there are
        so many vectors that the energy per MAC of a whole chip has that in it.
    cache_read, cache_written
        Keys and values of earlier tokens that are fetched, and those that this pass adds [elements].
    state_read, state_written
        Of recurrent blocks, the same; they are the processor's, wherever keys and values lie.
    """

    tokens: int
    products: tuple[MatrixProduct, ...]
    elementwise: dict[tuple[str, str], int] = field(default_factory=dict)
    uncounted: tuple[tuple[str, str], ...] = ()
    is_served: bool = False
    cache_read: int = 0
    cache_written: int = 0
    state_read: int = 0
    state_written: int = 0

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
    with torch.no_grad(), by_parts(), recurrent_by_parts(), watch.tracker, watch:
        model(*inputs, **keywords)
    forget()
    return Operations(tokens, tuple(watch.products), watch.elementwise, tuple(dict.fromkeys(watch.uncounted)))


def is_digital(product: MatrixProduct, digital: tuple[str, ...]) -> bool:
    """Whether it is no matrix product, or its layer's name matches a shell pattern of what stays digital."""
    return product.kind == OTHER or any(fnmatchcase(product.layer, pattern) for pattern in digital)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd. Operands are told apart by their storage, which views share."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = ModuleTracker()
        self.products: list[MatrixProduct] = []
        self.elementwise: dict[tuple[str, str], int] = {}
        self.uncounted: list[tuple[str, str]] = []
        self._root = type(model).__name__
        self._held = [parameter.untyped_storage() for parameter in model.parameters()]
        self._static = {storage._cdata for storage in self._held}
        self._non_negative: set[int] = set()
        self._roots: set[int] = set()
        """What divides a vector by its size."""
        self._gate = "", 0
        """Layer and elements of what was multiplied last."""
        self._angles: set[int] = set()
        """Sines and cosines."""
        self._turned: tuple[Tensor, ...] = ()
        """What was multiplied by them last, and the last but one."""
        self._repeats: dict[int, int] = {}
        """How often each matrix is there in a copy of it, as keys are for the queries of a group."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        if kind.is_composite and forms_of(_name(func)) is None:
            with self:
                found = func.decompose(*args, **kwargs)  # type: ignore[attr-defined]
            if found is not NotImplemented:
                return found
        if kind.is_sum and kwargs.get("dtype") is None:
            before = len(self.products)
            contract(self._written_out, self._is_static, self._other, False, args)
            if len(self.products) > before:
                self._withdraw()
        out = func(*args, **kwargs)
        if func in (aten.mul.Tensor, aten.add.Tensor):
            self._combined(func, args[0], args[1], out)
        if kind.is_factors:
            note(out, *args[:2], in_place=kind.is_mutable)
        elif (forms := forms_of(_name(func))) is not None:
            for form in forms(*args, **kwargs, out=out):
                self._product(form)
        elif kind.unrouted and multiplies(kind.unrouted, args, kwargs):
            self._other(_name(func), count_macs(func, args, kwargs, out))
        elif func in _ELEMENTWISE:
            self._elements(_ELEMENTWISE[func], args[0].numel())
        self._follow(func, args, kwargs, out)
        return out

    def _follow(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """What is made of parameters alone is static; what cannot be negative is known."""
        clamped = func is aten.hardtanh.default and len(args) > 1 and args[1] >= 0
        copied = func is aten.clone.default and self._is(args[0], self._non_negative)
        if func in _NON_NEGATIVE or clamped or copied:
            self._mark(out, self._non_negative)
        if func is aten.rsqrt.default:
            self._mark(out, self._roots)
        scaled = func in _SCALED and not _is_many(args[1])
        if func in _ANGLES or ((scaled or func in _ARRANGED) and self._are_angles(args[0])):
            self._mark(out, self._angles)
        inputs = [t for value in (*args, *kwargs.values()) for t in tensors_of(value)]
        if func in _COPIES or scaled:
            self._repeated(args[0], out)
        if inputs and all(self._is_static(t) for t in inputs):
            for tensor in tensors_of(out):
                self._mark(tensor, self._static)

    def _combined(self, func: Any, a: Any, b: Any, out: Tensor) -> None:
        """Two tensors element by element: a norm by its root, a gate or a rotation, or what goes on beside a layer.

        Scales and shifts of parameters count with what they belong to, and so do masks with the softmax.
        """
        both = isinstance(a, Tensor) and isinstance(b, Tensor) and out.is_floating_point()
        if not both or self._is_static(a) or self._is_static(b) or a is b:
            return
        if func is aten.mul.Tensor and (self._is(a, self._roots) or self._is(b, self._roots)):
            self._elements("norm", out.numel())
        elif func is aten.mul.Tensor and min(a.numel(), b.numel()) > 1:
            self._elements("gate", out.numel())
            self._gate = self._layer(), out.numel()
            if self._are_angles(a) or self._are_angles(b):
                self._turned = (*self._turned[-1:], out)
        elif func is aten.add.Tensor and {a._cdata, b._cdata} == {t._cdata for t in self._turned}:
            self._elements("gate", -2 * out.numel())
            self._elements("rotary", out.numel())
        elif func is aten.add.Tensor and a.numel() == out.numel() == b.numel():
            self._elements("residual", out.numel())

    def _are_angles(self, value: Any) -> bool:
        return all(self._is(tensor, self._angles) for tensor in tensors_of(value))

    def _withdraw(self) -> None:
        """What was multiplied last has become a matrix product, and its multiplications are counted there."""
        layer, count = self._gate
        if count:
            self._elements("gate", -count, layer)
        self._gate = "", 0

    def _repeated(self, source: Tensor, copy: Tensor) -> None:
        if source.layout is not torch.strided or copy.layout is not torch.strided:
            return
        spread = math.prod(n for n, stride in zip(source.shape, source.stride(), strict=True) if not stride and n > 1)
        times = spread * self._repeats.get(source.untyped_storage()._cdata, 1)
        if times > 1:
            storage = copy.untyped_storage()
            self._held.append(storage)
            self._repeats[storage._cdata] = times

    def _mark(self, tensor: Tensor, storages: set[int]) -> None:
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        self._held.append(storage)  # an address that is held cannot be given to another tensor
        storages.add(storage._cdata)

    def _is(self, tensor: Tensor, storages: set[int]) -> bool:
        try:
            return tensor.untyped_storage()._cdata in storages
        except (NotImplementedError, RuntimeError):  # sparse
            return False

    def _is_static(self, tensor: Tensor) -> bool:
        return self._is(tensor, self._static)

    def _layer(self) -> str:
        """The innermost module that runs."""
        inside = max(self.tracker.parents, key=lambda name: (name.count("."), len(name)), default="")
        return inside.removeprefix(f"{self._root}.") if inside != "Global" else self._root

    def _product(self, form: Form) -> None:
        """A parameter on the left is the matrix, and the product is read from the other side."""
        n, m, shown = form.n, form.m, form.a
        static = form.b is not None and self._is_static(form.b)
        if form.a is not None and self._is_static(form.a) and not static:
            n, m, shown, static = m, n, form.b, True
        kind = "linear" if static else "attention"
        batch = form.batch
        if not static and form.b is not None and form.b.layout is torch.strided:
            times = self._repeats.get(form.b.untyped_storage()._cdata, 1)
            if not batch % times:  # vectors that meet the same matrix
                n, batch = n * times, batch // times
        non_negative = form.after_softmax or (shown is not None and self._is(shown, self._non_negative))
        self.products.append(MatrixProduct(self._layer(), kind, n, form.k, m, batch, non_negative))
        if form.after_softmax:
            self._elements("softmax", batch * n * form.k)

    def _written_out(
        self, a: Tensor, b: Tensor, bias: Tensor | None = None, *, of: Copied = (None, None)
    ) -> Tensor | None:
        """A product that is multiplied element by element and summed."""
        self._product(Form(a.shape[-2], a.shape[-1], b.shape[-1], a.shape[:-2].numel(), of[0], of[1]))
        return None

    def _other(self, name: str, macs: int | None) -> None:
        if macs is None:
            self.uncounted.append((self._layer(), name))
        elif macs:
            self.products.append(MatrixProduct(self._layer(), OTHER, 1, 1, 1, macs))

    def _elements(self, kind: str, count: int, layer: str | None = None) -> None:
        key = (self._layer() if layer is None else layer, kind)
        self.elementwise[key] = self.elementwise.get(key, 0) + count
        if not self.elementwise[key]:
            del self.elementwise[key]


def _is_many(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() > 1


def _name(func: Any) -> str:
    return str(func.name()).partition("::")[2].partition(".")[0]
