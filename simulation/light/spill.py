"""Where the light of each macropixel comes from and goes to: its own and neighbouring inputs, and outputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from torch import Tensor

from calibration.machine.channel import COMPENSATION_ROUNDS, Channel, crosstalk_bands, undo_bleed
from simulation.light.elements import spill_over, weigh_and_clip, weigh_neighbours

Float = NDArray[np.float64]
Edges = NDArray[np.int64]

NOTHING = 1e-12
"""Of a macropixel's own light: neighbours whose share in it is smaller are not unmixed."""


class Spill:
    """A channel's gain, bleed and crosstalk under every element of a tiled matrix.

    Bleed and crosstalk are the same for all macropixels of a column and of a row, or each macropixel has its own
    (`calibration.machine.channel.Couplings`). Tiles are in different frames: nothing goes from one to another.

    Parameters
    ----------
    channel
        Of the bench.
    rows, columns
        (R + 1,), (T + 1,) edges of the tiles.
    full
        Light of a full weight [DN].
    """

    def __init__(self, channel: Channel, rows: Edges, columns: Edges, full: float) -> None:
        self._channel, self._rows, self._columns = channel, rows, columns
        self._single = channel.couplings is not None
        self._gain = self._under(channel.gain_dn / full)
        if c := channel.couplings:
            before, after = self._under(c.before), self._under(c.after)
            above, below = self._under(c.above), self._under(c.below)
        else:
            before, after = (torch.full((1, int(columns[-1])), share) for share in channel.bleed)
            above, below = (self._under(share, (0,)) for share in _by_source(channel.crosstalk))
        kept = 1 - before - after
        before[:, columns[:-1]] = after[:, columns[1:] - 1] = 0.0
        above[rows[:-1]] = below[rows[1:] - 1] = 0.0
        bleeds, mixes = bool(before.any() or after.any()), bool(above.any() or below.any())
        self._bleed: tuple[Tensor, ...] | None = (torch.as_tensor(kept), before, after) if bleeds else None
        self._crosstalk: tuple[Tensor, ...] | None = (above, below) if mixes else None
        self._rest: Tensor | float = 0.0
        if c := channel.couplings:
            floor = torch.full((), c.dark_transmission)
            self._rest = self._under(c.dark_dn / full) - self.fold(floor * self._gain)

    def light(self, shown: Tensor) -> Tensor:
        """Light (…, M, K) by output and input, in units of ``full``, of transmissions (…, M, K)."""
        if self._single or shown.device.type != "cpu":
            return self.fold(shown * self._gain) + self._rest
        shown = shown.expand(np.broadcast_shapes(shown.shape, self._gain.shape))
        m, k = self._gain.shape
        out = np.empty(shown.shape, np.float32)
        gain, transmissions = self._gain.numpy(), np.ascontiguousarray(shown.numpy())
        spill_over(transmissions.reshape(-1, m, k), gain, *self._shares, out.reshape(-1, m, k))
        return torch.from_numpy(out)

    @property
    def gain(self) -> NDArray[np.float32]:
        """(M, K) light of each macropixel at full transmission, in units of ``full``."""
        return np.asarray(self._gain.numpy())

    @property
    def unbled(self) -> Float | None:
        """(2r + 1, K) by which weights and their neighbours make what is to be shown; None if more is to be undone."""
        return None if self._single else self._unbled

    @property
    def shares(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """What neighbouring outputs (2, M) and inputs (3, K) get; None where each macropixel has its own."""
        return None if self._single else self._shares

    @cached_property
    def _shares(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        m, k = self._gain.shape
        outputs, inputs = np.zeros((2, m), np.float32), np.zeros((3, k), np.float32)
        inputs[0] = 1
        if self._crosstalk is not None:
            outputs[:] = torch.stack(self._crosstalk)[..., 0].numpy()
        if self._bleed is not None:
            inputs[:] = torch.stack(self._bleed)[:, 0].numpy()
        return outputs, inputs

    def compensate(self, weight: Float) -> Float:
        """`calibration.machine.channel.Channel.compensate` of weights (…, M, K), tile by tile."""
        light = self._without_bleed(weight)
        if self._single:
            for _ in range(COMPENSATION_ROUNDS):
                light = light + self._without_bleed(weight - self.seen(light))
        return light

    def to_show(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """`compensate` of weights (…, M, K), clipped to the −1 … 1 that a panel can show."""
        if self._single:
            return np.clip(self.compensate(weight.astype(np.float64)), -1, 1).astype(np.float32)
        out, k = np.empty(weight.shape, np.float32), weight.shape[-1]
        weigh_and_clip(np.ascontiguousarray(weight).reshape(-1, k), self._unbled, out.reshape(-1, k))
        return out

    def seen(self, light: Float) -> Float:
        """What the unmixed outputs see of the macropixels' ``light`` (…, M, K), by input."""
        seen = self.fold(torch.from_numpy(light)).double().numpy()
        for a, b in pairwise(self._rows):
            bands = crosstalk_bands(self._channel.crosstalk[: b - a])
            part = np.moveaxis(seen[..., a:b, :], -2, 0)
            unmixed = solve_banded((1, 1), bands, part.reshape(b - a, -1)).reshape(part.shape)
            seen[..., a:b, :] = np.moveaxis(unmixed, 0, -2)
        return seen

    def to(self, device: torch.device) -> Spill:
        """The same on another device, for `light`."""
        moved = copy.copy(self)
        moved._gain = self._gain.to(device)
        moved._rest = self._rest.to(device) if isinstance(self._rest, Tensor) else self._rest
        moved._bleed = None if self._bleed is None else tuple(each.to(device) for each in self._bleed)
        moved._crosstalk = None if self._crosstalk is None else tuple(each.to(device) for each in self._crosstalk)
        return moved

    def _without_bleed(self, weight: Float) -> Float:
        """Weights that after the common bleed are ``weight``."""
        out = np.empty(weight.shape)
        k = weight.shape[-1]
        weigh_neighbours(np.ascontiguousarray(weight).reshape(-1, k), self._unbled, out.reshape(-1, k))
        return out

    @cached_property
    def _unbled(self) -> Float:
        """(2r + 1, K) what undoes the common bleed within each column tile: its inverse, by diagonals."""
        return side_by_side([_unbled(tuple(self._channel.bleed), int(b - a)) for a, b in pairwise(self._columns)])

    def fold(self, light: Tensor) -> Tensor:
        """Light of macropixels (…, M, K), by the output that collects it and the input that it comes from."""
        if self._bleed is None:
            return self._collected(light)
        if self._single:
            own, before, after = (self._collected(light * share) for share in self._bleed)
        else:
            light = self._collected(light)
            own, before, after = (light * share for share in self._bleed)
        own[..., :-1] += before[..., 1:]
        own[..., 1:] += after[..., :-1]
        return own

    def _collected(self, light: Tensor) -> Tensor:
        """Light that regions collect when outputs spill over."""
        if self._crosstalk is None:
            return light
        above, below = self._crosstalk
        out = light.clone()
        out[..., :-1, :] += above[1:] * light[..., 1:, :]
        out[..., 1:, :] += below[:-1] * light[..., :-1, :]
        return out

    def _under(self, values: Float, axes: tuple[int, ...] = (0, 1)) -> Tensor:
        """Bench-sized ``values`` under every element of the matrix, along some axes."""
        for axis in axes:
            edges = (self._rows, self._columns)[axis]
            values = np.take(values, np.concatenate([np.arange(b - a) for a, b in pairwise(edges)]), axis)
        return torch.from_numpy(np.ascontiguousarray(values)).float()


def _by_source(crosstalk: Float) -> tuple[Float, Float]:
    """(M, 1) each: shares of a row's light that the outputs before and after it collect."""
    above, below = np.zeros((len(crosstalk), 1)), np.zeros((len(crosstalk), 1))
    above[1:, 0], below[:-1, 0] = crosstalk[:-1, 1], crosstalk[1:, 0]
    return above, below


@lru_cache(256)
def _unbled(bleed: tuple[float, float], k: int) -> Float:
    """(2r + 1, K) what undoes the common ``bleed`` within one column tile."""
    return by_diagonals(undo_bleed(np.array(bleed), np.eye(k)).T, NOTHING)


def by_diagonals(matrix: Float, least: float) -> Float:
    """(2r + 1, N) the diagonals of a matrix (N, N), as far from the middle as there are elements above ``least``."""
    i, j = np.nonzero(np.abs(matrix) > least)
    radius = int(np.abs(i - j).max())
    taps = np.zeros((2 * radius + 1, len(matrix)))
    taps[j - i + radius, i] = matrix[i, j]
    return taps


def side_by_side(tiles: Sequence[Float]) -> Float:
    """(2r + 1, N) diagonals of matrices that lie one after the other."""
    radius = max(len(each) // 2 for each in tiles)
    return np.concatenate([np.pad(each, ((radius - len(each) // 2,) * 2, (0, 0))) for each in tiles], 1)
