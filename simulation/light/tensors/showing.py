"""`simulation.light.showing` in tensors: levels, passes, and the light that they send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from simulation.light.optics import Panel
from simulation.light.tensors.devices import ROWS_AT_ONCE


@dataclass(frozen=True)
class TensorPanel:
    """A `Panel` on a device.

    Attributes
    ----------
    floor, dark
        Transmissions of the darkest level, as the calibration has it, and as it really is [1].
    step
        Between levels that lie evenly; 0 where they do not, or form a continuum.
    midpoints, shown
        (L − 1,) between neighbouring levels, and (L,) what the levels really give; empty where they are not searched.
    """

    floor: float
    dark: float
    step: float
    midpoints: Tensor
    shown: Tensor

    @classmethod
    def of(cls, panel: Panel, device: torch.device) -> TensorPanel:
        levels = panel.levels
        shown, searched = levels.shown, len(levels.table) > 0
        step = 0.0 if searched or len(shown) == 1 else float(shown[1] - shown[0])
        midpoints = levels.midpoints[: len(shown) - 1] if searched else np.empty(0, np.float32)
        kept = shown if searched else np.empty(0, np.float32)
        return cls(
            float(levels.floor),
            float(shown[0]),
            step,
            torch.from_numpy(np.array(midpoints)).to(device),
            torch.from_numpy(np.array(kept)).to(device),
        )

    def show(self, operand: Tensor) -> Tensor:
        """Operands 0 … 1, clipped there, to the transmissions that the panel really gives."""
        return self.nearest(self.target(operand.clamp(0, 1)))

    def target(self, operand: Tensor) -> Tensor:
        """The transmission that stands for an operand 0 … 1."""
        return self.floor + float(np.float32(1) - np.float32(self.floor)) * operand

    def nearest(self, target: Tensor) -> Tensor:
        """The transmissions of the levels nearest to ``target``; a NaN gives some level."""
        if len(self.shown):
            level = torch.bucketize(target, self.midpoints, out_int32=True)
            return self.shown[level.clamp_(max=len(self.shown) - 1)]
        if not self.step:
            return target
        inverse = float(np.float32(1) / np.float32(self.step))
        return self.dark + self.step * torch.floor((target - self.dark) * inverse + 0.5)


@dataclass(frozen=True)
class TensorShown:
    """Vectors on the display; `simulation.light.showing.Shown` says what each is.

    Attributes
    ----------
    signed, bright
        (n, K); ``bright`` is None where nobody asks for it.
    scale
        (n, 3)
    light, squares
        (n, Q, T); ``squares`` as of `squares_of_passes`, None where nothing flickers.
    sums
        (3, Q, n)
    """

    signed: Tensor
    bright: Tensor | None
    scale: Tensor
    light: Tensor
    squares: Tensor | None
    sums: Tensor


@dataclass(frozen=True)
class Display:
    """How vectors are shown.

    Attributes
    ----------
    panel
        The display.
    columns
        (T + 1,) first column of each column tile.
    two_passes
        One of positive, one of negative elements; or one of all, offset.
    per_pass
        Each pass is shown on the scale of its own maximum.
    clip
        Magnitude at which vectors are clipped.
    factor, constant
        Of the encoding of inputs, where there is one pass.
    """

    panel: TensorPanel
    columns: tuple[int, ...]
    two_passes: bool
    per_pass: bool
    clip: float
    factor: float
    constant: float


def show_vectors(x: Tensor, display: Display, dtypes: Sequence[torch.dtype | None], squares: bool) -> TensorShown:
    """Show vectors (n, K), so many at a time that temporaries stay small.

    Parameters
    ----------
    dtypes
        Of ``signed`` and ``bright``; None for the latter leaves it out.
    squares
        Whether `TensorShown.squares` is wanted.
    """
    show = _two_passes if display.two_passes else _one_pass
    at_once = max(1, ROWS_AT_ONCE // x.shape[1])
    parts = [_packed(show(x[n : n + at_once], display), display, dtypes, squares) for n in range(0, len(x), at_once)]
    if len(parts) == 1:
        return parts[0]
    bright, power = (
        None if any(each is None for each in found) else torch.cat([each for each in found if each is not None])
        for found in ([part.bright for part in parts], [part.squares for part in parts])
    )
    return TensorShown(
        torch.cat([part.signed for part in parts]),
        bright,
        torch.cat([part.scale for part in parts]),
        torch.cat([part.light for part in parts]),
        power,
        torch.cat([part.sums for part in parts], 2),
    )


_SMALLEST = torch.finfo(torch.float32).tiny
"""Smaller numbers are subnormal: nothing can be shown on their scale, and they are dark."""

Passes = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""``signed``, ``bright`` (n, K); ``scale`` (n, 3); ``light`` (n, Q, T); whether each is lit, (n, Q, T)."""


def _packed(passes: Passes, display: Display, dtypes: Sequence[torch.dtype | None], squares: bool) -> TensorShown:
    signed, bright, scale, light, lit = passes
    widths = torch.tensor([b - a for a, b in pairwise(display.columns)], dtype=torch.float32, device=signed.device)
    sums = torch.stack([light.sum(2).T, (lit * widths).sum(2).T, lit.sum(2, dtype=torch.float32).T])
    kept = None if dtypes[1] is None else bright.to(dtypes[1])
    power = _squares(signed, display) if squares else None
    return TensorShown(signed.to(dtypes[0] or torch.float32), kept, scale, light, power, sums)


def _two_passes(x: Tensor, display: Display) -> Passes:
    """`simulation.light.showing.split_signs`."""
    panel, edges = display.panel, display.columns
    high, low = (side.amax(1) for side in (x, -x))
    high, low = (torch.where(side < _SMALLEST, 0.0, side) for side in (high, low))
    known = ~(torch.maximum(high, low).isnan() | (torch.maximum(high, low).clamp_max(display.clip) == torch.inf))
    high, low = (torch.where(known, side.clamp_max(display.clip), 0.0) for side in (high, low))
    peak = torch.maximum(high, low)
    if not display.per_pass:
        high = low = peak
    plus, minus = high * _inverse(peak), low * _inverse(peak)
    scaled = torch.maximum(x * _inverse(high)[:, None], -x * _inverse(low)[:, None])
    transmission = panel.nearest(panel.target(scaled).clamp_max(1.0))
    lit = (
        torch.stack([_tiles(x >= _SMALLEST, edges), _tiles(x <= -_SMALLEST, edges)], 1) & known[:, None, None]
    )  # (n, Q, T)
    both, any_lit = lit.all(1), lit.any(1)
    base, extra = torch.where(both, panel.dark, panel.floor), torch.where(both, panel.dark, 0.0)
    positive = _spread(lit[:, 0], edges) & (x >= 0)
    on, extra_of = _spread(any_lit, edges), _spread(extra, edges)
    size = torch.where(positive, plus[:, None], -minus[:, None])
    signed = torch.where(on, (transmission - _spread(base, edges)) * size, 0.0)
    signed = torch.where(known[:, None], signed, torch.nan)
    seen = torch.where(on, transmission, 0.0)
    light = torch.stack([_tiles(torch.where(side, seen, extra_of), edges) for side in (positive, ~positive)], 1) * lit
    bright = torch.where(on, seen + extra_of, 0.0)
    return signed, bright, torch.stack([peak, plus, minus], 1), light, lit


def _one_pass(x: Tensor, display: Display) -> Passes:
    """All elements in one pass, offset so that none is negative."""
    panel, edges = display.panel, display.columns
    known = x.isfinite().all(1)
    x = torch.where(known[:, None], x, 0.0)
    peak = x.abs().amax(1).clamp_max(display.clip)
    scaled = (x / peak.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).clamp(-1, 1)
    bright = torch.where(known[:, None], panel.show((scaled - display.constant) / display.factor), 0.0)
    signed = torch.where(known[:, None], bright - panel.floor, torch.nan)
    light = _tiles(bright, edges)[:, None]
    scale = torch.stack([peak, torch.ones_like(peak), torch.zeros_like(peak)], 1)
    return signed, bright, scale, light, light > 0


def weigh_passes(signed: Tensor, bright: Tensor, weight: Tensor) -> Tensor:
    """``bright`` (n, K) scaled by ``weight`` (2, n) of the pass in which each element was shown."""
    return bright * torch.where(signed < 0, weight[1][:, None], weight[0][:, None]).to(bright.dtype)


def column_light(signed: Tensor, bright: Tensor) -> Tensor:
    """(2, K) light of vectors without floor, by the pass that shows it."""
    return torch.stack([torch.where(side, bright, 0).sum(0, dtype=torch.float32) for side in (signed > 0, signed < 0)])


def _squares(signed: Tensor, display: Display) -> Tensor:
    """(n, Q, T): Σ ``signed``² of each pass and column tile."""
    square = signed * signed
    if not display.two_passes:
        return _tiles(square, display.columns)[:, None]
    sides = (torch.where(side, square, 0.0) for side in (signed >= 0, signed < 0))
    return torch.stack([_tiles(side, display.columns) for side in sides], 1)


def _tiles(values: Tensor, edges: tuple[int, ...]) -> Tensor:
    """(n, K) to (n, T): sums over column tiles; of truths, whether any is true."""
    parts = [values[:, a:b] for a, b in pairwise(edges)]
    return torch.stack([part.any(1) if values.dtype == torch.bool else part.sum(1) for part in parts], 1)


def _spread(values: Tensor, edges: tuple[int, ...]) -> Tensor:
    """(n, T) to every column of each tile: (n, K), or (n, 1) of a single tile."""
    if len(edges) == 2:
        return values
    counts = torch.tensor([b - a for a, b in pairwise(edges)], device=values.device)
    return values.repeat_interleave(counts, 1, output_size=edges[-1])


def _inverse(values: Tensor) -> Tensor:
    """1 / values, 0 where they are 0."""
    return torch.where(values > 0, 1 / values, 0.0)
