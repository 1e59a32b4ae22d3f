"""Matrices on the SLM: tiled, pre-compensated, shown, and what the camera makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.channel import Channel, undo_bleed
from simulation.light.optics import Optics

FAR = 1e-6  # of an output's own light: neighbours whose share in it is smaller are not unmixed
BYTE = 127  # the largest magnitude of a byte product's operands


@dataclass(frozen=True)
class Weights:
    """A matrix as shown, in units of a full weight at full input.

    Attributes
    ----------
    signed
        (B, M, K): of the signed sum of passes, crosstalk included.
    light
        (B, M, K): of all passes together.
    planes
        (B, R, P, T): mean light of each weight pass over the elements of row tile and column tile.
    columns
        (B, P, K): mean light of each weight pass over the outputs.
    lone
        (B, M): what a lone input pass counts beside the product, because its zeros are not dark.
    mean_light
        (B, M): of ``light``, over K.
    row_sum
        (B, M): Σ_k of the scaled matrix, before it was shown.
    bytes
        ``light`` of a single matrix for byte products, or None.
    """

    signed: Tensor
    light: Tensor
    planes: Tensor
    columns: Tensor
    lone: Tensor
    mean_light: Tensor
    row_sum: Tensor
    bytes: Bytes | None

    @property
    def shape(self) -> tuple[int, int]:
        """(M, K)"""
        return self.signed.shape[1], self.signed.shape[2]


@dataclass(frozen=True)
class Bytes:
    """A non-negative matrix in whole steps.

    Attributes
    ----------
    values
        (K, M) int8.
    step
        Unit of ``values``.
    mean, spread, error
        Of the elements, of their deviations from the mean of each row, and of what rounding took away (rms), in steps.
    """

    values: Tensor
    step: float
    mean: float
    spread: float
    error: float

    @classmethod
    def of(cls, light: Tensor) -> Bytes:
        """Round a (M, K) matrix."""
        step = max(float(light.max()) / BYTE, 1e-30)
        scaled = light / step
        whole = scaled.round()
        return cls(
            values=whole.to(torch.int8).t(),
            step=step,
            mean=float(scaled.mean()),
            spread=float((scaled - scaled.mean(1, keepdim=True)).square().mean().sqrt()),
            error=float((scaled - whole).square().mean().sqrt()),
        )


class Placement:
    """Where a matrix of a given shape lies on the bench, and what the bench does to it there.

    Attributes
    ----------
    rows, columns
        (R + 1,), (T + 1,) edges of the tiles.
    taps
        (2r + 1, M) undoes the crosstalk within each row tile.
    offset
        (M,) what is wrong with the decoded offsets of one pass, all column tiles together [units of full light].
    """

    def __init__(self, optics: Optics, shape: tuple[int, int]) -> None:
        m, k = shape
        self._optics, self.shape = optics, shape
        channel, actual = optics.channel, optics.actual
        tiles = [] if optics.layout is None else list(optics.layout.tiles(shape))
        self.rows = np.array(sorted({t.row0 for t in tiles} | {m}) if tiles else [0, m])
        self.columns = np.array(sorted({t.col0 for t in tiles} | {k}) if tiles else [0, k])
        self.taps = np.ones((1, m), np.float32)
        self.offset = np.zeros(m, np.float32)
        self._flat = self._gain = None
        self._crosstalk = self._bleed = None
        if channel is None or actual is None:
            return
        full = channel.gain_dn.min()
        self._flat = torch.from_numpy(self._tiled(full / channel.gain_dn)).float()
        self._gain = torch.from_numpy(self._tiled(actual.gain_dn / full)).float()
        self.taps = self._unmixing(channel)
        if actual.crosstalk.any():
            above, below = (self._tiled(column[:, None], k=1)[:, 0] for column in actual.crosstalk.T)
            above[self.rows[:-1]] = 0.0  # other rows are in another frame
            below[self.rows[1:] - 1] = 0.0
            self._crosstalk = torch.from_numpy(np.stack([above, below])).float()
        if actual.bleed.any():
            kept = np.full(k, 1 - actual.bleed.sum())
            left, right = np.full(k, actual.bleed[1]), np.full(k, actual.bleed[0])
            left[self.columns[:-1]] = right[self.columns[1:] - 1] = 0.0
            self._bleed = torch.from_numpy(np.stack([kept, left, right])).float()
        wrong = self._tiled((actual.offset_dn - channel.offset_dn)[:, None] / full, k=1)[:, 0]
        radius = len(self.taps) // 2
        near = np.lib.stride_tricks.sliding_window_view(np.pad(wrong, radius), len(self.taps))  # (M, 2r + 1)
        self.offset = ((near * self.taps.T).sum(1) * (len(self.columns) - 1)).astype(np.float32)

    def show(self, scaled: Tensor, *, static: bool) -> Weights:
        """Show matrices (B, M, K), scaled to −1 … 1 and clipped there; ``static`` if for more than one product."""
        optics, encoding = self._optics, self._optics.encoding
        w = self._before_bleed(scaled).clamp(-1, 1).double().numpy()
        parts = encoding.split_weight(w).astype(np.float32)  # (P, …, M, K)
        if self._flat is not None:
            parts *= self._flat.numpy()
        shown = torch.from_numpy(optics.slm.show(parts))
        floor = torch.full((), optics.slm.floor)
        if self._gain is not None:
            shown, floor = shown * self._gain, floor * self._gain
        if self._bleed is not None:
            shown, floor = self._bled(shown), self._bled(floor)
        planes, shown_mean = self._plane_means(shown), shown.mean(-2).transpose(0, 1)
        if self._crosstalk is not None:
            shown, floor = self._mixed(shown), self._mixed(floor)
        light = shown.sum(0)
        if len(encoding.weight_factors) == 1:
            signed, lone = shown[0] - floor, shown.new_zeros(scaled.shape[:-1])
        else:
            signed = shown[0] - shown[1]
            lone = optics.display.floor * signed.sum(-1)
        rounded = Bytes.of(light[0]) if static and len(light) == 1 and byte_products() else None
        return Weights(
            signed.contiguous(),
            light.contiguous(),
            planes,
            shown_mean,
            lone,
            light.mean(-1),
            scaled.clamp(-1, 1).sum(-1),
            rounded,
        )

    @property
    def widths(self) -> NDArray[np.int64]:
        """(T,) columns of each column tile."""
        return np.diff(self.columns)

    def bled_sum(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) sums of inputs (n, K) after the bleed that the calibration knows."""
        channel = self._optics.channel
        total = inputs.sum(1)
        if channel is not None and channel.bleed.any():
            first, last = inputs[:, self.columns[:-1]], inputs[:, self.columns[1:] - 1]
            total = total - channel.bleed[1] * first.sum(1) - channel.bleed[0] * last.sum(1)
        return np.asarray(total, np.float32)

    def _tiled(self, values: NDArray[np.float64], k: int | None = None) -> NDArray[np.float64]:
        """Bench-sized ``values`` under every element of the matrix, or under its rows if ``k`` is 1."""
        columns = self.columns if k is None else np.array([0, k])
        r, c = (np.concatenate([np.arange(b - a) for a, b in pairwise(e)]) for e in (self.rows, columns))
        return np.ascontiguousarray(values[np.ix_(r, c)])

    def _unmixing(self, channel: Channel) -> NDArray[np.float32]:
        """(2r + 1, M) inverse of each row tile's crosstalk matrix, by diagonals."""
        m = self.shape[0]
        inverse = np.zeros((m, m)) if channel.crosstalk.any() else np.eye(m)
        if channel.crosstalk.any():
            for a, b in pairwise(self.rows):
                above, below = channel.crosstalk[: b - a].T
                inverse[a:b, a:b] = np.linalg.inv(np.eye(b - a) + np.diag(above[1:], -1) + np.diag(below[:-1], 1))
        i, j = np.nonzero(np.abs(inverse) > FAR)
        radius = int(np.abs(i - j).max())
        taps = np.zeros((2 * radius + 1, m), np.float32)
        taps[j - i + radius, i] = inverse[i, j]
        return taps

    def _before_bleed(self, scaled: Tensor) -> Tensor:
        """Weights that after the bleed are ``scaled``, column tile by column tile."""
        channel = self._optics.channel
        if channel is None or not channel.bleed.any():
            return scaled
        w = scaled.double().numpy().copy()
        for a, b in pairwise(self.columns):
            w[..., a:b] = undo_bleed(channel.bleed, w[..., a:b])
        return torch.from_numpy(w)

    def _bled(self, light: Tensor) -> Tensor:
        """Light (B, M, K) per unit of each input when inputs spill over."""
        assert self._bleed is not None
        kept, left, right = self._bleed
        out: Tensor = light * kept
        out[..., 1:] += light[..., :-1] * left[1:]
        out[..., :-1] += light[..., 1:] * right[:-1]
        return out

    def _mixed(self, light: Tensor) -> Tensor:
        """Light (B, M, K) that regions collect when outputs spill over."""
        assert self._crosstalk is not None
        above, below = self._crosstalk[:, :, None]
        out = light.clone()
        out[..., 1:, :] += above[1:] * light[..., :-1, :]
        out[..., :-1, :] += below[:-1] * light[..., 1:, :]
        return out

    def _plane_means(self, shown: Tensor) -> Tensor:
        """(P, B, M, K) to (B, R, P, T) means over tiles."""
        rows = [shown[..., a:b, :].mean(-2) for a, b in pairwise(self.rows)]
        tiles = [torch.stack([r[..., a:b].mean(-1) for r in rows]) for a, b in pairwise(self.columns)]
        return torch.stack(tiles).permute(3, 1, 2, 0)  # (T, R, P, B) to (B, R, P, T)


@lru_cache(1)
def byte_products() -> bool:
    """Does this processor multiply bytes faster than floats? (8-bit dot product instructions: AVX-512 VNNI.)"""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and supported is not None and bool(supported())
