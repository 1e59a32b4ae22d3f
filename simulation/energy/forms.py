"""The matrix products in one call of each of torch's operations: how many vectors, how long, how many outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Form:
    """``batch`` products (n × k) · (k × m).

    Attributes
    ----------
    a, b
        The operands that they are of, for whoever asks where these come from; None if they are new.
    after_softmax
        The vectors are weights of attention.
    """

    n: int
    k: int
    m: int
    batch: int = 1
    a: Tensor | None = None
    b: Tensor | None = None
    after_softmax: bool = False


Forms = Callable[..., Iterator[Form]]


def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    yield Form(a.shape[-2], a.shape[-1], b.shape[-1], math.prod(a.shape[:-2]), a, b)


def _added(forms: Forms) -> Forms:
    def of(_: Tensor, *operands: Any, **more: Any) -> Iterator[Form]:
        return forms(*operands, **more)

    return of


def _summed(a: Tensor, b: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    yield Form(a.shape[1], a.shape[0] * a.shape[2], b.shape[2], 1, a, b)


def _vector(a: Tensor, x: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    yield Form(a.shape[0], a.shape[1], 1, 1, a, x)


def _dot(a: Tensor, b: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    yield Form(1, a.numel(), 1, 1, a, b)


def _linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    m, k = (weight.shape[0], weight.shape[1]) if weight.ndim == 2 else (1, weight.shape[0])
    yield Form(x.numel() // max(k, 1), k, m, 1, x, weight)


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *_: Any, out: Tensor, **__: Any,
) -> Iterator[Form]:  # fmt: skip
    """Windows by kernels, group by group; of a transposed one, pixels by the kernels that each of them draws."""
    kernel = math.prod(weight.shape[2:])
    if transposed:
        places, k, m = x.shape[0] * math.prod(x.shape[2:]), weight.shape[0] // groups, weight.shape[1] * kernel
    else:
        places, k, m = out.shape[0] * math.prod(out.shape[2:]), weight.shape[1] * kernel, weight.shape[0] // groups
    yield Form(places, k, m, groups, x, weight)


def _grouped(a: Tensor, b: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    """Rows by experts: how many each gets depends on the input, what all of them cost does not. Even shares are taken.

    Other forms have one operand of three axes at least: a sum of outer products, or a batch.
    """
    if a.ndim == 2 and b.ndim == 3:
        share, rest = divmod(a.shape[0], b.shape[0])
        for n, experts in ((share + 1, rest), (share, b.shape[0] - rest)):
            if n and experts:
                yield Form(n, a.shape[1], b.shape[2], experts, a, b)
    elif a.ndim == 3 and b.ndim == 2:
        share, rest = divmod(b.shape[1], a.shape[0])
        for m, experts in ((share + 1, rest), (share, a.shape[0] - rest)):
            if m and experts:
                yield Form(a.shape[1], a.shape[2], m, experts, a, b)
    elif a.ndim == 3:
        yield from _product(a, b)
    else:
        yield Form(a.shape[0], a.shape[1], b.shape[1], 1, a, b)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    """(…, n, d) each: scores, then their mix of the values. All scores are counted, masked ones too."""
    batch, n, length = math.prod(query.shape[:-2]), query.shape[-2], key.shape[-2]
    yield Form(n, query.shape[-1], length, batch)
    yield Form(n, length, value.shape[-1], batch, after_softmax=True)


def _attention_by_token(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Iterator[Form]:
    """(B, n, heads, d) each."""
    return _attention(*(t.transpose(-2, -3) for t in (query, key, value)))


FORMS: dict[str, Forms] = {
    "mm": _product,
    "bmm": _product,
    "_int_mm": _product,
    "_scaled_mm": _product,
    "addmm": _added(_product),
    "baddbmm": _added(_product),
    "addbmm": _added(_summed),
    "mv": _vector,
    "addmv": _added(_vector),
    "dot": _dot,
    "vdot": _dot,
    "linear": _linear,
    "convolution": _convolution,
    "_grouped_mm": _grouped,
    "_scaled_grouped_mm": _grouped,
    "_flash_attention_forward": _attention_by_token,
    "_efficient_attention_forward": _attention_by_token,
}


def forms_of(name: str) -> Forms | None:
    """Of an operation, by its name; None for one that is no plain product."""
    if name.startswith("_scaled_dot_product") and "backward" not in name:
        return _attention
    return FORMS.get(name)
