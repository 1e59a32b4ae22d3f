"""Recordings of several stretches: where lines of each stretch explain what one fit to all rows leaves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover
from calibration.response.parts import Mask, Parts, refined

Float = NDArray[np.float64]

CELLS = 24  # of a recording, between which a stretch may begin
MOST = 6  # stretches
ALIKE = 1.1  # by which the mean square may rise where two stretches have one line


def in_stretches(left: Leftover) -> Iterator[Parts]:
    """Three stretches or more with lines of their own, and those that are alike taken together.

    Lines are drawn through what the fit leaves, and through the readings themselves: a fit of curves and jumps that are
    not there leaves what no line explains.
    """
    for of, wide in ((left, False), (left, True), (left.unfitted, True)):
        edges = _best_edges(of, wide)
        if len(edges) < (4 if of is left else 3):  # two are found row by row (`calibration.response.parts.at_an_edge`)
            continue
        for k in range(1, len(edges) - 1):
            edges[k] = refined(of, edges[k], wide, edges[k - 1], edges[k + 1])
        groups = _taken_together(of, [_between(of, a, b) for a, b in pairwise(edges)], wide)
        found, whole = of.apart(groups, wide), of.apart((of.good,), wide)
        if found is not None and whole is not None and len(groups) > 1:
            share = (of.rms / left.rms) ** 2
            row = int(left.index[edges[1]]) if len(edges) == 3 else -1
            words = f"the rows from about {row} on" if row >= 0 else _in_words(left, groups, edges)
            yield Parts(words, groups, wide, found * share, whole * share, row, another=len(groups) == 2)


def _between(left: Leftover, start: int, stop: int) -> Mask:
    mask = np.zeros(len(left.index), bool)
    mask[start:stop] = True
    return mask


def _best_edges(left: Leftover, wide: bool) -> list[int]:
    """Where the stretches begin and the last one ends, by the cheapest division (dynamic programming) and its BIC."""
    n = len(left.index)
    cells = np.unique(n * np.arange(CELLS + 1) // CELLS)
    cost = _costs(left, cells, wide)
    best = [cost[0]]  # by the number of stretches: least cost of the rows up to each edge
    came: list[NDArray[np.intp]] = []
    for _ in range(1, MOST):
        every = best[-1][:, None] + cost
        came.append(np.argmin(every, axis=0))
        best.append(every.min(axis=0))
    values = left.outputs * int(left.good.sum())
    numbers = left.outputs * left.numbers(wide)
    bic = [values * np.log(max(float(b[-1]), 1e-300)) + (k + 1) * numbers * np.log(values) for k, b in enumerate(best)]
    at, edges = len(cells) - 1, [n]
    for k in range(int(np.argmin(bic)) - 1, -1, -1):
        at = int(came[k][at])
        edges.append(int(cells[at]))
    return [0, *reversed(edges)]


def _costs(left: Leftover, cells: NDArray[np.intp], wide: bool) -> Float:
    """(C + 1, C + 1) squares that lines through the rows from one edge to another leave; infinite of too few rows."""
    sums = _wide_sums(left, cells) if wide else _narrow_sums(left, cells)
    rows = np.concatenate([[0], np.cumsum(left.good)])[cells]
    count = len(cells)
    cost = np.full((count, count), np.inf)
    if wide and not left.suffices(int(left.good.sum()) // 3, wide):
        return cost
    for i in range(count - 1):
        ends = np.array([j for j in range(i + 1, count) if left.suffices(int(rows[j] - rows[i]), wide)], np.intp)
        if not len(ends):
            continue
        gram, right, square = (s[ends] - s[i] for s in sums)
        ridge = 1e-9 * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] / gram.shape[-1] + 1e-300
        solved = np.linalg.solve(gram + ridge * np.eye(gram.shape[-1]), right)
        explained = (right * solved).reshape(len(ends), -1).sum(1)
        cost[i, ends] = np.maximum(square.reshape(len(ends), -1).sum(1) - explained, 0.0)
    return cost


def _narrow_sums(left: Leftover, cells: NDArray[np.intp]) -> tuple[Float, Float, Float]:
    """Up to each edge, of each output: products of one and its signal, theirs with the residuals, and their squares."""
    good = left.good[:, None]
    e = np.where(good, left.error, 0.0)
    design = np.stack([np.where(good, 1.0, 0.0) * np.ones_like(e), np.where(good, left.signal, 0.0)], axis=-1)
    return (
        _up_to(design[..., :, None] * design[..., None, :], cells),
        _up_to((design * e[..., None])[..., None], cells),
        _up_to(e**2, cells),
    )


def _wide_sums(left: Leftover, cells: NDArray[np.intp]) -> tuple[Float, Float, Float]:
    """The same with one and every input, which all outputs have in common."""
    if left.inputs.shape[1] > len(left.index) // 3:
        nothing = np.zeros((len(cells), 1, 1))
        return nothing, nothing, nothing
    design, e = np.where(left.good[:, None], left.design, 0.0), np.where(left.good[:, None], left.error, 0.0)
    parts = [(design[a:b], e[a:b]) for a, b in pairwise(cells)]
    grams, rights = np.array([d.T @ d for d, _ in parts]), np.array([d.T @ r for d, r in parts])
    zero = np.zeros((1, *grams.shape[1:])), np.zeros((1, *rights.shape[1:]))
    return (
        np.concatenate([zero[0], np.cumsum(grams, axis=0)]),
        np.concatenate([zero[1], np.cumsum(rights, axis=0)]),
        _up_to(e**2, cells),
    )


def _up_to(values: Float, cells: NDArray[np.intp]) -> Float:
    """(C + 1, …) sums of the rows before each edge."""
    of_cell = np.add.reduceat(values, cells[:-1], axis=0)
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(of_cell, axis=0)])


def _taken_together(left: Leftover, groups: list[Mask], wide: bool) -> tuple[Mask, ...]:
    """Stretches of which those with the same lines are one; of two that are left then, the larger one first."""
    if len(groups) == 2:
        return tuple(groups)
    while len(groups) > 2:
        now = left.apart(groups, wide)
        if now is None:
            break
        tried = []
        for i, j in combinations(range(len(groups)), 2):
            merged = [*(g for k, g in enumerate(groups) if k not in (i, j)), groups[i] | groups[j]]
            found = left.apart(merged, wide)
            if found is not None:
                tried.append((float((found / now).max()), i, j))
        worst, i, j = min(tried)
        if worst > ALIKE:
            break
        groups = [*(g for k, g in enumerate(groups) if k not in (i, j)), groups[i] | groups[j]]
    return tuple(sorted(groups, key=lambda g: -int(g.sum())))


def _in_words(left: Leftover, groups: tuple[Mask, ...], edges: list[int]) -> str:
    """Which rows are apart, as the subject of a sentence."""
    if len(groups) == 2:
        at = np.nonzero(np.diff(groups[1].astype(int), prepend=0, append=0))[0].reshape(-1, 2)
        spans = [f"{left.index[a]} to {left.index[b - 1]}" for a, b in at]
        return f"rows {' and '.join(spans)} (about)"
    starts = [str(int(left.index[e])) for e in edges[1:-1]]
    return f"the rows up to those from about {', '.join(starts[:-1])} and {starts[-1]} on"
