"""Matrix products that a model writes as it would on paper: multiply element by element, then sum."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from simulation.conversion.products import Multiply

Stays = Callable[[Tensor], bool]
Leave = Callable[[str, int], None]
OWN_WEIGHTS = "each element has weights of its own: nothing is shared"
OTHER_TYPE = "weights of another type of number than the product"
NO_MATRIX = "sums of products, vector by vector: no matrix is in them"
NOT_SEEN = "products element by element, summed in another way than at once"


class _Last(threading.local):
    """What was multiplied last in this thread: the result, where it lies, and its factors if they are still there."""

    result: weakref.ref[Tensor] | None = None
    place: StorageWeakRef | None = None
    factors: tuple[Tensor, Tensor] | None = None


_last = _Last()


def note(result: Tensor, a: Any, b: Any, *, in_place: bool = False) -> None:
    """``result`` is ``a * b``; ``in_place``: it was written over one of them, or over something else."""
    forget()
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and _is_plain(a) and _is_plain(b)):
        return
    _last.result = weakref.ref(result)
    _last.place = StorageWeakRef(result.untyped_storage())  # type: ignore[no-untyped-call]
    _last.factors = None if in_place or a.is_complex() or b.is_complex() else (a, b)


def forget() -> None:
    """Hold on to no factors."""
    _last.result = _last.place = _last.factors = None


def is_last(tensor: Tensor) -> bool:
    """Whether a tensor is what was multiplied last, or a view of it."""
    place = _last.place
    if place is None or tensor.layout is not torch.strided:
        return False
    is_alive = not place.expired()  # type: ignore[no-untyped-call]
    return is_alive and bool(place.cdata == tensor.untyped_storage()._cdata)


def _is_plain(t: Tensor) -> bool:
    return t.layout is torch.strided and (t.is_floating_point() or t.is_complex())


def contract(multiply: Multiply, stays: Stays, leave: Leave, is_mean: bool, args: tuple[Any, ...]) -> Tensor | None:
    """The sum of what was just multiplied, as a matrix product; None where it is none, or is left to torch.

    Parameters
    ----------
    stays
        Whether an operand is made of weights and constants alone.
    leave
        Notes what stays digital.
    is_mean
        The sum is divided by the number of its terms.
    args
        Of torch's sum: the tensor, then perhaps axes and whether they are kept.
    """
    summed, axes, keep = args[0], args[1] if len(args) > 1 else None, bool(args[2]) if len(args) > 2 else False
    if not is_last(summed):
        return None
    if _last.result is None or _last.result() is not summed or _last.factors is None:
        forget()
        leave(NOT_SEEN, summed.numel())
        return None
    (a, b), kind = _last.factors, args[0].dtype
    forget()
    if _is_same(a, b):
        return None  # squares, as of a norm
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = (t[(None,) * (len(shape) - t.ndim)] for t in (a, b))
    every = range(len(shape))
    over = set(every) if not axes else {axis % len(shape) for axis in axes}
    both = [i for i in every if a.shape[i] == b.shape[i] == shape[i] > 1]
    if any(i not in both and shape[i] > 1 for i in over) or math.prod(shape[i] for i in over) <= 1:
        return None
    batch = [i for i in both if i not in over]
    free = [[i for i in every if i not in over and i not in both and t.shape[i] > 1] for t in (a, b)]
    fixed = [stays(a), stays(b)]
    if all(fixed):
        return None
    if any(fixed) and batch:
        leave(OWN_WEIGHTS, math.prod(shape))
        return None
    if not any(fixed) and not any(free):
        leave(NO_MATRIX, math.prod(shape))
        return None
    if any(fixed[i] and (a, b)[i].dtype != kind for i in range(2)):
        leave(OTHER_TYPE, math.prod(shape))
        return None
    a, b = a.to(kind), b.to(kind)
    y = multiply(_matrix(a, batch, free[0], over), _matrix(b, batch, free[1], over).mT, of=(a, b))
    if y is None:
        return None
    order = [*batch, *free[0], *free[1]]
    y = y.reshape([shape[i] for i in order]).permute([order.index(i) for i in sorted(order)])
    y = y.reshape([1 if i in over else shape[i] for i in every if keep or i not in over])
    return y / math.prod(shape[i] for i in over) if is_mean else y


def _is_same(a: Tensor, b: Tensor) -> bool:
    places = [(t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride()) for t in (a, b)]
    return places[0] == places[1]


def _matrix(t: Tensor, batch: Sequence[int], free: Sequence[int], over: set[int]) -> Tensor:
    """(B, n, K), or (n, K) without a batch; a view wherever the axes allow one."""
    contracted = sorted(i for i in over if t.shape[i] > 1)
    axes = [*batch, *free, *contracted]
    rest = [i for i in range(t.ndim) if i not in axes]  # all of length one
    t = t.permute(*rest, *axes)[(0,) * len(rest)]
    rows, columns = (math.prod(t.shape[i] for i in part) for part in _parts(len(batch), len(free), t.ndim))
    return t.reshape(*([-1] if batch else []), rows, columns)


def _parts(batch: int, free: int, ndim: int) -> tuple[range, range]:
    return range(batch, batch + free), range(batch + free, ndim)
