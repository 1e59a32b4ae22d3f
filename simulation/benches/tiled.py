"""A scale for each tile of T inputs (adaptive block floating point), for models that nobody trained for light.

``y_m = Σ_t s_mt r_t (V_mt · v_t)``: the part of row m in tile t on the scale s_mt of its largest weight, the part of
the vector on the scale r_t of its largest element, so that one outlier takes levels from T products and not from K.
Every tile is read by itself; the sums, and the scales, are digital. As in Basumallik et al., arXiv 2205.06287, where
readings are those of an electronic array.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from calibration.errors import OutOfDomain
from simulation.benches.intensity import SIGN_SPLIT
from simulation.benches.multiplier import Multiplier
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.settings import AS_IS, Noise, Range, Variance

TILE = 64
"""Inputs to a tile if nobody says."""
SCALE_BITS = 16
"""Of a scale, as a number that is moved: bfloat16."""


@dataclass(frozen=True)
class TiledScales:
    """Sign split, with scales of its own for every ``tile`` inputs."""

    tile: int = TILE
    words: str = "sign split in tiles of T inputs with scales of their own (tiled-scales:T), sums added digitally"

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise OutOfDomain(
                "a tile has one input at least", expected="a number from 1 on: tiled-scales:INPUTS",
                seen=str(self.tile), hint=f"--encoding tiled-scales:{TILE}",
            )  # fmt: skip

    @property
    def name(self) -> str:
        """With the tile."""
        return f"tiled-scales:{self.tile}"

    def bench(self, optics: Optics, photons_per_mac: float | None, variance: Variance) -> Multiplier:
        """Any bench that splits signs; one that has fewer inputs than a tile cuts it further."""
        return TiledBench(SIGN_SPLIT.bench(optics, photons_per_mac, variance), self.tile)


class Tiles(NamedTuple):
    """B matrices (M, K), tile by tile: as the bench shows each, and (B, M) the scales of its rows."""

    shown: tuple[Any, ...]
    scales: tuple[Tensor, ...]


class TiledBench:
    """See `simulation.benches.multiplier.Multiplier`; ``inner`` multiplies the tiles, on whatever device it does.

    The converters of `product` are those of a tile: they round what is read, before any scale, in the units of a
    product of the largest weight with the largest input (`readings`).
    """

    def __init__(self, inner: Any, tile: int) -> None:
        self.inner, self.tile = inner, tile

    @property
    def optics(self) -> Optics:
        """Of the tiles."""
        found: Optics = self.inner.optics
        return found

    @property
    def clip(self) -> tuple[float, float]:
        """Nothing is clipped: the full scale of each tile is its largest number."""
        return 100.0, 100.0

    @property
    def shows(self) -> tuple[object, bool]:
        """As of the tiles, see `simulation.benches.backend.OnDevice`."""
        found: tuple[object, bool] = self.inner.shows
        return found

    def at(self, photons_per_mac: float) -> TiledBench:
        other = copy(self)
        other.inner = self.inner.at(photons_per_mac)
        return other

    def show(self, scaled: Tensor, *, static: bool, **more: Any) -> Tiles:
        shown, scales = [], []
        for part in tiles_of(scaled.float(), self.tile):
            scale = scales_of(part)
            shown.append(self.inner.show(part / scale, static=static, **more))
            scales.append(scale[..., 0])
        return Tiles(tuple(shown), tuple(scales))

    def product(
        self,
        x: Tensor,
        weights: Tiles,
        noise: Noise,
        tally: Tally,
        *,
        unit: Tensor,
        bias: Tensor | None = None,
        converters: Range = AS_IS,
        attention: bool = False,
    ) -> Tensor:
        batch, n, k = x.shape
        m = weights.scales[0].shape[1]
        part, total = Tally(), x.new_zeros((batch, n, m), dtype=torch.float32)
        read = Range(step=converters.step, limit=converters.limit)
        clipped = x.float().clamp(-converters.clip, converters.clip)
        for vectors, shown, rows in zip(tiles_of(clipped, self.tile), *weights, strict=True):
            scale = scales_of(vectors)
            found = self.inner.product(
                vectors / scale, shown, noise, part, unit=torch.ones_like(unit), converters=read, attention=attention
            )
            total += found.float() * scale * rows[:, None]
        tally.add_part(batch * n, k * m, part)
        tally.scales += len(weights.shown) * batch * n * (1 + m)
        total *= unit.view(-1, 1, 1)
        return (total if bias is None else total + bias).to(x.dtype)


def tiles_of(operands: Tensor, tile: int) -> Iterator[Tensor]:
    """Operands (…, K) cut into tiles (…, T), the last one with what is left."""
    edges = [*range(0, operands.shape[-1], tile), operands.shape[-1]]
    for a, b in pairwise(edges):
        yield operands[..., a:b].contiguous()


def scales_of(part: Tensor) -> Tensor:
    """(…, 1) scale of each tile (…, T): its largest magnitude in sixteen bits, rounded up; 1 where all is zero."""
    largest = part.abs().amax(-1, keepdim=True)
    rounded = (largest * (1 + 2.0**-8)).bfloat16().float()
    tiny, most = torch.finfo(torch.float32).tiny, torch.finfo(torch.bfloat16).max
    return torch.where(largest > 0, rounded.clamp(tiny, most), 1.0)


def readings(vectors: Tensor, matrices: Tensor, tile: int) -> Iterator[Tensor]:
    """What is read of each tile of vectors (…, n, K) on matrices (…, K, M), in units of both scales: (…, n, M)."""
    full = matrices.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    for v, w in zip(tiles_of(vectors, tile), tiles_of((matrices / full).mT, tile), strict=True):
        yield (v / scales_of(v)) @ (w / scales_of(w)).mT
