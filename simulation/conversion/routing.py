"""Send every matrix product of a running model into light, whichever way the model asks torch for it.

Below torch's functions and its automatic differentiation every product is one of a few operations: `torch.mm` and its
kin, and convolutions. While a routed model runs, `Routing` sees each of them. An operand that is made of nothing but
parameters, buffers and constants stays on the SLM as a *matrix*; two operands that depend on the input are a *pair*,
as in attention. What the model computes around its products is left as it is, and so are its gradients: torch derives
them from the operands, as those of the exact product.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calibration.errors import OutOfDomain
from simulation.conversion.by_parts import by_parts, recurrent_by_parts, uncompiled
from simulation.conversion.contraction import forget
from simulation.conversion.following import forget_methods, threads_followed
from simulation.conversion.ledger import Conversion
from simulation.conversion.origins import Origin, key_of, matrix_name, storage_of
from simulation.conversion.recomputed import follow_functions, may_be_recomputed
from simulation.conversion.seeing import Products, is_elsewhere, light_here
from simulation.models.gpt import Product

Matrix = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, weight, bias) → ``x @ weight.T + bias`` for x (…, K), weight (M, K) and bias (M,) or None."""
Pair = Callable[[Tensor, Tensor], Tensor]
"""Multiplies (B, n, K) by (B, K, M)."""
REPLICA = " in the replica on "
"""Between a product's name and a device of `torch.nn.DataParallel`, on which it has noise and a tally of its own."""


class Light(Protocol):
    """What computes products: a calibrated bench, or anything that can stand in for one."""

    def matrix(self, name: str, weight: Tensor) -> Matrix:
        """What multiplies by a ``weight`` (M, K) that stays.

        It is handed the weight of now with every call, which may have changed in ways that torch does not count.
        """

    def pair(self, name: str) -> Pair:
        """A function (B, n, K), (B, K, M) → (B, n, M) for two operands that are new with every call."""


@dataclass
class _Frame:
    """A module that is running: its name, its call, and how many pairs, computed matrices and threads it has had.

    Attributes
    ----------
    is_replica
        It is a copy that `torch.nn.DataParallel` has made for one call, on one of its devices.
    """

    name: str
    is_product: bool = False
    is_replica: bool = False
    pairs: int = 0
    computed: int = 0
    threads: int = 0
    call: FrameType | None = None

    def named(self, product: str, operand: Tensor) -> str:
        """The name by which a product has its noise: one for each device, where replicas run at once."""
        return f"{product}{REPLICA}{operand.device}" if self.is_replica else product


_finding = threading.Lock()


class Routing:
    """The products of one model.

    Parameters
    ----------
    model
        Its modules are watched from now on, until `remove`.
    light
        `Light`
    keep
        Names, or shell patterns of names, of modules and products that stay digital.
    heads
        Names of the modules that give the logits, and stay digital.

    Attributes
    ----------
    digital
        Whether everything is left to torch; False at first.
    """

    def __init__(self, model: nn.Module, light: Light, keep: tuple[str, ...], heads: frozenset[str]) -> None:
        self.conversion, self.digital = Conversion(), False
        self._model, self._light, self._keep, self._heads = model, light, keep, heads
        self._matrices: dict[Any, tuple[str, Matrix]] = {}
        self._expected: set[Any] = set()
        self._pairs: dict[str, Pair] = {}
        self._here = _Here()
        self._has_recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
        self._places: list[int] = []
        self._still: dict[int, Origin] = {}
        self._neighbours: dict[int, list[Origin]] = {}
        self._slots = [
            (f"{name}.{key}".removeprefix("."), held, key)
            for name, module in model.named_modules()
            for held in (module._buffers, module._parameters)
            for key in held
        ]
        for name, module in model.named_modules():
            watch = _Watch(self, _Frame(name, isinstance(module, Product)))
            module.register_forward_pre_hook(watch.begin, prepend=True)
            module.register_forward_hook(watch.end, always_call=True)

    def remove(self) -> None:
        """Let the model be as it was."""
        for module in self._model.modules():
            forget_methods(module)
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key in [key for key, hook in hooks.items() if _watched_by(hook) is self]:
                    del hooks[key]
                    module._forward_hooks_always_called.pop(key, None)

    def expect_matrix(self, name: str, parameter: str, weight: Tensor) -> None:
        """Prepare for a matrix (M, K) that is a whole parameter, or its transpose."""
        origin = Origin(parameter, weight)
        key = key_of(origin, weight)
        self._matrices[key] = name, self._light.matrix(name, weight)
        self._expected.add(key)
        self.conversion.optical.append(name)

    def expect_pair(self, name: str) -> None:
        """Prepare for a module that is a product of two operands."""
        self._pairs[name] = self._light.pair(name)
        self.conversion.optical.append(name)

    def is_expected(self, origin: Origin, weight: Tensor) -> bool:
        """Is it the matrix of a linear layer?"""
        return origin.parameter is not None and key_of(origin, weight) in self._expected

    def begin(self, frame: _Frame, module: nn.Module | None = None) -> None:
        """A module begins to run, in this thread."""
        if self.digital:
            return
        if torch.compiler.is_compiling() or torch._C._is_tracing():
            raise OutOfDomain(
                "a model in light cannot be compiled",
                hint='run what opticalize returned as it is; backend="torch-compiled" compiles what draws its noise',
            )
        if self._here.frames and not self.is_running:  # an interrupt ended the call before: torch runs no hook then
            self._here.frames.clear()
            self._here.opened.close()
        if not self._here.frames:
            self._here.caller = sys._getframe(2)
            self._here.opened = ExitStack()
            self._here.opened.enter_context(by_parts())
            if self._has_recurrent:
                self._here.opened.enter_context(recurrent_by_parts())
            if "torch._dynamo" in sys.modules:  # else nothing is compiled; it takes seconds to import
                self._here.opened.enter_context(uncompiled())
            self._here.opened.enter_context(threads_followed(self))
            self._here.opened.enter_context(may_be_recomputed())
            self._here.products = self._here.opened.enter_context(Products(self))
        is_replica = frame.is_replica or (module is not None and "_is_replica" in vars(module))
        counts = frame.pairs, frame.computed, frame.threads
        self._here.frames.append(_Frame(frame.name, frame.is_product, is_replica, *counts, sys._getframe(2)))
        if module is not None and self._here.products is not None:
            if is_replica:
                self._here.products.learn(frame.name, module)
            elif module._parameters and is_elsewhere(module):
                self._here.products.await_weights(frame.name, module)

    def end(self, name: str) -> None:
        """It has ended, or failed."""
        frames = self._here.frames
        if frames and frames[-1].name == name:
            frames.pop()
            if self._here.products is not None:
                self._here.products.let_go(name)
            if not frames:
                self._here.caller = None
                self._here.opened.close()
                forget()

    def matrix(self, x: Tensor, weight: Tensor, origin: Origin, bias: Tensor | None) -> Tensor | None:
        """Vectors (…, K) by a matrix (M, K) that stays; None where it stays digital."""
        frame = self._here.frames[-1]
        follow_functions(frame.call, lambda call: self._within(frame, call))
        frame.computed += origin.parameter is None
        key = key_of(origin, weight) if origin.parameter is not None else (frame.name, frame.computed)
        key = (*key, weight.device) if frame.is_replica else key
        found = self._matrices.get(key)
        name = found[0] if found is not None else matrix_name(origin, weight, frame.name, frame.computed)
        if self._stays(name, frame, weight.shape[0] * x.numel()):
            return None
        if found is None:
            with _finding:  # or two threads that meet it first have one each
                found = self._matrices.get(key) or self._found(key, frame.named(name, weight), weight)
        return found[1](x, weight, bias)

    def _found(self, key: Any, name: str, weight: Tensor) -> tuple[str, Matrix]:
        name = self._unused(name)
        self._matrices[key] = name, self._light.matrix(name, weight)
        self.conversion.optical.append(name)
        return self._matrices[key]

    def pair(self, a: Tensor, b: Tensor) -> Tensor | None:
        """(B, n, K) by (B, K, M), both new; None where it stays digital."""
        frame = self._here.frames[-1]
        follow_functions(frame.call, lambda call: self._within(frame, call))
        frame.pairs += 1
        name = frame.name if frame.is_product else f"{frame.name}.product{frame.pairs}".removeprefix(".")
        if self._stays(name, frame, a.numel() * b.shape[-1]):
            return None
        name = frame.named(name, a)
        with _finding:
            if name not in self._pairs:
                self.expect_pair(name)
        return self._pairs[name](a, b)

    def _unused(self, name: str) -> str:
        """A name of its own for each matrix: noise and tally go by it."""
        taken, number, found = set(self.conversion.optical), 1, name
        while found in taken:
            number += 1
            found = f"{name} ({number})"
        return found

    @property
    def is_running(self) -> bool:
        """Whether the call that began in this thread has not ended, nor been interrupted."""
        caller, frames = self._here.caller, self._here.frames
        inside = frames[-1].call if frames else caller  # it is nearer
        frame: FrameType | None = sys._getframe(1) if caller is not None else None
        while frame is not None and frame is not inside and frame is not caller:
            frame = frame.f_back
        return frame is not None

    @property
    def is_active(self) -> bool:
        """Whether a module runs in this thread."""
        return bool(self._here.frames)

    def in_thread(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """What does the same in another thread, where its products are seen, too.

        Threads that light itself starts (torch's compiler does) are none of the model's.
        """
        if light_here.computes:
            return call
        above = self._here.frames[-1]
        above.threads += 1
        name = f"{above.name}.thread{above.threads}".removeprefix(".")

        def run(*args: Any, **kwargs: Any) -> Any:
            self._begin_thread(name)
            try:
                return call(*args, **kwargs)
            finally:
                self.end(name)

        return run

    def _begin_thread(self, name: str) -> None:
        self.begin(_Frame(name))

    def _within(self, frame: _Frame, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs as a part of a module's call, as far as that has come by now."""
        begun = replace(frame, call=None)

        def run(*args: Any, **kwargs: Any) -> Any:
            self.begin(begun)
            try:
                return call(*args, **kwargs)
            finally:
                self.end(begun.name)

        return run

    def leave(self, why: str, macs: int | None, here: str | None = None) -> None:
        """Note a product that stays digital, and its multiply–accumulates where they are known.

        Parameters
        ----------
        here
            The module; that which runs if None.
        """
        self.conversion.leave(here or self._here.frames[-1].name or "the model itself", why, macs)

    def multiplied(self, count: int, here: str | None = None) -> str:
        """Note multiplications element by element in a module, that which runs if None; returns its name."""
        name = here or self._here.frames[-1].name or "the model itself"
        self.conversion.by_elements[name] += count
        return name

    def _stays(self, name: str, frame: _Frame, macs: int) -> bool:
        names = (name, frame.name)
        if any(fnmatchcase(each, pattern) for each in names for pattern in self._keep):
            why = "kept by request"
        elif self._heads.intersection(names):
            why = "output head"
        else:
            return False
        self.conversion.digital[name] = why
        self.conversion.digital_macs[name] += macs
        return True

    def storages(self) -> dict[int, Origin]:
        """Of all parameters and buffers → what lies there now."""
        tensors = [(name, held.get(key)) for name, held, key in self._slots]
        places = [0 if tensor is None else storage_of(tensor) or 0 for _, tensor in tensors]
        if places != self._places:
            parts: dict[int, dict[tuple[int, int], Origin]] = {}
            for place, (name, tensor) in zip(places, tensors, strict=True):
                if place and tensor is not None:
                    parts.setdefault(place, {})[tensor.storage_offset(), tensor.numel()] = Origin(name, tensor)
            self._still = {place: list(found.values())[-1] for place, found in parts.items()}
            self._neighbours = {place: list(found.values()) for place, found in parts.items() if len(found) > 1}
            self._places = places  # last: another thread that sees it sees the others
        return dict(self._still)

    def narrowed(self, origin: Origin | None, tensor: Tensor) -> Origin | None:
        """Of the parameters that lie in one storage, the one that an operand lies in."""
        if origin is None or origin.parameter is None or not self._neighbours:
            return origin
        for each in self._neighbours.get(storage_of(tensor) or 0, ()):
            if each.parameter is not None and 0 <= tensor.storage_offset() - each.start < each.parameter.numel():
                return each
        return origin


class _Here(threading.local):
    """What runs in this thread. A copy of a model begins with nothing running."""

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self.opened = ExitStack()
        self.products: Products | None = None
        self.caller: FrameType | None = None

    def __deepcopy__(self, _: Any) -> _Here:
        return _Here()

    def __reduce__(self) -> Any:
        return _Here, ()


@dataclass(frozen=True)
class _Watch:
    """The hooks of one module."""

    routing: Routing
    frame: _Frame

    def begin(self, module: nn.Module, args: Any) -> None:
        self.routing.begin(self.frame, module)

    def run(self, method: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Call a method of the module as a call of it."""
        self.routing.begin(self.frame, module)
        result = None
        try:
            result = method(*args, **kwargs)
        finally:
            self.end(module, args, result)
        return result

    def end(self, module: nn.Module, args: Any, result: Any) -> None:
        self.routing.end(self.frame.name)
        if isinstance(result, Tensor | tuple | dict):
            return
        later = inspect.isgenerator(result) or inspect.isawaitable(result) or inspect.isasyncgen(result)
        if later and not self.routing.digital and not self.routing.is_running:
            raise OutOfDomain(
                "a model that computes after it has returned cannot be put in light",
                device=self.frame.name or type(module).__name__,
                expected="a forward that returns its result",
                seen=type(result).__name__,
                hint="opticalize the modules that the generator calls, or let forward return a list",
            )


def _watched_by(hook: Any) -> Routing | None:
    watch = getattr(hook, "__self__", None)
    return watch.routing if isinstance(watch, _Watch) else None


def watch_of(module: nn.Module) -> _Watch | None:
    """The hooks of a module; None for one that is not watched."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(watch := getattr(hook, "__self__", None), _Watch):
            return watch
    return None


def routing_of(model: nn.Module) -> Routing | None:
    """Of a model whose products are routed; None for any other."""
    watch = watch_of(model)
    return None if watch is None else watch.routing
