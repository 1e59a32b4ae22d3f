"""Products of one layer on the bench: what multiplies in `simulation.conversion.optical`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.benches.backend import Benches, OnCpu, OnDevice
from simulation.conversion.changes import Lying, Mark, is_same, mark_of
from simulation.conversion.quantise import clip_scale
from simulation.conversion.ranges import Ranges
from simulation.conversion.recomputed import Drawn, NotKnownError, Remembered, may_have_been_before
from simulation.light.accounting import Tally
from simulation.light.few import FEW_ROWS
from simulation.light.settings import Noise, Range

_QUICK = (torch.float32, torch.bfloat16, torch.float16)
"""Types of numbers that are single precision without being looked at."""
_LEAST = 1e-30
"""Largest magnitude of a double-precision operand from which on its products are numbers of single precision, too."""
NOT_FINITE = "operands that are not finite"
"""Why a product stays digital: no light shows them."""


class Leave(Protocol):
    """Notes what stays digital: why, how many multiply–accumulates, and by which name."""

    def __call__(self, why: str, macs: int, here: str) -> None: ...


class _OnBench:
    """Products that share their noise and tally.

    Gradient checkpointing computes a product again in the backward pass. It is then given the noise that it had, and
    its light is not counted twice.
    """

    def __init__(self, name: str, benches: Benches, noise: Noise, ranges: Ranges | None, leave: Leave) -> None:
        self._name, self.noise, self.tally = name, noise, Tally()
        self._benches, self._ranges, self._leave = benches, ranges, leave
        self._drawn = Remembered()

    def begin_anew(self, benches: Benches, noise: Noise) -> None:
        """Go on at the light level of ``benches``, which are the same otherwise."""
        self.noise, self._benches = noise, benches
        self._drawn = Remembered()

    def _multiply(self, bench: OnDevice, x: Tensor, weights: Any, **more: Any) -> Tensor:
        """(B, n, K) to (B, n, M)."""
        vectors, noise, tally = x.detach(), self.noise, self.tally
        if vectors.dtype == torch.float64:
            _in_single(vectors, self._name)
        before = self._drawn_before(vectors)
        if before is not None:
            noise, tally = Noise(*before), Tally()
        return bench.product(vectors, weights, noise, tally, converters=_converters(self._ranges), **more)

    def _drawn_before(self, vectors: Tensor) -> Drawn | None:
        try:
            return self._drawn.drawn_before(vectors, (self.noise.key, self.noise.calls))
        except NotKnownError as error:
            raise OutOfDomain(
                "a product is computed in the backward pass, with operands that it is not known to have had before",
                device=self._name,
                expected="torch.utils.checkpoint.checkpoint, of what gives the same result twice",
                seen="other operands, or something else that runs the model there",
                hint="checkpoint only what gives the same result twice",
            ) from error

    def _patch(self, y: Tensor, unknown: Tensor, macs: int, digital: Callable[[], Tensor]) -> Tensor:
        """Torch's own numbers in those products (B, n, M), or rows (B, n, 1) of them, whose operands are not finite."""
        if torch._C._current_graph_task_id() == -1:
            count = int(unknown.expand(y.shape).sum()) * macs
            self.tally.macs -= count
            self._leave(NOT_FINITE, count, f"{self._name} ({NOT_FINITE})")
        return torch.where(unknown, digital(), y)


class OpticalMatrix(_OnBench):
    """A matrix that stays on the bench, shown once, and anew when its weights have changed.

    The bias is added digitally.
    """

    def __init__(
        self, name: str, weight: Tensor, benches: Benches, noise: Noise, ranges: Ranges | None, leave: Leave
    ) -> None:
        super().__init__(name, benches, noise, ranges, leave)
        self._shown: _Shown | None = None
        self._show(benches.on(weight.device), weight)

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x (…, K), weight (M, K) and bias (M,) to (…, M)."""
        bench = self._benches.on(weight.device)
        added, vectors = None if bias is None else bias.detach(), x.detach().reshape(1, -1, x.shape[-1])
        if (at_once := self._at_once(bench, vectors, weight.detach(), added)) is not None:
            return at_once.view(*x.shape[:-1], -1)
        shown = self._show(bench, weight)
        unknown = _not_finite(vectors)
        lit = vectors if unknown is None else vectors.masked_fill(unknown[..., None], 0.0)
        y = self._multiply(bench, lit, shown.weights, unit=shown.scale, bias=added, attention=False)
        if unknown is not None:
            digital = partial(nn.functional.linear, vectors, weight.detach(), added)
            y = self._patch(y, unknown[..., None], x.shape[-1], digital)
        return y.view(*x.shape[:-1], -1)

    def _at_once(self, bench: OnDevice, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        """Products of a few vectors by what is shown, if that is still the weight, at which they look meanwhile."""
        shown = self._shown
        if (
            not isinstance(bench, OnCpu)
            or shown is None
            or vectors.shape[1] > FEW_ROWS
            or shown.kind != (bench.shows, weight.dtype)
            or vectors.dtype not in _QUICK
            or may_have_been_before()
            or (live := shown.lying.live(weight, shown.mark)) is None
        ):
            return None
        return bench.at_once(
            vectors, shown.weights, self.noise, self.tally,
            live=live, bias=bias, unit=shown.scale, converters=_converters(self._ranges),
        )  # fmt: skip

    def _show(self, bench: OnDevice, weight: Tensor) -> _Shown:
        weight = weight.detach()
        mark, before, kind = mark_of(weight), self._shown, (bench.shows, weight.dtype)
        if before is None or before.kind != kind or not is_same(before.mark, mark):
            as_shown = _in_single(weight, self._name)
            if not bool(torch.isfinite(as_shown).all()):
                raise BadOperands("a weight is not a finite number", device=self._name, hint="check the checkpoint")
            scale = _scale(as_shown, bench.clip[0])
            weights = bench.show((as_shown / scale)[None], static=True, operands=weight.dtype)
            self._shown = before = _Shown(kind, mark, Lying(), scale.view(1), weights)
        return before


@dataclass(frozen=True)
class _Shown:
    """What is on the bench now: for which benches, of which type, and what it was made of: its mark, its place."""

    kind: tuple[object, torch.dtype]
    mark: Mark
    lying: Lying
    scale: Tensor
    weights: Any


class OpticalPair(_OnBench):
    """``a @ b`` on the bench: b goes on the SLM, anew for every call, clipped per head; a on the display."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(B, n, K) and (B, K, M) to (B, n, M).

        What has an operand that is not finite is torch's own; the other products are in light as they are without it.
        """
        a, b = a.detach(), b.detach()
        bench = self._benches.on(b.device)
        if isinstance(bench, OnCpu) and a.shape[1] <= FEW_ROWS and a.dtype in _QUICK and not may_have_been_before():
            y = bench.pair_at_once(a, b.mT, self.noise, self.tally, converters=_converters(self._ranges))
            if y is not None:
                return y
        matrices = _in_single(b, self._name).mT
        rows, columns = _not_finite(a), _not_finite(matrices)
        lit = a if rows is None else a.masked_fill(rows[..., None], 0.0)
        if columns is not None:
            matrices = matrices.masked_fill(columns[..., None], 0.0)
        scale = _scale(matrices, bench.clip[1])
        weights = bench.show(matrices / scale, static=False, operands=b.dtype)
        y = self._multiply(bench, lit, weights, unit=scale.flatten(), bias=None, attention=True)
        if rows is None and columns is None:
            return y
        unknown = torch.zeros_like(y, dtype=torch.bool)
        for found, axis in ((rows, 2), (columns, 1)):
            unknown = unknown if found is None else unknown | found.unsqueeze(axis)
        return self._patch(y, unknown, a.shape[-1], partial(torch.matmul, a, b))


def _not_finite(matrices: Tensor) -> Tensor | None:
    """(B, M) rows of matrices (B, M, K) that hold a number which is not finite; None where no row does."""
    if math.isfinite(float(matrices.sum(dtype=torch.float32))):
        return None  # a sum takes a fraction of the time; that of finite numbers may overflow
    found = ~matrices.isfinite().all(-1)
    return found if bool(found.any()) else None


def _in_single(operand: Tensor, name: str) -> Tensor:
    """An operand in single precision, in which light is computed.

    Raises
    ------
    BadOperands
        Where its numbers are beyond that: all products would be zero or infinite.
    """
    single = operand.float()
    if operand.dtype != torch.float64 or not operand.numel():
        return single
    largest = operand.abs().nan_to_num(0.0, posinf=0.0).amax()
    if bool(largest > torch.finfo(torch.float32).max) or bool((largest > 0) & (largest < _LEAST)):
        raise BadOperands(
            "an operand is beyond what light is computed in",
            device=name,
            expected=f"largest magnitudes between {_LEAST:g} and {torch.finfo(torch.float32).max:.2g}",
            seen=f"{float(largest):.3g}",
            hint="scale the model's numbers to be near 1",
        )
    return single


def _scale(matrices: Tensor, percentile: float) -> Tensor:
    """`clip_scale`, never 0."""
    return clip_scale(matrices, percentile).clamp_min(torch.finfo(torch.float32).tiny)


def _converters(ranges: Ranges | None) -> Range:
    return Range() if ranges is None else Range(ranges.input, ranges.output / ranges.steps, ranges.output)
