"""Torch's operations that are matrix products, each by its operands."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from simulation.conversion.counting import ELEMENTWISE, Count

aten = torch.ops.aten


Copied = tuple[Tensor | None, Tensor | None]
"""What two operands were rearranged from: a copy lies elsewhere, and is the same matrix."""


class Multiply(Protocol):
    """(n, K) by (K, M), or (B, n, K) by (B, K, M), and a bias (M,); None where torch is to do it.

    ``of`` says what the operands were rearranged from.
    """

    def __call__(
        self, a: Tensor, b: Tensor, bias: Tensor | None = None, *, of: Copied = (None, None)
    ) -> Tensor | None: ...


def _mm(multiply: Multiply, a: Tensor, b: Tensor) -> Tensor | None:
    return multiply(a, b)


def _mv(multiply: Multiply, a: Tensor, b: Tensor) -> Tensor | None:
    y = multiply(a, b[:, None])
    return None if y is None else y[:, 0]


def _dot(multiply: Multiply, a: Tensor, b: Tensor) -> Tensor | None:
    y = multiply(a[None], b[:, None])
    return None if y is None else y[0, 0]


def _addbmm(multiply: Multiply, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor | None:
    """Σ over the batch: one product of rows and columns that lie end to end."""
    rows, columns = a.transpose(0, 1).flatten(1), b.flatten(0, 1)
    found: Tensor | None = _added(_mm)(partial(multiply, of=(a, b)), c, rows, columns, beta=beta, alpha=alpha)
    return found


def _added(product: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """``beta · c + alpha · a b``."""

    def multiply_and_add(
        multiply: Multiply, c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1
    ) -> Tensor | None:
        if product is _mm and c.shape == b.shape[-1:] and beta == 1 and alpha == 1:
            return multiply(a, b, c)
        y = product(multiply, a, b) if c.dtype == a.dtype else None
        if y is None:
            return None
        y = y if alpha == 1 else y * alpha
        return y if beta == 0 else y + (c if beta == 1 else c * beta).expand(y.shape)

    return multiply_and_add


def _are_strided(*operands: Tensor) -> bool:
    """Sparse operands have no shape that could be changed; those torch takes apart itself."""
    return all(operand.layout is torch.strided for operand in operands)


def _linear(multiply: Multiply, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if not _are_strided(x, weight):
        return NotImplemented
    matrix = weight if weight.ndim == 2 else weight[None]
    if bias is not None and bias.shape != matrix.shape[:1]:  # a single number
        y = _linear(multiply, x, weight)
        return None if y is None else y + bias
    y = multiply(x.reshape(-1, x.shape[-1]), matrix.t(), bias, of=(x, None))
    return None if y is None else y.reshape(*x.shape[:-1], *weight.shape[:-1])


def _matmul(multiply: Multiply, a: Tensor, b: Tensor) -> Any:
    """Vectors by one matrix, or as many matrices by as many; torch takes other shapes apart."""
    if not _are_strided(a, b):
        return NotImplemented
    if b.ndim == 2 and a.ndim >= 2:
        y = multiply(a.reshape(-1, a.shape[-1]), b, of=(a, None))
    elif a.ndim > 2 and a.shape[:-2] == b.shape[:-2]:
        y = multiply(a.flatten(0, -3), b.flatten(0, -3), of=(a, b))
    else:
        return NotImplemented
    return None if y is None else y.view(*a.shape[:-1], b.shape[-1])


def _convolution(
    multiply: Multiply,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Any:
    """Windows of the image, one after the other, by the kernels; not where channels are kept apart."""
    axes = weight.ndim - 2
    if transposed or groups != 1 or axes not in (1, 2):
        return NotImplemented
    stride, padding, dilation = (list(each) * (axes // len(each)) for each in (stride, padding, dilation))
    if axes == 1:
        x, weight = x[:, :, None], weight[:, :, None]
        stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
    kernel = weight.shape[2:]
    windows = nn.functional.unfold(x, kernel, tuple(dilation), tuple(padding), tuple(stride)).transpose(
        1, 2
    )  # (B, L, K)
    y = multiply(windows.reshape(-1, windows.shape[-1]), weight.flatten(1).t(), bias, of=(None, weight))
    if y is None:
        return None
    sides = [
        (size + 2 * pad - reach * (edge - 1) - 1) // step + 1
        for size, pad, reach, edge, step in zip(x.shape[2:], padding, dilation, kernel, stride, strict=True)
    ]
    y = y.view(len(x), -1, len(weight)).transpose(1, 2).reshape(len(x), len(weight), *sides)
    return y[:, :, 0] if axes == 1 else y


def _grouped(
    multiply: Multiply,
    a: Tensor,
    b: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """Rows of ``a``, sorted by expert, each by the matrix of its expert."""
    if offs is None or a.ndim != 2 or b.ndim != 3 or bias is not None:
        return NotImplemented
    edges = [0, *offs.tolist()]
    y = a.new_zeros((len(a), b.shape[-1]), dtype=out_dtype or a.dtype)
    for expert in range(len(b)):
        rows = slice(edges[expert], edges[expert + 1])
        if rows.stop > rows.start:
            part = multiply(a[rows], b[expert])
            y[rows] = a[rows] @ b[expert] if part is None else part
    return y


def _attention(
    multiply: Multiply,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """What torch makes of it by its parts, in single precision and without a mask: as when one token is written."""
    plain = mask is None and not dropout and not is_causal and (scale is None or scale > 0)
    if not plain or not q.ndim == k.ndim == v.ndim == 4 or q.shape[-1] != k.shape[-1] or q.dtype != torch.float32:
        return NotImplemented
    shared = q.shape[1] // max(k.shape[1], 1) if enable_gqa else 1
    if k.shape[:3] != v.shape[:3] or q.shape[:2] != (k.shape[0], k.shape[1] * shared) or not q.numel() or not k.numel():
        return NotImplemented
    root = math.sqrt(1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    keys, values = (k * root).repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
    scores = _multiplied(multiply, q * root, keys.mT)
    return _multiplied(multiply, torch._safe_softmax(scores, -1), values)


def _multiplied(multiply: Multiply, a: Tensor, b: Tensor) -> Tensor:
    """Pairs of new operands (…, n, K) and (…, K, M), by torch where light leaves them to it."""
    y = multiply(a.flatten(0, -3), b.flatten(0, -3))
    return a @ b if y is None else y.view(*a.shape[:-1], b.shape[-1])


def _written(product: Callable[..., Any]) -> Callable[..., Any]:
    """A product that is written into a tensor: ``out``, or the first operand."""

    def multiply_into(multiply: Multiply, *operands: Any, out: Tensor | None = None, **factors: Any) -> Any:
        y = product(multiply, *operands, **factors)
        if y is None or y is NotImplemented:
            return y
        target: Tensor = operands[0] if out is None else out
        if target.dtype != y.dtype:
            return None
        return target.copy_(y) if out is None else target.resize_(y.shape).copy_(y)

    return multiply_into


PRODUCTS: dict[Any, Callable[..., Any]] = {
    aten.mm.default: _mm,
    aten.bmm.default: _mm,
    aten.mv.default: _mv,
    aten.dot.default: _dot,
    aten.vdot.default: _dot,
    aten.addbmm.default: _addbmm,
    aten.addmm.default: _added(_mm),
    aten.baddbmm.default: _added(_mm),
    aten.addmv.default: _added(_mv),
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.convolution.default: _convolution,
}
"""Operation → what multiplies its operands; it returns None where `Multiply` does, NotImplemented for other forms."""
PRODUCTS |= {
    getattr(aten, func._schema.name.partition("::")[2]).out: _written(product)
    for func, product in list(PRODUCTS.items())
}
PRODUCTS |= {
    getattr(aten, f"{name}_").default: _written(PRODUCTS[getattr(aten, name).default])
    for name in ("addbmm", "addmm", "baddbmm", "addmv")
}
if hasattr(aten, "_grouped_mm"):
    PRODUCTS[aten._grouped_mm.default] = _grouped
PRODUCTS[aten.scaled_dot_product_attention.default] = _attention

_OTHER = re.compile(
    r"(^|_)(mm|bmm|addmm|baddbmm|addbmm|mv|addmv|dot|vdot|matmul|linear|rnn|lstm|gru|attention|conv\w*|trilinear|cdist|int4pack"
    r"|einsum|tensordot|inner|bilinear|cell|chain|kron|pdist|euclidean|bag|fft|qr|ormqr|orgqr|geqrf|svd|eigh?|lstsq|det|slogdet|inv"
    r"|cholesky|lu|ldl|solve|householder|pinv|matrix_(exp|power))(_|$)"
)
"""In the name of an operation: it may multiply matrices."""
_SINGLE = re.compile(
    r"(^|_)(addr|addcmul|addcdiv|prod|cumprod|logcumsumexp|upsample|sampler|scatter_reduce|index_reduce)(_|$)"
)
"""In the name of an operation: it multiplies numbers one by one and sums them, or multiplies on, in its own way."""
_NEVER = re.compile("_backward|triu|conv_tbc_out|convert|unpack")
_COMPOSED = re.compile(
    r"(^|_)(multiply|outer|ger|kron|cross|vander|vecdot|similarity|prelu|trapezoid|nansum|cov|corrcoef)(_|$)|_norm$"
)
"""In the name of an operation that is made of others: they may multiply element by element."""
_ADDS = re.compile(
    r"^_?(cumsum|index_add|index_reduce|scatter_add|scatter_reduce|index_put|segment_reduce|nansum|trapezoid)(_|$)"
)
"""In the name of an operation: it sums up what it is given, in a way that is no matrix product's."""
SUMS = (aten.sum.dim_IntList, aten.sum.default, aten.mean.dim, aten.mean.default)
"""What makes a product of what was multiplied element by element."""


@dataclass(frozen=True)
class Kind:
    """What there is to know about one of torch's operations.

    Attributes
    ----------
    func
        The operation.
    product
        What multiplies its operands, from `PRODUCTS`; None for others.
    is_attention
        It is two products between which numbers are changed: of operands that are all new with every call, or torch
        takes it apart.
    is_composite
        It is made of other operations, and products may be among them. Torch shows these one by one, unless gradients
        are switched off for good.
    unrouted
        What it is called if it may multiply matrices and is neither of these; empty for others. Torch's own are known
        by their names, whatever is added to them later. Of operations that others have compiled, nothing is known.
    is_single
        It is unrouted and multiplies numbers one by one.
    is_mutable
        It writes into an operand.
    is_factors
        It multiplies element by element, and what comes of it may be summed at once.
    elements
        How often it multiplies two numbers without a sum; None for others.
    adds
        It sums what it is given in a way of its own, by name; empty for others.
    is_sum
        It is one of `SUMS`.
    is_plain
        None of all this: it makes something new, and multiplies nothing.
    """

    func: Any
    product: Callable[..., Any] | None
    is_attention: bool
    is_composite: bool
    unrouted: str
    is_single: bool
    is_mutable: bool
    is_factors: bool
    elements: Count | None
    adds: str
    is_sum: bool
    is_plain: bool


_kinds: dict[int, Kind] = {}


def kind_of(func: Any) -> Kind:
    """What there is to know about an operation; asked of thousands in one forward, so it is remembered by identity."""
    found = _kinds.get(id(func))
    if found is None:
        product, mutable = PRODUCTS.get(func), bool(func._schema.is_mutable)
        composite, unrouted = _holds_products(func), _unrouted(func)
        space, name = _name(func)
        name, sums = name.removesuffix("_") if space == "aten" else "", func in SUMS
        adds = name if _ADDS.search(name) else ""
        plain = product is None and not any((composite, unrouted, mutable, sums, adds))
        single, elements = bool(_SINGLE.search(unrouted)), ELEMENTWISE.get(name)
        found = _kinds[id(func)] = Kind(
            func, product, product is _attention, composite, unrouted, single, mutable, name == "mul", elements, adds,
            sums, plain,
        )  # fmt: skip
    return found


def _name(func: Any) -> tuple[str, str]:
    """Whose operation it is, and what it is called there."""
    space, _, name = str(func.name()).partition("::")
    return space, name.partition(".")[0]


def _unrouted(func: Any) -> str:
    space, name = _name(func)
    if space == "aten":
        may = bool(_OTHER.search(name) or _SINGLE.search(name)) and not _NEVER.search(name)
    else:
        may = space not in ("prim", "prims", "profiler", "inductor", "debugprims")
    return (name if space == "aten" else f"{space}.{name}") if may else ""


def _holds_products(func: Any) -> bool:
    return (
        isinstance(func, torch._ops.OpOverload)
        and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
        and any(pattern.search(_name(func)[1]) for pattern in (_OTHER, _SINGLE, _COMPOSED))
    )
