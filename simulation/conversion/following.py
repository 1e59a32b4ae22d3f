"""Follow a model where it does not run as a call of its modules: threads that it starts, methods that are called alone.

Torch's hooks belong to calls of modules. ``model.forward(x)`` is none, nor is ``model.encode(x)``; and what torch shows
of its operations, it shows in one thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from simulation.conversion.by_parts import Shared
from simulation.conversion.counting import count_macs
from simulation.conversion.products import kind_of


class Follower(Protocol):
    """The routing of one model, as far as it is needed here."""

    digital: bool

    @property
    def is_active(self) -> bool:
        """Whether a module of the model runs in this thread."""

    def leave(self, why: str, macs: int | None, here: str | None = None) -> None:
        """Note a product that stays digital."""

    def in_thread(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """What does the same in another thread, where its products are seen, too."""


class Watch(Protocol):
    """The hooks of one module."""

    routing: Any
    frame: Any

    def run(self, function: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Call a method as a call of the module."""


# -- threads


class _Here(threading.local):
    """What runs in this thread."""

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        self.submits = False


_here = _Here()


@contextmanager
def threads_followed(follower: Follower) -> Iterator[None]:
    """While open, threads that this one starts, and tasks that it hands to a pool, are part of the model."""
    with _patched():
        _here.followers.append(follower)
        try:
            yield
        finally:
            _here.followers.remove(follower)


@contextmanager
def _threads_ask() -> Iterator[None]:
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def started(thread: threading.Thread) -> None:
        if _here.followers and not _here.submits:
            thread.run = _here.followers[-1].in_thread(thread.run)  # type: ignore[method-assign]
        start(thread)

    def submitted(pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not _here.followers:
            return submit(pool, call, *args, **kwargs)
        _here.submits = True  # its threads outlive the model's call; only what they are handed is part of it
        try:
            return submit(pool, _here.followers[-1].in_thread(call), *args, **kwargs)
        finally:
            _here.submits = False

    threading.Thread.start = started  # type: ignore[method-assign, assignment]
    ThreadPoolExecutor.submit = submitted  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
        ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


_patched = Shared(_threads_ask).held


# -- methods

Find = Callable[[nn.Module], Any]
"""From a module to its hooks, a `Watch`; None for one that is not watched any more."""
_PLAIN = "_plain_class"
_LIBRARIES = ("torch", "transformers.modeling_utils", "transformers.generation", "transformers.integrations",
              "transformers.utils", "peft", "accelerate", "huggingface_hub")  # fmt: skip
"""Whose methods do no mathematics of the model."""


def follow_methods(module: nn.Module, find: Find) -> None:
    """Have a module's methods be seen when they are called alone. `forget_methods` takes that back.

    The module becomes one of a class that inherits from its own, as with parametrisations of torch.
    """
    forget_methods(module)
    plain: Any = type(module)
    module.__class__ = _watched(plain, find)


def forget_methods(module: nn.Module) -> None:
    """Let a module be of its own class again."""
    if (plain := vars(type(module)).get(_PLAIN)) is not None:
        module.__class__ = plain


@cache
def _watched(plain: Any, find: Find) -> Any:
    """The class in whose place it stands, by its name, but for its methods."""

    def restored(module: nn.Module, protocol: Any) -> Any:
        return _again, (plain, find), vars(module)

    body: dict[str, Any] = {
        "__module__": plain.__module__, "__qualname__": plain.__qualname__, "__doc__": plain.__doc__,
        "__reduce_ex__": restored, _PLAIN: plain, "forward": _followed(plain.forward, find),
    }  # fmt: skip
    for name in dir(plain):
        function = inspect.getattr_static(plain, name)
        is_own = inspect.isfunction(function) and not name.startswith("_") and not hasattr(nn.Module, name)
        if is_own and not (function.__module__ or "").startswith(_LIBRARIES):
            body[name] = _listed(function, find)
    return type(plain)(plain.__name__, (plain,), body)


def _again(plain: Any, find: Find) -> Any:
    cls = _watched(plain, find)
    return cls.__new__(cls)


def _followed(forward: Callable[..., Any], find: Find) -> Callable[..., Any]:
    @wraps(forward)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        watch: Watch | None = find(self)
        if watch is None or watch.routing.digital or watch.routing.is_active:
            return forward(self, *args, **kwargs)
        return watch.run(forward, self, args, kwargs)

    return call


def _listed(function: Callable[..., Any], find: Find) -> Callable[..., Any]:
    @wraps(function)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        watch: Watch | None = find(self)
        if watch is None or watch.routing.digital or watch.routing.is_active or torch.compiler.is_compiling():
            return function(self, *args, **kwargs)
        with _Outside(watch.routing, watch.frame.name, function.__name__):
            return function(self, *args, **kwargs)

    return call


class _Outside(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products that a method computes outside of any forward are noted. They are not put in light.

    A method may do anything: train the model, say, in whose gradients and steps no light has a place.
    """

    def __init__(self, routing: Follower, module: str, method: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routing, self._module, self._method = routing, module, method

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        counts = kind.product or kind.unrouted or kind.is_composite
        if not counts or self._routing.is_active or torch._C._current_graph_task_id() != -1:
            return func(*args, **kwargs)
        if kind.is_composite:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        out = func(*args, **kwargs)
        why = f"{self._method}() computes it outside of forward"
        self._routing.leave(why, count_macs(func, args, kwargs, out), self._module or "the model itself")
        return out
