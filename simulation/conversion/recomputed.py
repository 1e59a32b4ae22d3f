"""Products that gradient checkpointing computes again in a backward pass, and the noise that they had.

Which part of a model is checkpointed, and whether it is computed for the first time or again, stands in the frames of
`torch.utils.checkpoint` on Python's stack. Each product is remembered by the run of that part and by its operands, so
that equal operands in other parts, layers or steps are never taken for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint
from torch import Tensor

from simulation.conversion.changes import Mark, is_same, mark_of

_FILE = torch.utils.checkpoint.__file__
_MARK = "_labctl_region"

Drawn = tuple[tuple[int, int], int]
"""The key of a layer's noise, which may be another by the backward pass, and how much of it was used."""


class Region:
    """One run of a part of a model that is checkpointed. It lives as long as the graph that would compute it again.

    Attributes
    ----------
    is_followed
        It is a function inside a module, and computed again as part of that.
    """

    is_followed = False


@dataclass(frozen=True)
class _Inside:
    """A checkpointed part that is running.

    Attributes
    ----------
    owner
        What torch keeps of it until it is computed again.
    again
        Tells the backward passes apart in which it is; None: it runs for the first time.
    """

    owner: Any
    again: object = None

    @property
    def region(self) -> Region:
        found: Region = vars(self.owner).setdefault(_MARK, Region())
        return found


class _Here(threading.local):
    """Whether anything that runs in this thread could be checkpointed."""

    possible = False


_here = _Here()


@contextmanager
def may_be_recomputed() -> Iterator[None]:
    """While open, a model runs; without gradients nothing of it will be computed again."""
    before = _here.possible
    _here.possible = before or torch.is_grad_enabled() or bool(_around())
    try:
        yield
    finally:
        _here.possible = before


def may_have_been_before() -> bool:
    """Whether a product may be one that is computed again, or will be: `Remembered` is to be asked then."""
    return _here.possible or torch._C._current_graph_task_id() != -1


def follow_functions(call: FrameType | None, within: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Have the functions that a module checkpoints be computed again as part of that module, whose hooks do not run.

    Parameters
    ----------
    call
        The frame of the module's call.
    within
        Makes of a function what runs it as a part of the module.
    """
    for each in _around(call) if _here.possible else ():
        if each.again is None and not each.region.is_followed:
            each.region.is_followed = True
            name = "recompute_fn" if hasattr(each.owner, "recompute_fn") else "run_function"
            setattr(each.owner, name, within(getattr(each.owner, name)))


@dataclass
class _Kept:
    """The products of one layer in one region: their operands, noise, and in which backward pass each was repeated."""

    products: list[tuple[Mark, Drawn]] = field(default_factory=list)
    repeated: dict[object, set[int]] = field(default_factory=dict)

    def next(self, mark: Mark, again: object) -> Drawn | None:
        """The noise of the first product with these operands that this backward pass has not repeated yet."""
        done = self.repeated.setdefault(again, set())
        for place, (known, drawn) in enumerate(self.products):
            if place not in done and is_same(known, mark):
                done.add(place)
                return drawn
        return None


class NotKnownError(LookupError):
    """A product is computed again, and is not known to have been computed."""


class Remembered:
    """Where a layer's noise stood before each of its products that may be computed again."""

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Region, _Kept] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return Remembered, ()  # a copy of a layer has no graph of its own

    def drawn_before(self, vectors: Tensor, drawn: Drawn) -> Drawn | None:
        """Where it stood before a product of ``vectors`` (B, n, K) that is computed again; None the first time.

        The first time it is noted that it stands at ``drawn``, if the product may be computed again.

        Raises
        ------
        NotKnownError
            When it is computed in a backward pass and was not noted.
        """
        around = _around() if _here.possible else []
        again = next((each for each in around if each.again is not None), None)
        if again is None and torch._C._current_graph_task_id() != -1:
            raise NotKnownError
        if not around:
            return None
        mark, before = mark_of(vectors.reshape(-1, vectors.shape[-1])), None
        if again is not None:
            kept = self._kept.get(again.region)
            before = None if kept is None else kept.next(mark, again.again)
            if before is None:
                raise NotKnownError
        for each in around:
            if each.again is None:
                noted = self._kept.setdefault(each.region, _Kept())
                noted.products.append((mark, drawn if before is None else before))
        return before


def _around(until: FrameType | None = None) -> list[_Inside]:
    """The checkpointed parts that are running in this thread and were begun after ``until``, the innermost first."""
    found: list[_Inside] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not until:
        if frame.f_code.co_filename == _FILE and (inside := _inside(frame)) is not None:
            found.append(inside)
        frame = frame.f_back
    return found


def _inside(frame: FrameType) -> _Inside | None:
    """What a frame of `torch.utils.checkpoint` runs, in either of its ways to compute again."""
    name, here = frame.f_code.co_name, frame.f_locals
    if name == "checkpoint" and (begun := here.get("gen")) is not None and begun.gi_frame is not None:
        owner = begun.gi_frame.f_locals.get("new_frame")
        return None if owner is None else _Inside(owner)
    if name == "unpack_hook" and "frame" in here and "gid" in here:
        return _Inside(here["frame"], ("hook", here["gid"]))
    if name in ("forward", "backward") and "ctx" in here:
        return _Inside(here["ctx"], ("function", torch._C._current_graph_task_id()) if name == "backward" else None)
    return None
