"""What a running model computes, operation by operation: products go into light, others are followed to origins."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from calibration.errors import OutOfDomain
from simulation.conversion.contraction import NOT_SEEN, contract, forget, is_last, note
from simulation.conversion.counting import count_macs, count_nested, multiplies, why_digital
from simulation.conversion.origins import Origin, storage_of, tensors_of
from simulation.conversion.products import Copied, Kind, aten, kind_of


class Router(Protocol):
    """The routing of one model, as far as it is needed here."""

    @property
    def digital(self) -> bool:
        """Whether everything is left to torch, in this thread."""

    @property
    def is_running(self) -> bool:
        """Whether the call that began in this thread has not ended, nor been interrupted."""

    def storages(self) -> dict[int, Origin]:
        """Of all parameters and buffers → what lies there now."""

    def narrowed(self, origin: Origin | None, tensor: Tensor) -> Origin | None:
        """Of the parameters that lie in one storage, the one that an operand lies in."""

    def is_expected(self, origin: Origin, weight: Tensor) -> bool:
        """Is it the matrix of a linear layer?"""

    def matrix(self, x: Tensor, weight: Tensor, origin: Origin, bias: Tensor | None) -> Tensor | None:
        """Vectors (…, K) by a matrix (M, K) that stays; None where it stays digital."""

    def pair(self, a: Tensor, b: Tensor) -> Tensor | None:
        """(B, n, K) by (B, K, M), both new; None where it stays digital."""

    def leave(self, why: str, macs: int | None) -> None:
        """Note a product that stays digital."""

    def multiplied(self, count: int, here: str | None = None) -> str:
        """Note multiplications element by element in a module, that which runs if None; returns its name."""


NESTED = "a product of nested tensors: with layout=torch.jagged those by weights are in light, attention is not"
"""Torch computes attention of jagged tensors as that of nested ones, and shows nothing of what it does in them."""


class _Light(threading.local):
    """Whether a product of any model is computed in this thread."""

    computes = False


light_here = _Light()
"""Of this thread."""


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, products go to a `Routing`, and every other operation is watched for what it makes."""

    supports_higher_order_operators = True

    def __init__(self, router: Router) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._router = router
        self._still = router.storages()
        self._task = torch._C._current_graph_task_id()
        self._is_over = False  # by an interrupt, after which torch leaves it on
        self._lent: dict[int, list[Origin]] = {}
        self._counted: tuple[str, int] | None = None  # the last multiplication by elements: its module, and how many
        self._awaited: list[tuple[str, nn.Module]] = []
        self._fetched: dict[str, list[int]] = {}
        self._made: list[Tensor] = []  # keeps their storages from being used for anything else

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch need not guard this from its compiler, which `Routing.begin` keeps away: it would cost a third more."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if types and any(cls.__torch_dispatch__ is not Tensor.__torch_dispatch__ for cls in types):
            return NotImplemented  # a class of tensors takes it apart, and its parts come here
        if type(func) is not OpOverload and isinstance(func, HigherOrderOperator):
            raise _handed_functions(func)
        if self._awaited:
            self._arrived()
        kind = kind_of(func)
        if kind.adds and not light_here.computes:
            self._added_up(kind, args, kwargs)
        if kind.is_mutable:
            forget()  # what was multiplied, or its product, may be what is written into
        if kind.is_plain:
            out = func(*args, **kwargs)
            if light_here.computes:
                return out
            if kind.elements is not None:
                self._by_elements(kind, args, kwargs, out)
            if not (args and isinstance(args[0], Tensor) and self._origin(args[0]) is None):
                self._follow(kind, args, kwargs, out)
            return out
        if (kind.product or kind.is_composite) and not self._router.is_running:
            self._is_over = True
        if self._is_over or light_here.computes or self._router.digital:  # or another model's, which this one calls
            return func(*args, **kwargs)
        if torch._C._current_graph_task_id() != self._task:
            return self._gradient(kind, func, args, kwargs)
        if any(isinstance(tensor, Tensor) and tensor.is_nested for tensor in args):
            if kind.product or kind.unrouted:
                self._router.leave(NESTED, count_nested(func, *args))
            return func(*args, **kwargs)
        found = self._routed(kind, func, args, kwargs)
        if found is not None and found is not NotImplemented:
            if kind.is_mutable:
                self._follow(kind, args, kwargs, found)
            return found
        out = func(*args, **kwargs)
        if found is NotImplemented:
            name = str(func).removeprefix("aten.").partition(".")[0]
            self._router.leave(f"{name} of a form that light has no way for", count_macs(func, args, kwargs, out))
        elif kind.product is None and kind.unrouted and multiplies(kind.unrouted, args, kwargs):
            fixed = all(self._origin(t) is not None for value in args for t in tensors_of(value))
            why = "weights among themselves" if fixed else why_digital(kind.unrouted)
            self._router.leave(why, count_macs(func, args, kwargs, out))
        elif kind.elements is not None:
            self._by_elements(kind, args, kwargs, out)
        self._follow(kind, args, kwargs, out)
        return out

    def _by_elements(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Count what is multiplied element by element, unless it is weights and constants alone."""
        if kind.is_factors:
            note(out, *args[:2], in_place=kind.is_mutable)
        self._counted = None
        count = 0 if kind.elements is None else round(kind.elements(*args, **{**kwargs, "out": out}))
        if count and any(self._origin(t) is None for value in args for t in tensors_of(value)):
            self._counted = self._router.multiplied(count), count

    def _added_up(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What was just multiplied is summed by an operation that light has no way for."""
        if kind.adds == "index_put" and True not in (kwargs.get("accumulate"), *args[3:4]):
            return
        for tensor in (t for value in (*args, *kwargs.values()) for t in tensors_of(value)):
            if is_last(tensor):
                self._leave_counted(f"{kind.adds}: {NOT_SEEN}", tensor.numel())
                forget()

    def _leave_counted(self, why: str, macs: int) -> None:
        """Note a sum of products, which was counted as one of elements before it was summed."""
        self._router.leave(why, macs)
        self._uncount()

    def _uncount(self) -> None:
        if self._counted is not None:
            name, count = self._counted
            self._router.multiplied(-count, name)
            self._counted = None

    def _gradient(self, kind: Kind, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation of a gradient that the model itself asks for: digital, as gradients are."""
        out = func(*args, **kwargs)
        if kind.product is not None:
            self._router.leave("a gradient, which the model itself computes", count_macs(func, args, kwargs, out))
        return out

    def _routed(self, kind: Kind, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What light makes of an operation; None where torch is to do it, NotImplemented where light has no way to."""
        found = NotImplemented
        by_parts = kind.is_attention and any(self._origin(t) is not None for value in args for t in tensors_of(value))
        if (kind.product is not None and not by_parts) or (kind.is_sum and is_last(args[0])):
            light_here.computes = True
            try:
                with _apart():
                    if kind.product is None:
                        return self._summed(func, args, kwargs)
                    found = kind.product(self._multiply, *args, **kwargs)
            finally:
                light_here.computes = False
            if kind.is_attention and found is not NotImplemented:
                self._counted = None  # it has multiplied by its scale
                forget()
            if found is not NotImplemented or not kind.is_composite:
                return found
        if not kind.is_composite:
            return None
        with self:
            found = func.decompose(*args, **kwargs)
        return None if found is NotImplemented else found

    def _summed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """What light makes of a sum over what was multiplied element by element."""
        is_mean = func in (aten.mean.dim, aten.mean.default)
        if kwargs.get("dtype") is not None and is_last(args[0]):
            self._leave_counted(NOT_SEEN, args[0].numel())
            forget()
        stays = lambda t: self._origin(t) is not None  # noqa: E731
        found = contract(self._multiply, stays, self._leave_counted, is_mean, args)
        if found is not None:
            self._uncount()
        return found

    def _multiply(
        self, a: Tensor, b: Tensor, bias: Tensor | None = None, *, of: Copied = (None, None)
    ) -> Tensor | None:
        """(n, K) by (K, M), or (B, n, K) by (B, K, M); None where torch is to do it."""
        macs = a.numel() * b.shape[-1]
        if not macs or not _belong_together(a, b, bias):
            return None
        if a.is_meta or b.is_meta:
            self._router.leave("tensors on the meta device have no numbers", macs)
            return None
        if not a.is_floating_point() or not b.is_floating_point():
            is_complex = a.is_complex() or b.is_complex()
            self._router.leave(f"a product of {'complex numbers' if is_complex else 'integers'}", macs)
            return None
        if a.layout is not torch.strided or b.layout is not torch.strided:
            sparse = a if a.layout is not torch.strided else b
            self._router.leave("a product of sparse operands", macs * sparse._nnz() // max(sparse.numel(), 1))
            return None
        left, right = self._narrowed(a) or self._copied(a, of[0]), self._narrowed(b) or self._copied(b, of[1])
        if a.shape[-1] == 1 and (left or right):
            self._router.leave("an outer product: nothing is summed", macs)
            return None
        layer = right is not None and self._router.is_expected(right, b.mT)
        if left and right and not layer and (left.parameter is None) == (right.parameter is None):
            self._router.leave("weights among themselves", macs)
            return None
        if right and (layer or not left or left.parameter is None):
            return self._by_matrix(a, b.mT, right, bias)
        if left:
            y = self._by_matrix(b.mT, a, left, None)
            y = None if y is None else y.mT.contiguous()
        else:
            y = self._router.pair(*((a, b) if a.ndim == 3 else (a[None], b[None])))
            y = y if y is None or a.ndim == 3 else y[0]
        return y if bias is None or y is None else y + bias

    def _by_matrix(self, x: Tensor, weight: Tensor, origin: Origin, bias: Tensor | None) -> Tensor | None:
        if weight.ndim == 2:
            return self._router.matrix(x, weight, origin, bias)
        if weight.stride(0) == 0 or len(weight) == 1:
            return self._router.matrix(x, weight[0], origin, bias)
        parts = [self._router.matrix(one, each, origin, None) for one, each in zip(x, weight, strict=True)]
        if any(part is None for part in parts):
            return None
        return torch.stack([part for part in parts if part is not None])

    def learn(self, name: str, module: nn.Module) -> list[int]:
        """The tensors that stand for a module's parameters in this call. Several may share a storage."""
        found = []
        lent = {**getattr(module, "_former_parameters", {}), **module._parameters, **module._buffers}
        for key, tensor in lent.items():
            if tensor is not None and (place := storage_of(tensor)) is not None:
                self._still[place] = Origin(f"{name}.{key}".removeprefix("."), tensor)
                self._lent.setdefault(place, []).append(self._still[place])
                found.append(place)
        return found

    def await_weights(self, name: str, module: nn.Module) -> None:
        """A module begins whose weights lie elsewhere (accelerate's offload): they are fetched before it computes."""
        self._awaited.append((name, module))

    def _arrived(self) -> None:
        waiting, self._awaited = self._awaited, []
        for name, module in waiting:
            if is_elsewhere(module):
                self._awaited.append((name, module))
            else:
                self._fetched[name] = self.learn(name, module)

    def let_go(self, name: str) -> None:
        """It has ended: what was fetched is gone, and something else may come to lie there."""
        if self._awaited:
            self._awaited = [(waiting, module) for waiting, module in self._awaited if waiting != name]
        for place in self._fetched.pop(name, ()) if self._fetched else ():
            self._still.pop(place, None)
            self._lent.pop(place, None)

    def _narrowed(self, tensor: Tensor) -> Origin | None:
        """Where an operand comes from: of what lies in its storage, that in which it lies."""
        for each in self._lent.get(storage_of(tensor) or 0, ()) if self._lent else ():
            if each.parameter is not None and 0 <= tensor.storage_offset() - each.start < each.parameter.numel():
                return each
        return self._router.narrowed(self._origin(tensor), tensor)

    def _copied(self, copy: Tensor, source: Tensor | None) -> Origin | None:
        """Where a copy comes from: of a whole parameter, it stands for that; of a part, it was computed from it."""
        origin = None if source is None else self._narrowed(source)
        if origin is None or origin.parameter is None or origin.parameter.numel() != copy.numel():
            return None if origin is None else Origin(origin.name)
        return Origin(origin.name, copy)

    def _origin(self, tensor: Tensor) -> Origin | None:
        """None for what depends on the input."""
        try:
            return self._still.get(tensor.untyped_storage().data_ptr())
        except (NotImplementedError, RuntimeError):
            return None

    def _follow(self, kind: Kind, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """What is made of weights and constants alone is a weight itself; what an input is written into no longer."""
        inputs = [t for value in (*args, *kwargs.values()) for t in tensors_of(value)]
        origins = [self._origin(tensor) for tensor in inputs]
        if None in origins:
            if kind.is_mutable:
                for tensor in tensors_of(out):
                    self._still.pop(storage_of(tensor) or 0, None)
            return
        names = {origin.name for origin in origins if origin is not None}
        made = Origin(names.pop() if len(names) == 1 else "")
        for tensor in tensors_of(out):
            place = storage_of(tensor)
            if place is not None and place not in self._still:
                self._still[place] = made
                self._made.append(tensor)


def _handed_functions(func: HigherOrderOperator) -> OutOfDomain:
    return OutOfDomain(
        "an operation that is handed functions cannot be put in light",
        device=str(func),
        expected="operations on tensors",
        seen="functions, whose products are not seen",
        hint="write its branches and loops in Python, as if and for; take sdpa or eager for flex_attention",
    )


def _apart() -> AbstractContextManager[object]:
    """Light has no gradients, and to switch off what is off already takes as long as a small product."""
    if torch._C._current_graph_task_id() != -1:
        return _in_backward()
    return torch.no_grad() if torch.is_grad_enabled() else nullcontext()


@contextmanager
def _in_backward() -> Iterator[None]:
    """In a backward pass the modes of checkpointing are below this one, and know nothing of how light computes."""
    with torch.no_grad(), _disable_current_modes():
        yield


def is_elsewhere(module: nn.Module) -> bool:
    """Whether a parameter of the module itself has no numbers here."""
    return any(parameter is not None and parameter.is_meta for parameter in module._parameters.values())


def _belong_together(a: Tensor, b: Tensor, bias: Tensor | None) -> bool:
    """Whether torch multiplies these at all; it says best itself why not."""
    if a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2] or a.dtype != b.dtype:
        return False
    return bias is None or (bias.dtype == a.dtype and bias.shape == b.shape[-1:])
