"""`simulation.light.detection` in tensors: from light to counts to numbers, for some rows of a product at a time.

`survey` and `read_rows` are functions of tensors without branches on their values, so that `torch.compile` makes one
kernel of each; only `few_counts` looks at values, and is left out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from simulation.light.detection import FEW_COUNTS, VISIBLE_LATTICE
from simulation.light.tensors.randomness import normals, poisson, words

_FEW, _LATTICE = float(FEW_COUNTS), float(VISIBLE_LATTICE)


class Rows(NamedTuple):
    """What each of n products needs: `simulation.light.detection.Products`, (n, 1) float32 each, and its counters.

    Attributes
    ----------
    first, stream
        int32: first counter of the row's random numbers, and its second word.
    """

    electrons: Tensor
    even_light: Tensor
    read: Tensor
    unit: Tensor
    term: Tensor
    factor: Tensor
    sign: Tensor
    first: Tensor
    stream: Tensor


class Columns(NamedTuple):
    """What each output adds: `simulation.light.detection.Outputs`; the first three (n, M), or (1, M) of one matrix."""

    mean_light: Tensor
    lone: Tensor
    digital: Tensor
    bias: Tensor
    stray: Tensor
    taps: Tensor


@dataclass(frozen=True)
class How:
    """What is known of all rows before they are computed.

    Attributes
    ----------
    tiles
        First output of each row tile, and the end.
    one_sided, step, limit
        As in `simulation.light.detection.Reading`.
    draws
        Whether there is noise at all.
    whole
        Whether some rows are drawn as whole counts.
    apart
        Whether some of these have read noise beside them.
    """

    tiles: tuple[int, ...]
    one_sided: bool
    step: float
    limit: float
    draws: bool = False
    whole: bool = False
    apart: bool = False


def survey(light: Tensor | None, rows: Rows, columns: Columns) -> tuple[Tensor, Tensor]:
    """(n,) detected electrons; and whether some outputs have few counts, whole ones, and read noise beside these."""
    counts, shot = _expect(light, rows, columns), rows.electrons > 0
    few = ((counts < _FEW) & shot).any(1, keepdim=True)
    whole = few | (shot & (rows.read < _LATTICE))
    return counts.sum(1), torch.stack([few.any(), whole.any(), (whole & (rows.read > 0)).any()])


def read_rows(
    signal: Tensor,
    light: Tensor | None,
    rows: Rows,
    columns: Columns,
    flicker: Tensor | None,
    key: Tensor,
    counted: Tensor | None,
    how: How,
) -> Tensor:
    """The numbers that come of expectations (n, M).

    Parameters
    ----------
    signal, light
        (n, M), as in `simulation.light.detection.detect`; no light where it follows from the rows' means.
    flicker
        (n, R, 3) or None.
    key
        (2,) int32.
    counted
        Of `few_counts`; None where no output has few.
    """
    row = signal.float()
    if how.draws:
        row = _draw(row, light, rows, columns, flicker, key, counted, how)
    if len(columns.taps) > 1:
        radius = len(columns.taps) // 2
        padded = torch.nn.functional.pad(row, (radius, radius))
        row = sum(tap * padded[:, j : j + signal.shape[1]] for j, tap in enumerate(columns.taps))
    row = row * rows.unit + (rows.term + rows.factor * columns.digital + columns.bias)
    if how.step:
        top = float(int(how.limit / how.step + 0.5))
        row = (row * (1 / how.step) + 0.5).floor().clamp(-top, top) * how.step
    return row


def few_counts(
    signal: Tensor, light: Tensor | None, rows: Rows, columns: Columns, flicker: Tensor | None, key: Tensor, how: How
) -> Tensor:
    """(n, M): the difference of two Poisson counts where few are expected, NaN elsewhere."""
    counts, e = _expect(light, rows, columns), _electrons(rows)
    row = signal.float() if flicker is None else _flicker(signal.float(), counts / e, flicker, how.tiles)
    few = (counts < _FEW) & (rows.electrons > 0)
    third = _third(row * e, counts, e, rows, columns, how)[few]
    number = torch.arange(signal.shape[1], dtype=torch.int32, device=signal.device)
    up, down = words(key, (2 * rows.first + number)[few], (rows.stream | 2).expand_as(few)[few])
    found = torch.full_like(row, torch.nan)
    plus, minus = ((0.5 * (counts[few] + side)).clamp_min(0) for side in (third, -third))
    found[few] = (poisson(plus, up) - poisson(minus, down)).float()
    return found


def _draw(
    row: Tensor,
    light: Tensor | None,
    rows: Rows,
    columns: Columns,
    flicker: Tensor | None,
    key: Tensor,
    counted: Tensor | None,
    how: How,
) -> Tensor:
    """Rows with their noise; those without any, dark ones and those of NaN among them, stay as they are."""
    counts, e, read, before = _expect(light, rows, columns), _electrons(rows), rows.read, row
    shot, size = rows.electrons > 0, row.shape[1]
    if flicker is not None:
        row = _flicker(row, counts / e, flicker, how.tiles)
    mean = row * e
    third = torch.where(shot, _third(mean, counts, e, rows, columns, how), 0.0)
    whole = shot & (read < _LATTICE)
    if counted is not None:
        whole = whole | ((counts < _FEW) & shot).any(1, keepdim=True)
    variance, fourth, centre = (counts + read).clamp_min(1e-30), counts, mean
    if how.whole:  # with the uniform distribution that rounding takes away
        variance = torch.where(whole, counts + 1 / 12, variance)
        fourth = torch.where(whole, counts - 1 / 120, fourth)
        centre = torch.where(whole, third, centre)
    root = 1 / variance.sqrt()
    square = root * root
    deviate = normals(key, rows.first, rows.stream, size)
    drawn = _bent(deviate, centre, variance * root, third * square * root, fourth * square * square)
    if how.whole:
        counts = (drawn + 0.5).floor()
        if counted is not None:
            counts = torch.where(counted.isnan(), counts, counted)
        counts = counts - third + mean
        if how.apart:
            counts = counts + read.sqrt() * normals(key, rows.first, rows.stream | 1, size)
        drawn = torch.where(whole, counts, drawn)
    drawn = drawn / e
    if flicker is not None:
        drawn = drawn + _over(flicker[..., 2], how.tiles) * columns.stray
    return torch.where(shot | (read > 0), drawn, before)


def _expect(light: Tensor | None, rows: Rows, columns: Columns) -> Tensor:
    """(n, M) expected counts of all passes together; 0 without shot noise."""
    seen = rows.even_light * columns.mean_light if light is None else light.float()
    return (seen * rows.electrons).clamp_min(0)


def _electrons(rows: Rows) -> Tensor:
    """Counts per unit of light; 1 where nothing is counted."""
    return torch.where(rows.electrons > 0, rows.electrons, 1.0)


def _third(mean: Tensor, counts: Tensor, e: Tensor, rows: Rows, columns: Columns, how: How) -> Tensor:
    """Third cumulant of the counts: those that count positive less the others."""
    return counts.expand_as(mean) if how.one_sided else mean + rows.sign * columns.lone * e


def _bent(z: Tensor, mean: Tensor, sigma: Tensor, skewness: Tensor, fourth: Tensor) -> Tensor:
    """`simulation.light.detection.bent`."""
    square = z * z
    tail = fourth * (1 / 24) * (square - 3) - skewness * skewness * (1 / 36) * (2 * square - 5)
    return mean + sigma * (z + skewness * (1 / 6) * (square - 1) + z * tail)


def _flicker(row: Tensor, bright: Tensor, flicker: Tensor, tiles: tuple[int, ...]) -> Tensor:
    """Brighten the passes of each row tile that count positive and those that count negative, each by its own."""
    up, down = _over(flicker[..., 0], tiles), _over(flicker[..., 1], tiles)
    return row + 0.5 * (up * (bright + row) - down * (bright - row))


def _over(values: Tensor, tiles: tuple[int, ...]) -> Tensor:
    """(n, R) to the outputs of each row tile: (n, M), or (n, 1) of a single tile."""
    if len(tiles) == 2:
        return values
    parts = [values[:, r : r + 1].expand(-1, b - a) for r, (a, b) in enumerate(pairwise(tiles))]
    return torch.cat(parts, 1)
