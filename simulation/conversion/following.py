"""Follow a model where it does not run as a call of its modules: threads that it starts, methods that are called alone.

Torch's hooks belong to calls of modules. ``model.forward(x)`` is none, nor is ``model.encode(x)``; and what torch shows
of its operations, it shows in one thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from types import CodeType
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from calibration.errors import OutOfDomain
from simulation.conversion.by_parts import Shared
from simulation.conversion.counting import count_macs, multiplies
from simulation.conversion.products import kind_of


class Follower(Protocol):
    """The routing of one model, as far as it is needed here."""

    @property
    def digital(self) -> bool:
        """Whether everything is left to torch, in this thread."""

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

    def run(self, method: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Call a method of the module as a call of it."""


def cannot_be_compiled() -> OutOfDomain:
    """Of a model in light, in whichever way it is made a graph."""
    return OutOfDomain(
        "a model in light cannot be compiled",
        hint='run what opticalize returned as it is; backend="torch-compiled" compiles what draws its noise',
    )


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
_REPLICATE = "_replicate_for_data_parallel"
_LIBRARIES = ("torch", "transformers.modeling_utils", "transformers.generation", "transformers.integrations",
              "transformers.utils", "peft", "accelerate", "huggingface_hub")  # fmt: skip
"""Whose methods do no mathematics of the model."""


def follow_methods(module: nn.Module, find: Find) -> None:
    """Have a module's methods be seen when they are called alone. `forget_methods` takes that back.

    The module keeps its class: a model may ask for ``type(layer)``.
    """
    forget_methods(module)
    own, cls = vars(module), cast(Hashable, type(module))
    for name in ("forward", *_methods_of(cls)):
        before = own.get(name)
        if name == "forward" or before is None:
            own[name] = _Seen(module, name, find, before)
    own[_REPLICATE] = _Replicate(module)


def forget_methods(module: nn.Module) -> None:
    """Let a module's methods be its class's again."""
    own = vars(module)
    for name, method in [(name, value) for name, value in own.items() if isinstance(value, _Seen | _Replicate)]:
        before = method.before if isinstance(method, _Seen) else None
        if before is None:
            del own[name]
        else:
            own[name] = before


@cache
def _methods_of(cls: Any) -> tuple[str, ...]:
    """Methods beside ``forward`` in which a class may compute."""
    found = []
    for name in dir(cls):
        function = inspect.getattr_static(cls, name)
        is_own = inspect.isfunction(function) and not name.startswith("_") and not hasattr(nn.Module, name)
        if is_own and not (function.__module__ or "").startswith(_LIBRARIES):
            found.append(name)
    return tuple(found)


@dataclass(eq=False)
class _Seen:
    """A method in a module's own namespace, where it stands before that of its class.

    Attributes
    ----------
    before
        What stood there, as libraries put it; None: nothing.
    """

    module: nn.Module
    name: str
    find: Find
    before: Callable[..., Any] | None

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The method itself, by which Python tells its signature."""
        if self.before is not None:
            return self.before
        bound: Callable[..., Any] = getattr(type(self.module), self.name).__get__(self.module)
        return bound

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def __code__(self) -> CodeType:
        """As of any function, by which some ask for its arguments."""
        found: CodeType = inspect.unwrap(self.__wrapped__).__code__
        return found

    @property
    def __globals__(self) -> Any:
        """Only who compiles the method asks for them, and would leave the light out.

        Raises
        ------
        OutOfDomain
        """
        raise cannot_be_compiled()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method, watch = self.__wrapped__, self.find(self.module)
        if watch is not None and watch.routing.is_active:
            return self._inside(method, args, kwargs)
        if watch is None or watch.routing.digital:
            return method(*args, **kwargs)
        if self.name == "forward":
            late = lambda *args, **kwargs: self.__wrapped__(*args, **kwargs)  # noqa: E731
            return watch.run(late, self.module, args, kwargs)  # once it has begun, by_parts has its say
        if torch.compiler.is_compiling():
            return method(*args, **kwargs)
        with _Outside(watch.routing, watch.frame.name, self.name):
            return method(*args, **kwargs)

    def _inside(self, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            if not type(error).__module__.startswith("torch._dynamo"):
                raise
            raise OutOfDomain(
                "a module that hands functions to torch's compiler cannot be put in light",
                device=type(self.module).__name__,
                expected="plain operations of torch",
                seen=str(error).splitlines()[0],
                hint="write its branches and loops in Python, as if and for",
            ) from error


@dataclass(eq=False)
class _Replicate:
    """Makes the copies of `torch.nn.DataParallel`, whose methods are their own."""

    module: nn.Module

    def __call__(self) -> nn.Module:
        replica: nn.Module = getattr(type(self.module), _REPLICATE)(self.module)
        own = vars(replica)
        own |= {name: replace(value, module=replica) for name, value in own.items() if isinstance(value, _Seen)}
        return replica


class _Outside(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Products that a method computes outside of any forward are noted. They are not put in light.

    A method may do anything: train the model, say, in whose gradients and steps no light has a place. Numbers that are
    multiplied one by one, as in those steps, are not noted.
    """

    def __init__(self, routing: Follower, module: str, method: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._routing, self._module, self._method = routing, module, method

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = kind_of(func)
        own = kind.unrouted and not kind.is_single and multiplies(kind.unrouted, args, kwargs)
        if (
            not (kind.product or own or kind.is_composite)
            or self._routing.is_active
            or torch._C._current_graph_task_id() != -1
        ):
            return func(*args, **kwargs)
        if kind.is_composite:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        out = func(*args, **kwargs)
        if kind.product or own:
            why = f"{self._method}() computes it outside of forward"
            self._routing.leave(why, count_macs(func, args, kwargs, out), self._module or "the model itself")
        return out
