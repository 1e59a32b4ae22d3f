"""Frames that a camera delivered twice or lost: from one row on, readings belong to the inputs of other rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations
from calibration.response.preview import Light, Preview, preview

Float = NDArray[np.float64]
Indices = NDArray[np.intp]

LAGS = (0, 1, -1, 2, -2, 3, -3)
FEWEST = 24  # rows in which a slip can be seen
SHORTEST = 4  # rows at another lag: fewer are single stale rows
WORST = 9.0  # mean square of a row beyond which it is simply wrong
WEIGHT = 4.0  # of a row's mean square
SWITCH = 60.0  # what a change of the lag costs
ROUNDS = 6
STEPS = 20_000  # blocks of rows in which the course of the lag is searched
UNEXPLAINED = 0.7  # of the spread of the readings: then the recording may be shifted as a whole
BETTER = 0.7  # of the mean square at lag 0: what a slip must leave in the rows that it moves


@dataclass(frozen=True)
class Slip:
    """From ``row`` on, readings come ``lag`` rows late (negative: early)."""

    row: int
    lag: int
    before: int

    @property
    def in_words(self) -> str:
        """``"from row 300 on the readings are 1 row late: a frame was delivered twice"``"""
        many = abs(self.lag)
        now = f"{many} row{'s' if many > 1 else ''} {'late' if self.lag > 0 else 'early'}" if self.lag else "in step"
        step = self.lag - self.before
        frames = "a frame was" if abs(step) == 1 else f"{abs(step)} frames were"
        why = f"{frames} delivered twice" if step > 0 else f"{frames} lost"
        return f"from row {self.row} on the readings are {now}: {why}"


def find_slips(
    observations: Observations, readings: Float, usable: NDArray[np.bool_], light: Light | None = None
) -> tuple[list[Slip], Indices, Preview]:
    """Slips of a recording, (n,) the row whose inputs each reading belongs to, and the line drawn with that.

    A row without such inputs has −1. A recording that is shifted as a whole is not mended: there is no row at which
    something happened, and the first look at it refuses it.
    """
    n = observations.count
    own = np.arange(n)
    plain = preview(observations, readings, usable, light=light)
    if n < FEWEST or usable.sum() < FEWEST:
        return [], own, plain
    lag, line = _start(observations, readings, usable, plain, light)
    for _ in range(ROUNDS):
        found = _without_short(_path(_costs(line, lag, readings, usable)))
        if (found == lag).all():
            break
        lag = found
        line = preview(observations, readings, usable, _source(lag), light)
    if not (lag != lag[0]).any() or not _worth(line, plain, lag, readings, usable):
        return [], own, plain
    edges = np.nonzero(np.diff(lag, prepend=0))[0]
    slips = [Slip(int(r), int(lag[r]), int(lag[r - 1]) if r else 0) for r in edges]
    return slips, _source(lag), line


def _start(
    observations: Observations, readings: Float, usable: NDArray[np.bool_], plain: Preview, light: Light | None
) -> tuple[Indices, Preview]:
    """The lag of the whole recording that explains most, where the rows as they stand explain little."""

    def misfit(line: Preview, source: Indices) -> float:
        left = np.abs(readings - line.at(source).mean)[usable & (source >= 0)]
        return float(np.mean(np.median(left, axis=0) / np.maximum(spread, 1e-300)))

    middle = np.median(readings[usable], axis=0)
    spread = np.median(np.abs(readings[usable] - middle), axis=0)
    own = np.zeros(len(readings), np.intp)
    best, least = (own, plain), misfit(plain, np.arange(len(readings)))
    if least < UNEXPLAINED:
        return best
    for step in LAGS[1:]:
        lag = np.full(len(readings), step)
        line = preview(observations, readings, usable, _source(lag), light)
        found = misfit(line, _source(lag))
        if found < BETTER * least:
            best, least = (lag, line), found
    return best


def _source(lag: Indices) -> Indices:
    """(n,) the row that each reading belongs to; of two readings of one row the first, −1 where there is none."""
    source = np.arange(len(lag)) - lag
    source[(source < 0) | (source >= len(lag))] = -1
    known = np.nonzero(source >= 0)[0]
    first = known[np.unique(source[known], return_index=True)[1]]
    only = np.full(len(lag), -1)
    only[first] = source[first]
    return only


def _costs(line: Preview, lag: Indices, readings: Float, usable: NDArray[np.bool_]) -> Float:
    """(n, lags) how badly each reading fits the inputs of the row at each lag; bounded."""
    n = len(readings)
    here = line.at(_source(lag)).score(readings)
    known = usable & np.isfinite(here)
    scale = max(float(np.median(here[known])), 1.0) if known.any() else 1.0
    costs = np.full((n, len(LAGS)), WORST * WEIGHT)
    for k, step in enumerate(LAGS):
        rows = np.arange(max(step, 0), n + min(step, 0))
        score = Preview(line.mean[rows - step], line.sd[rows - step]).score(readings[rows])
        costs[rows, k] = WEIGHT * np.minimum(score / scale, WORST)
    costs[~usable] = 0.0
    return costs


def _path(costs: Float) -> Indices:
    """(n,) the cheapest course of the lag (Viterbi), where every change costs `SWITCH`."""
    n = len(costs)
    size = -(-n // STEPS)
    starts = np.arange(0, n, size)
    blocks = np.add.reduceat(costs, starts, axis=0)
    total = blocks[0].copy()
    total[1:] += SWITCH
    came = np.zeros(blocks.shape, np.intp)
    here = np.arange(len(LAGS))
    for b in range(1, len(blocks)):
        cheapest = int(np.argmin(total))
        jump = total[cheapest] + SWITCH < total
        came[b] = np.where(jump, cheapest, here)
        total = np.where(jump, total[cheapest] + SWITCH, total) + blocks[b]
    at = int(np.argmin(total))
    of_block = np.empty(len(blocks), np.intp)
    for b in range(len(blocks) - 1, -1, -1):
        of_block[b] = at
        at = int(came[b, at])
    path = np.repeat(of_block, np.diff(np.append(starts, n)))
    for edge in starts[np.nonzero(np.diff(of_block, prepend=of_block[0]))[0]]:
        first, last = max(edge - 2 * size, 0), min(edge + 2 * size, n)
        old, new = path[edge - 1], path[edge]
        gain = np.concatenate([[0.0], np.cumsum(costs[first:last, old] - costs[first:last, new])])
        split = first + int(np.argmin(gain))
        path[first:split], path[split:last] = old, new
    return np.array(LAGS, np.intp)[path]


def _without_short(lag: Indices) -> Indices:
    """A few rows at another lag are single stale rows, not a slip."""
    lag = lag.copy()
    edges = [0, *(np.nonzero(np.diff(lag))[0] + 1), len(lag)]
    for start, stop in pairwise(edges):
        if stop - start < SHORTEST:
            lag[start:stop] = lag[start - 1] if start else (lag[stop] if stop < len(lag) else 0)
    return lag


def _worth(line: Preview, plain: Preview, lag: Indices, readings: Float, usable: NDArray[np.bool_]) -> bool:
    """Whether the rows that a slip moves fit much better than they do where they stand."""
    source = _source(lag)
    moved = usable & (lag != 0) & (source >= 0)
    if moved.sum() < SHORTEST:
        return False

    def misfit(expected: Float) -> float:
        return float(np.median(((readings - expected)[moved] ** 2).mean(axis=1)))

    return misfit(line.at(source).mean) < BETTER * min(misfit(line.mean), misfit(plain.mean))
