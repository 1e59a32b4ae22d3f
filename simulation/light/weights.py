"""Matrices on the SLM: cut into tiles, corrected for what the bench will do to them, shown, and seen by the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from torch import Tensor

from calibration.machine.channel import crosstalk_bands
from calibration.machine.encoding import SignSplit
from simulation.light.elements import Elements, show_signed, tile_moments
from simulation.light.few import BYTE, Held, Placed
from simulation.light.optics import Optics
from simulation.light.sharing import share_rows
from simulation.light.spill import Spill, by_diagonals, side_by_side

FAR = 1e-6  # of an output's own light: neighbours whose share in it is smaller are not unmixed


@dataclass(frozen=True)
class Weights:
    """B matrices (M, K) as the bench shows them, in units of the light of a full weight under a full input.

    Attributes
    ----------
    signed
        (B, M, K): what each element contributes to the signed sum of the passes; crosstalk and bleed are included.
    light
        (B, M, K): the light of each element, all weight passes together.
    planes
        (B, R, P, T): mean light of each of the P weight passes over the elements of row tile R and column tile T.
    scatter
        (B, R, P, T): how much that light varies from output to output within a row tile: the variance, averaged over
        the inputs; 0 where the source does not flicker, because nobody needs it then.
    columns
        (B, P, K): mean light of each weight pass over the outputs.
    lone
        (B, M): light that one input pass adds to the signed sum even where the input is zero, because the darkest level
        of the display still transmits (finite extinction). It cancels when both input passes are shown.
    mean_light
        (B, M): mean of ``light`` over the inputs.
    row_sum
        (B, M): sum of each row of the scaled matrix, as it was before it was shown; 0 where no digital sum needs it.
    bytes
        ``light`` rounded to bytes, of a single matrix that stays on the bench; None if products of bytes do not pay.
    """

    signed: Tensor
    light: Tensor
    planes: Tensor
    scatter: Tensor
    columns: Tensor
    lone: Tensor
    mean_light: Tensor
    row_sum: Tensor
    bytes: Bytes | None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(M, K)"""
        _, m, k = self.signed.shape
        return m, k

    @cached_property
    def brightness(self) -> NDArray[np.float32]:
        """(B,) means of ``mean_light``."""
        return np.asarray(self.mean_light.mean(1).numpy())

    @cached_property
    def held(self) -> Held:
        """All that a product of a few vectors takes of them."""
        found, (m, k) = self.bytes, self.shape
        values = np.empty((0, k), np.int8) if found is None else found.values.t().numpy()
        steps = (0.0,) * 4 if found is None else (found.step, found.mean, found.spread**2, found.error**2)
        signed = self.signed.numpy()
        return Held(
            signed,
            self.light.numpy(),
            np.arange(len(signed)),
            values,
            np.array(steps),
            self.brightness,
            self.mean_light.numpy(),
            self.lone.numpy(),
            self.planes.numpy(),
            self.scatter.numpy(),
            np.zeros((len(signed), m), np.float32),
        )

    @cached_property
    def halves(self) -> Tensor:
        """``light`` in bfloat16, made when it is first asked for."""
        return self.light.bfloat16()


@dataclass(frozen=True)
class Bytes:
    """A non-negative matrix rounded to whole steps, for products of bytes.

    Attributes
    ----------
    values
        (K, M) int8 numbers of steps.
    step
        The light of one step.
    mean
        Mean of the elements [steps].
    spread
        Rms of their deviations from the mean of each row [steps].
    error
        Rms of what rounding took away [steps].
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
    """Where matrices of one shape lie on the bench, and what the bench does to them there.

    Attributes
    ----------
    rows, columns
        (R + 1,), (T + 1,) edges of the tiles into which the matrix is cut.
    taps
        (2r + 1, M) weights with which each output's neighbours are added to undo the crosstalk within its row tile.
    offset
        (M,) by how much the offsets that are subtracted are wrong, in one pass over all column tiles [units of full
        light]; 0 if the bench is what its calibration says.
    stray
        (M,) light that the source sends past the modulators in one frame [units of full light].
    believed
        Where the light goes by the calibration; None without one.
    """

    def __init__(self, optics: Optics, shape: tuple[int, int]) -> None:
        m, k = shape
        self._optics, self.shape = optics, shape
        channel, actual = optics.channel, optics.actual
        tiles = [] if optics.layout is None else list(optics.layout.tiles(shape))
        self.rows = np.array(sorted({t.row0 for t in tiles} | {m}) if tiles else [0, m])
        self.columns = np.array(sorted({t.col0 for t in tiles} | {k}) if tiles else [0, k])
        self.taps = np.ones((1, m), np.float32)
        self.offset, self.stray = np.zeros((2, m), np.float32)
        self._flat = None
        self.believed = self._spill = None
        if channel is None or actual is None:
            return
        full = channel.gain_dn.min()
        self._flat = self._tiled(full / channel.gain_dn).astype(np.float32)
        tiles_of_rows = [_unmixing(channel.crosstalk[: b - a].tobytes()) for a, b in pairwise(self.rows)]
        self.taps = side_by_side(tiles_of_rows).astype(np.float32)
        self.believed = self._spill = Spill(channel, self.rows, self.columns, full)
        if actual is not channel:
            self._spill = Spill(actual, self.rows, self.columns, full)
        self.stray = self._tiled(actual.offset_dn[:, None] / full, k=1)[:, 0].astype(np.float32)
        wrong = self._tiled((actual.offset_dn - channel.offset_dn)[:, None] / full, k=1)[:, 0]
        radius = len(self.taps) // 2
        near = np.lib.stride_tricks.sliding_window_view(np.pad(wrong, radius), len(self.taps))  # (M, 2r + 1)
        self.offset = ((near * self.taps.T).sum(1) * (len(self.columns) - 1)).astype(np.float32)

    def show(self, scaled: Tensor, *, static: bool) -> Weights:
        """Show matrices (B, M, K) that are scaled to −1 … 1, and clip them there.

        ``static`` says that the matrix stays for many products, so that preparing it for them pays.
        """
        optics, encoding = self._optics, self._optics.encoding
        to_bytes = static and byte_products() and scaled.shape[-1] > 1  # of one input torch's are wrong
        if self.elements is not None:
            return self._at_once(scaled.contiguous().numpy(), self.elements, to_bytes=to_bytes)
        w = scaled.numpy()
        wanted: NDArray[Any] = np.clip(w, -1, 1) if self.believed is None else self.believed.to_show(w)
        parts = np.asarray(encoding.split_weight(wanted), np.float32)  # (P, …, M, K)
        shown = torch.from_numpy(optics.slm.show(parts, self._flat))
        return self._weights(scaled, shown, to_bytes=to_bytes)

    @cached_property
    def elements(self) -> Elements | None:
        """What is done to each element, where one compiled call does it: on a bench that shows each sign in a pass."""
        believed, spill, slm = self.believed, self._spill, self._optics.slm
        if self._optics.encoding.name != SignSplit.name or believed is None or spill is None or self._flat is None:
            return None
        if (taps := believed.unbled) is None or (shares := spill.shares) is None:
            return None
        return Elements(
            taps, self._flat, slm.levels, np.float32(1 - slm.floor), spill.gain, *shares, self.rows, self.columns
        )

    def _at_once(self, scaled: NDArray[np.float32], elements: Elements, *, to_bytes: bool) -> Weights:
        """`show` in one compiled call."""
        batch, m, k = scaled.shape
        tiles = batch, len(self.rows) - 1, 2, len(self.columns) - 1
        seen = np.empty((2, batch, m, k), np.float32)
        means, moments = np.empty((2, batch, m), np.float32), np.empty((2, *tiles), np.float32)
        columns, floor = np.empty((batch, 2, k), np.float32), np.float32(self._optics.display.floor)
        out = (seen[0], seen[1]), (means[0], means[1]), (moments[0], moments[1], columns)
        share_rows(show_signed, batch, m * k, scaled, elements, floor, *out)
        if not self._optics.flicker:
            moments[1] = 0
        (signed, light), (lone, mean_light), (planes, scatter) = (
            torch.from_numpy(each) for each in (seen, means, moments)
        )
        return Weights(
            signed,
            light,
            planes,
            scatter,
            torch.from_numpy(columns),
            lone,
            mean_light,
            torch.zeros_like(lone),
            Bytes.of(light[0]) if to_bytes and batch == 1 else None,
        )

    def _weights(self, scaled: Tensor, shown: Tensor, *, to_bytes: bool) -> Weights:
        """What transmissions (P, B, M, K) are worth, on whatever device they are."""
        optics = self._optics
        if self._spill is not None:
            shown = self._spill.light(shown)
        light = shown[0] + shown[1] if len(shown) == 2 else shown.sum(0)
        planes, scatter, by_column = self._moments(shown)
        one_sided = len(optics.encoding.weight_factors) == 1
        if one_sided:
            signed, lone = shown[0] - self._pedestal, shown.new_zeros(scaled.shape[:-1])
        else:
            signed = shown[0] - shown[1]
            lone = optics.display.floor * signed.sum(-1)
        return Weights(
            signed.contiguous(),
            light.contiguous(),
            planes,
            scatter if optics.flicker else torch.zeros_like(planes),
            by_column,
            lone,
            light.mean(-1),
            scaled.clamp(-1, 1).sum(-1) if one_sided else torch.zeros_like(lone),
            Bytes.of(light[0]) if to_bytes and len(light) == 1 else None,
        )

    @cached_property
    def _pedestal(self) -> Tensor:
        """Light that one pass has whatever it shows, (M, K) or one number, less what the digital sums do not know.

        With offset encoding the constant of the weights is subtracted digitally as it would look with common bleed and
        crosstalk; what single macropixels make of it is taken off here, under the same inputs.
        """
        floor = torch.full((), self._optics.slm.floor)
        if self._spill is None or self.believed is None:
            return floor
        pedestal = self._spill.light(floor)
        code, channel = self._optics.encoding, self._optics.channel
        if channel is None or channel.couplings is None:
            return pedestal
        ones = np.ones(self.shape)
        differs = torch.from_numpy(self.believed.seen(ones) - self._bled_ones).float()
        return pedestal - code.weight_constant / code.weight_factors[0] * (1 - floor) * differs

    @cached_property
    def placed(self) -> Placed:
        """All that a product of a few vectors takes of it."""
        return Placed(self.rows, self.columns, self.taps, self.stray)

    @property
    def widths(self) -> NDArray[np.int64]:
        """(T,) columns of each column tile."""
        return np.diff(self.columns)

    def bled_sum(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) sums of inputs (n, K) after the bleed that the calibration knows."""
        return np.asarray(inputs @ self._bled_ones, np.float32)

    @cached_property
    def _bled_ones(self) -> NDArray[np.float64]:
        """(K,) all ones, after the common bleed that the calibration knows."""
        ones, channel = np.ones(self.shape[1]), self._optics.channel
        if channel is not None:
            ones[self.columns[:-1]] -= channel.bleed[1]
            ones[self.columns[1:] - 1] -= channel.bleed[0]
        return ones

    def _tiled(self, values: NDArray[np.float64], k: int | None = None) -> NDArray[np.float64]:
        """Bench-sized ``values`` under every element of the matrix, or under its rows if ``k`` is 1."""
        columns = self.columns if k is None else np.array([0, k])
        r, c = (np.concatenate([np.arange(b - a) for a, b in pairwise(e)]) for e in (self.rows, columns))
        return np.ascontiguousarray(values[np.ix_(r, c)])

    def _moments(self, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`Weights.planes`, `Weights.scatter` and `Weights.columns` of light (P, B, M, K)."""
        passes, batch, _, k = shown.shape
        tiles = batch, len(self.rows) - 1, passes, len(self.columns) - 1
        planes, scatter = np.empty(tiles, np.float32), np.empty(tiles, np.float32)
        by_column = np.empty((batch, passes, k), np.float32)
        tile_moments(shown.numpy(), self.rows, self.columns, planes, scatter, by_column)
        return torch.from_numpy(planes), torch.from_numpy(scatter), torch.from_numpy(by_column)


@lru_cache(256)
def _unmixing(crosstalk: bytes) -> NDArray[np.float64]:
    """(2r + 1, M) inverse of the crosstalk matrix (M, 2) of a row tile, by diagonals."""
    bands = crosstalk_bands(np.frombuffer(crosstalk).reshape(-1, 2))
    return by_diagonals(solve_banded((1, 1), bands, np.eye(bands.shape[1])), FAR)


@lru_cache(1)
def byte_products() -> bool:
    """Does this processor multiply bytes faster than floats? (8-bit dot product instructions: AVX-512 VNNI.)"""
    supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and supported is not None and bool(supported())


@lru_cache(1)
def half_products() -> bool:
    """Does this processor multiply bfloat16 faster than floats? (AVX-512 BF16.)"""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())
