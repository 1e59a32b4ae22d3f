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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from calibration.errors import OutOfDomain
from simulation.conversion.by_parts import by_parts, recurrent_by_parts, uncompiled
from simulation.conversion.contraction import forget
from simulation.conversion.following import cannot_be_compiled, follow_methods, forget_methods, threads_followed
from simulation.conversion.keeping import is_kept
from simulation.conversion.ledger import Conversion
from simulation.conversion.origins import (
    Origin,
    constants_of,
    inner_tensors,
    key_of,
    matrix_name,
    modules_of,
    storage_of,
)
from simulation.conversion.prepared import REPLICA, Prepared
from simulation.conversion.recomputed import follow_functions, may_be_recomputed
from simulation.conversion.seeing import Products, is_elsewhere, light_here
from simulation.models.gpt import Product

Matrix = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, weight, bias) → ``x @ weight.T + bias`` for x (…, K), weight (M, K) and bias (M,) or None."""
Pair = Callable[[Tensor, Tensor], Tensor]
"""Multiplies (B, n, K) by (B, K, M)."""

Survey = Callable[["Routing"], None]
"""Tells a `Routing` what there is in its model."""


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
_UNREAL = torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FAKE
"""Modes of torch in which tensors have no numbers."""


class Routing:
    """The products of one model.

    Parameters
    ----------
    model
        Its modules are watched from now on, until `remove`.
    light
        `Light`
    keep
        Names, or shell patterns of names, of modules and products that stay digital; a module with all that is in it.
    survey
        Looks through the modules and says which of them stay digital, which matrices and pairs are to be expected, and
        which modules are heads. It is called at once, and whenever the model has got other modules.

    Attributes
    ----------
    model
        The model.
    conversion
        What is in light and what is not.
    keep
        As above.
    heads
        Names of the modules that give the logits, and stay digital.
    tables
        Those of them that are embeddings: what else is multiplied in them than their table is no head.
    prepared
        What there is of light.
    """

    def __init__(self, model: nn.Module, light: Light, keep: tuple[str, ...], survey: Survey) -> None:
        self.model, self.keep, self.conversion = model, keep, Conversion()
        self.heads: frozenset[str] = frozenset()
        self.tables: frozenset[str] = frozenset()
        self.prepared = Prepared(light.matrix, light.pair, self.conversion)
        self._survey = survey
        self._here = _Here([])
        self._modules: list[nn.Module] = []
        self._holders: list[tuple[str, Mapping[str, Tensor | None]]] = []
        self._places: list[int] = []
        self._still: dict[int, Origin] = {}
        self._neighbours: dict[int, list[Origin]] = {}
        self._take_in(modules_of(model))

    def _take_in(self, modules: list[nn.Module]) -> None:
        """Watch the modules that the model has now, and no longer those that it had.

        A weight that nobody knows would be taken for an operand that is new with every call.
        """
        self.conversion.let_go()
        self.prepared.expect_nothing()
        self._survey(self)
        for gone in {*self._modules} - {*modules}:
            _forget(gone)
        for name, module in self.model.named_modules():
            watch = watch_of(module)
            if watch is None or watch.routing is not self:  # it is new; a copy of a module has the light of a copy
                _forget(module)
                watch = _Watch(self, _Frame(name, isinstance(module, Product)))
                module.register_forward_pre_hook(watch.begin, prepend=True)
                module.register_forward_hook(watch.end, always_call=True)
            watch.frame.name = name
            follow_methods(module, watch_of)
        self._has_recurrent = any(isinstance(module, nn.RNNBase) for module in modules)
        self._holders = [
            (name, held)
            for name, module in self.model.named_modules()
            for held in (constants_of(module), module._buffers, module._parameters)
        ]
        names = {name for name, _ in self.model.named_modules()}
        parts = (f"{name}.{key}".removeprefix(".") for name, held in self._holders for key in held)
        self.prepared.settle(names.union(parts))
        self._places, self._modules = [], modules

    def _look_again(self) -> None:
        if (modules := modules_of(self.model)) != self._modules:
            with _finding:
                if modules != self._modules:
                    self._take_in(modules)

    def remove(self) -> None:
        """Let the model be as it was."""
        for module in self.model.modules():
            _forget(module)

    def is_expected(self, origin: Origin, weight: Tensor) -> bool:
        """Is it the matrix of a linear layer?"""
        return self.prepared.is_expected(origin, weight)

    def begin(self, frame: _Frame, module: nn.Module | None = None) -> None:
        """A module begins to run, in this thread."""
        if self.digital:
            return
        if torch.compiler.is_compiling() or torch._C._is_tracing() or any(map(torch._C._get_dispatch_mode, _UNREAL)):
            raise cannot_be_compiled()
        if self._here.frames and not self.is_running:  # an interrupt ended the call before: torch runs no hook then
            self._here.frames.clear()
            self._here.opened.close()
        if not self._here.frames:
            self._look_again()
            if module is not None and watch_of(module) is None:
                return  # the model does not have it any more
            if forward_ad._current_level >= 0:
                raise _differentiated_forward()
            self._open()
            self._here.caller = sys._getframe(2)
        is_replica = frame.is_replica or (module is not None and "_is_replica" in vars(module))
        counts = frame.pairs, frame.computed, frame.threads
        self._here.frames.append(_Frame(frame.name, frame.is_product, is_replica, *counts, sys._getframe(2)))
        if module is not None and self._here.products is not None:
            if is_replica:
                self._here.products.learn(frame.name, module)
            elif module._parameters and is_elsewhere(module):
                self._here.products.await_weights(frame.name, module)

    def _open(self) -> None:
        """Begin to watch this thread; where that is refused, everything is as it was."""
        with ExitStack() as opened:
            opened.enter_context(by_parts())
            if self._has_recurrent:
                opened.enter_context(recurrent_by_parts())
            if "torch._dynamo" in sys.modules:  # else nothing is compiled; it takes seconds to import
                opened.enter_context(uncompiled())
            opened.enter_context(threads_followed(self))
            opened.enter_context(may_be_recomputed())
            self._here.products = opened.enter_context(Products(self))
            self._here.opened = opened.pop_all()

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
        matrices = self.prepared.matrices
        found = matrices.get(key)
        name = found[0] if found is not None else matrix_name(origin, weight, frame.name, frame.computed)
        if self._stays(name, frame, weight.shape[0] * x.numel()):
            return None
        if found is None:
            with _finding:  # or two threads that meet it first have one each
                found = matrices.get(key) or self.prepared.matrix(key, frame.named(name, weight), weight)
        self.conversion.ran.add(found[0])
        return found[1](x, weight, bias)

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
            self.prepared.pair(name)
        self.conversion.ran.add(name)
        return self.prepared.pairs[name](a, b)

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
        if self.digital:
            return self.digitally()(call)
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

    @contextmanager
    def digitally(self) -> Iterator[None]:
        """While open, what this thread computes, and those that it starts, is left to torch."""
        with threads_followed(self):
            self._here.digital += 1
            self._here.all_digital.append(None)
            try:
                yield
            finally:
                self._here.all_digital.pop()
                self._here.digital -= 1

    @property
    def digital(self) -> bool:
        """Whether everything is left to torch, in this thread.

        Torch derives gradients in threads of its own, which nobody starts who could tell them.
        """
        if self._here.digital or not self._here.all_digital:
            return bool(self._here.digital)
        return isinstance(threading.current_thread(), threading._DummyThread)

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
        if any(is_kept(each, self.keep) for each in names):
            why = "kept by request"
        elif name in self.heads or (frame.name in self.heads and frame.name not in self.tables):
            why = "output head"
        else:
            return False
        self.conversion.digital[name] = why
        self.conversion.digital_macs[name] += macs
        return True

    def storages(self) -> dict[int, Origin]:
        """Of all parameters and buffers → what lies there now."""
        places = [
            0 if tensor is None else storage_of(tensor) or -1 for _, held in self._holders for tensor in held.values()
        ]
        if places != self._places or -1 in places:
            parts: dict[int, dict[tuple[int, int], Origin]] = {}
            for module, held in self._holders:
                for key, tensor in held.items():
                    for part in () if tensor is None else inner_tensors(tensor):
                        if place := storage_of(part):
                            origin = Origin(f"{module}.{key}".removeprefix("."), part)
                            parts.setdefault(place, {})[int(part.storage_offset()), part.numel()] = origin
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


def _differentiated_forward() -> OutOfDomain:
    """Of a model whose forward derivatives somebody asks for: each would be a product in light, with its own noise."""
    return OutOfDomain(
        "forward derivatives of a model in light would be as noisy as its light",
        expected="gradients that go backward: they are those of the exact products",
        seen="torch.func.jvp, or torch.autograd.forward_ad",
        hint="take torch.autograd.grad or torch.func.vjp, or differentiate the model itself",
    )


def _forget(module: nn.Module) -> None:
    """Watch a module no longer, whichever model's it was."""
    forget_methods(module)
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if _watched_by(hook) is not None]:
            del hooks[key]
            module._forward_hooks_always_called.pop(key, None)


class _Here(threading.local):
    """What runs in this thread, and whether digitally. A copy of a model begins with nothing running.

    Parameters
    ----------
    all_digital
        As long as the number of times that any thread has begun to compute digitally: one list for all threads.
    """

    def __init__(self, all_digital: list[None]) -> None:
        self.digital, self.all_digital = 0, all_digital
        self.frames: list[_Frame] = []
        self.opened = ExitStack()
        self.products: Products | None = None
        self.caller: FrameType | None = None

    def __deepcopy__(self, _: Any) -> _Here:
        return _Here([])

    def __reduce__(self) -> Any:
        return _Here, ([],)


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
