"""Matrices on the SLM, in tensors: `simulation.light.weights` on whatever device the matrices are."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.machine.channel import COMPENSATION_ROUNDS, Channel
from simulation.light.optics import Optics
from simulation.light.tensors.devices import Precision, wide
from simulation.light.tensors.showing import TensorPanel
from simulation.light.weights import Placement, Weights


class TensorPlacement(Placement):
    """A `Placement` whose matrices are on a device.

    Attributes
    ----------
    unmixing
        ``taps`` on the device.
    offsets, strays, bled_ones
        ``offset``, ``stray`` and what `Placement.bled_sum` multiplies by, on the device.
    """

    def __init__(self, optics: Optics, shape: tuple[int, int], device: torch.device) -> None:
        super().__init__(optics, shape)
        self._panel = TensorPanel.of(optics.slm, device)
        self._gain = None if self._flat is None else torch.from_numpy(self._flat).to(device)
        believed = optics.channel is not None and self.believed is not None
        self._compensation = Compensation(optics.channel, self, device) if believed else None  # type: ignore[arg-type]
        if len(optics.encoding.weight_factors) == 1:
            self._pedestal = self._pedestal.to(device)  # made on the CPU, while light is there
        self._spill = None if self._spill is None else self._spill.to(device)
        self.unmixing, self.offsets, self.strays = (
            torch.from_numpy(np.array(each)).to(device) for each in (self.taps, self.offset, self.stray)
        )
        self.bled_ones = torch.from_numpy(self._bled_ones).to(device, wide(device))

    def show_as(self, scaled: Tensor, precision: Precision) -> Weights:
        """`Placement.show` of matrices (B, M, K) on the device; operands of products in the types that they need."""
        code = self._optics.encoding
        w = scaled.to(wide(scaled.device))
        if self._compensation is not None:
            w = self._compensation.compensate(w)
        w = w.clamp_(-1, 1) if w is not scaled else w.clamp(-1, 1)
        if code.name == "differential":
            parts = torch.stack([(0.5 * (1 + w)).float(), (0.5 * (1 - w)).float()])
        elif len(code.weight_factors) == 2:
            parts = torch.stack([w.clamp_min(0).float(), (-w).clamp_min(0).float()])
        else:
            parts = ((w - code.weight_constant) / code.weight_factors[0]).float()[None]
        if self._gain is not None:
            parts *= self._gain
        found = self._weights(scaled, self._panel.show(parts), to_bytes=False)
        return replace(found, signed=found.signed.to(precision.signal), light=found.light.to(precision.light))

    def _moments(self, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Light (P, B, M, K) over tiles: means and spreads (B, R, P, T), and means over all rows (B, P, K)."""
        parts = [shown[..., a:b, :] for a, b in pairwise(self.rows)]
        planes, scatter = ([part.mean(-2) for part in parts], [part.var(-2, correction=0) for part in parts])
        return self._over_columns(planes), self._over_columns(scatter), shown.mean(-2).transpose(0, 1)

    def _over_columns(self, rows: list[Tensor]) -> Tensor:
        """R × (P, B, K) to (B, R, P, T)."""
        tiles = [torch.stack([r[..., a:b].mean(-1) for r in rows]) for a, b in pairwise(self.columns)]
        return torch.stack(tiles).permute(3, 1, 2, 0)  # (T, R, P, B) to (B, R, P, T)


class Compensation:
    """`calibration.machine.channel.Channel.compensate` of matrices (…, M, K) on a device, tile by tile.

    Its systems of equations are small, one for each tile and always the same: they are inverted once.
    """

    def __init__(self, channel: Channel, placement: Placement, device: torch.device) -> None:
        self._rows, self._columns = (
            tuple(int(edge) for edge in edges) for edges in (placement.rows, placement.columns)
        )
        self._rounds = COMPENSATION_ROUNDS if channel.couplings is not None else 0

        def on(matrix: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(np.linalg.inv(matrix)).to(device, wide(device))

        before, after = channel.bleed
        bled = (_banded(b - a, 1 - before - after, after, before) for a, b in pairwise(self._columns))
        self._unbleed = [on(matrix) for matrix in bled]
        mixed = [
            np.eye(b - a) + np.diag(channel.crosstalk[1 : b - a, 0], -1) + np.diag(channel.crosstalk[: b - a - 1, 1], 1)
            for a, b in pairwise(self._rows)
        ]
        self._unmix = [on(matrix) for matrix in mixed]
        self._spill = placement.believed.to(device) if self._rounds and placement.believed is not None else None

    def compensate(self, weight: Tensor) -> Tensor:
        """What has to be shown for the unmixed outputs to see ``weight``."""
        light = self._without_bleed(weight)
        for _ in range(self._rounds):
            light += self._without_bleed(weight - self._seen(light))
        return light

    def _without_bleed(self, weight: Tensor) -> Tensor:
        parts = [weight[..., a:b] @ undo for (a, b), undo in zip(pairwise(self._columns), self._unbleed, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _seen(self, light: Tensor) -> Tensor:
        assert self._spill is not None
        seen = self._spill.fold(light)
        parts = [undo @ seen[..., a:b, :] for (a, b), undo in zip(pairwise(self._rows), self._unmix, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)


def _banded(size: int, own: float, above: float, below: float) -> NDArray[np.float64]:
    """A matrix of three diagonals."""
    return own * np.eye(size) + above * np.eye(size, k=1) + below * np.eye(size, k=-1)
