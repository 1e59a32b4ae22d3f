"""Recordings of two benches in one: rows of which a part follows other gains than the rest, and how these differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.response.leftover import Leftover, least_squares

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

PERIODS = (2, 3, 4)
EDGES = 16  # places at which a recording may change
MOST_STARTS = 6  # stretches from which two lines through all rows are looked for
ROUNDS = 12
HOPELESS = (3, 0.7)  # rounds after which two lines must leave less than this share of the squares
LEAST = 0.1  # share of the rows in the smaller part
PURE = 0.95  # of the rows on the right side of an edge
MOST_LEFT = 0.15  # of the mean square, where rows may choose the better of two lines
MOVED = 0.3  # of the square that is left where outputs or inputs change places
CHOSEN = 0.15  # share of the variance of which line a row is near that its inputs explain
LONG_RUN = 4.0  # rows: shorter runs of one part are single rows


@dataclass(frozen=True)
class Parts:
    """A recording in parts, each with lines of its own.

    Attributes
    ----------
    words
        Which rows are apart, as the subject of a sentence.
    groups
        (n,) masks of the parts.
    wide
        Whether every input has a slope of its own in each.
    left, before
        (M,) of the mean square of what the fit leaves [1]: beside lines of each part, and beside lines of all rows.
    edge
        Row in the recording where the second part begins; −1 where the parts alternate.
    another
        Whether the second part is another bench amid the rows of the first.
    """

    words: str
    groups: tuple[Mask, ...]
    wide: bool
    left: Float
    before: Float
    edge: int = -1
    another: bool = False


def in_turn(left: Leftover) -> Iterator[Parts]:
    """Rows that take turns: odd and even ones, every third."""
    for period in PERIODS:
        groups = tuple(left.index % period == k for k in range(period))
        words = "odd and even rows" if period == 2 else f"every {'third' if period == 3 else 'fourth'} row"
        yield from _apart(left, words, groups)


def at_an_edge(left: Leftover) -> Iterator[Parts]:
    """Rows before and after the place that divides them best."""
    n = len(left.index)
    for wide in (False, True):
        tried = []
        for k in range(1, EDGES):
            edge = n * k // EDGES
            second = np.arange(n) >= edge
            found = left.apart((~second, second), wide)
            if found is not None:
                tried.append((float(np.min(found)), edge))
        if not tried:
            continue
        _, edge = min(tried)
        edge = refined(left, edge, wide, 0, n)
        second = np.arange(n) >= edge
        row = int(left.index[min(edge, n - 1)])
        yield from _apart(left, f"the rows from about {row} on", (~second, second), (wide,), row)


def refined(left: Leftover, edge: int, wide: bool, start: int, stop: int) -> int:
    """The place near ``edge`` that divides the rows ``start … stop`` best, by lines through those on either side."""
    at = np.arange(len(left.index))
    sides = ((at >= start) & (at < edge), (at >= edge) & (at < stop))
    costs = [(left.beside(own & left.good, wide) ** 2).sum(axis=1) for own in sides]
    better = np.where(left.good, costs[0] - costs[1], 0.0)[start:stop]
    return start + int(np.argmin(np.append(0.0, np.cumsum(better))))


def _apart(
    left: Leftover, words: str, groups: tuple[Mask, ...], wides: tuple[bool, ...] = (False, True), edge: int = -1
) -> Iterator[Parts]:
    for wide in wides:
        found, whole = left.apart(groups, wide), left.apart((left.good,), wide)
        if found is not None and whole is not None:
            yield Parts(words, groups, wide, found, whole, edge)


def of_either_line(left: Leftover) -> Iterator[Parts]:
    """Rows that follow one or the other of two lines, whichever fits them better."""
    for wide in (False, True):
        best: tuple[float, Mask] | None = None
        for start in starts(left, wide):
            found = _two_lines(left, start, wide)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
                if best[0] < MOST_LEFT:
                    break
        if best is None or best[0] > MOST_LEFT:
            continue
        second = best[1]
        if (second & left.good).sum() > (~second & left.good).sum():
            second = ~second
        if not follows_inputs(left, second):
            words, edge = _where(left, second)
            yield from _apart(left, words, (~second, second), (wide,), edge)


def follows_inputs(left: Leftover, second: Mask) -> bool:
    """Whether it is the inputs that decide which line a row is near: then it is a curve, not another bench."""
    good = left.good
    columns = [left.signal, left.signal**2]
    if left.suffices(int(good.sum()), wide=True):  # what is expected holds the drift, too; the inputs do not
        x = left.design[:, 1:]
        columns = [x, x**2, (x.sum(axis=1) ** 2)[:, None]]
    design = np.concatenate([np.ones((len(good), 1)), *map(left.scaled, columns)], axis=1)[good]
    label = second[good].astype(np.float64)
    rest = label[:, None] - label.mean()
    after = rest - design @ least_squares(design, rest)
    freedom = max(len(label) - design.shape[1], 1)
    return bool((after**2).sum() / freedom < (1 - CHOSEN) * (rest**2).sum() / len(label))


def starts(left: Leftover, wide: bool) -> Iterator[Mask]:
    """Few rows that may belong to one bench: consecutive ones, every second one, and all of them."""
    if not left.suffices(int(left.good.sum()) // 3, wide):
        return
    good = np.nonzero(left.good)[0]
    long = 2 * left.numbers(wide) + 4
    for step in (1, 2):
        places = np.linspace(0, max(len(good) - step * long, 0), MOST_STARTS).astype(int)
        for place in np.unique(places):
            own = np.zeros(len(left.index), bool)
            own[good[place : place + step * long : step]] = True
            yield own
    yield left.good


def _two_lines(left: Leftover, start: Mask, wide: bool) -> tuple[float, Mask] | None:
    """Mean square left by the better of two lines, and which rows follow the second; None where there are not two."""
    good, least = left.good, LEAST * left.good.sum()
    first = (left.beside(start, wide) ** 2).sum(axis=1)
    second = good & (first > np.median(first[good]))
    worst = HOPELESS[1] * float((left.error[good] ** 2).sum())
    for i in range(ROUNDS):
        own = good & ~second
        rows = sorted((int(own.sum()), int((second & good).sum())))
        if rows[0] < least or not left.suffices(rows[0], wide):
            return None
        one, two = ((left.beside(o, wide) ** 2).sum(axis=1) for o in (own, second & good))
        fresh = two < one
        if (fresh == second)[good].all() or (i == HOPELESS[0] and np.minimum(one, two)[good].sum() > worst):
            break
        second = fresh & good
    freedom = left.outputs * max(int(good.sum()) - 2 * left.numbers(wide), 1)
    return float(np.minimum(one, two)[good].sum() / freedom), fresh


def _where(left: Leftover, second: Mask) -> tuple[str, int]:
    """Which rows ``second`` (n,) are, in words, and where they begin if they are the end of the recording."""
    at = np.nonzero(left.good)[0]
    labels = second[at]
    many, n = int(labels.sum()), len(labels)
    for side in (labels, ~labels):
        wrong = np.append(0, np.cumsum(side)) + np.append(np.cumsum(~side[::-1])[::-1], 0)
        cut = int(np.argmin(wrong))
        if 0 < cut < n and wrong[cut] < (1 - PURE) * min(many, n - many):
            row = int(left.index[at[cut]])
            return f"the rows from about {row} on", row
    share = f"{100 * many / n:.0f} % of the rows"
    runs = int((np.diff(labels.astype(int), prepend=0) == 1).sum())
    if many / max(runs, 1) >= LONG_RUN:
        return f"{share}, in stretches of about {many / max(runs, 1):.0f},", -1
    return f"{share}, here and there,", -1


def difference(left: Leftover, parts: Parts) -> tuple[str, str]:
    """How the second of two parts differs from the first, and what to do about it; empty where it is another bench."""
    if len(parts.groups) != 2:
        return "", ""
    one, two = (group & left.good for group in parts.groups)
    outputs = _moved(_cross_outputs(left, one, two, parts.wide)) if left.outputs > 1 else []
    if outputs:
        what = f"outputs {_listed([int(left.names[m]) for m in outputs])} change places"
        return what, "exchange these columns of the readings there (or record again)"
    if parts.wide:
        gains = [_gains(left, own) for own in (one, two)]
        inputs = _moved(((gains[0].T[:, None] - gains[1].T[None]) ** 2).sum(axis=2))
        if inputs:
            return f"inputs {_listed(inputs)} change places", "exchange these columns of the inputs there"
    else:
        change = _gain_change(left, one, two)
        spread = float(np.ptp(change))
        if spread < 0.3 * float(np.abs(change).mean()):
            return f"all gains change by {100 * float(change.mean()):+.1f} %", ""
        worst = int(np.argmax(np.abs(change)))
        return f"gains of single outputs change, that of output {left.names[worst]} by {100 * change[worst]:+.1f} %", ""
    return "", ""


def _cross_outputs(left: Leftover, one: Mask, two: Mask, wide: bool) -> Float:
    """(M, M) mean square of what each reading of the second part is off what the first expects of each output."""
    middle = float(left.readings[left.good].mean())
    seen = left.readings[two] - middle
    expected = (left.readings - left.beside(one, wide) * left.rms)[two] - middle
    square = (seen**2).mean(axis=0) - 2 * expected.T @ seen / len(seen) + (expected**2).mean(axis=0)[:, None]
    return np.asarray(np.maximum(square, 0.0) / left.rms**2)


def _moved(cost: Float) -> list[int]:
    """Columns that change places: the assignment of least cost, where it explains nearly all that is off."""
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    away = [int(i) for i, j in zip(rows, columns, strict=True) if i != j]
    if not away:
        return []
    before, after = float(np.diag(cost)[away].sum()), float(cost[rows, columns][away].sum())
    return away if after < MOVED * before else []


def _gains(left: Leftover, own: Mask) -> Float:
    """(M, N) slope of each reading by each input, in spreads of the input, over what the outputs leave."""
    values = left.readings[own] / left.rms
    return least_squares(left.design[own], values - values.mean(axis=0))[1:].T


def _gain_change(left: Leftover, one: Mask, two: Mask) -> Float:
    """(M,) relative change of the slope of the readings over what the fit expects."""
    slopes = []
    for own in (one, two):
        s = left.signal[own] - left.signal[own].mean(axis=0)
        y = left.readings[own] - left.readings[own].mean(axis=0)
        slopes.append((s * y).sum(axis=0) / np.maximum((s**2).sum(axis=0), 1e-300))
    return np.asarray(slopes[1] / slopes[0] - 1)


def _listed(places: list[int]) -> str:
    return " and ".join(map(str, places)) if len(places) == 2 else ", ".join(map(str, places))
