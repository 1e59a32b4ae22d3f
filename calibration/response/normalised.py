"""Readings of which each row was divided by a number of its own, or had one taken off: their sum, their largest …"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.leftover import Explained, Leftover, least_squares
from calibration.response.observations import Observations
from calibration.response.residuals import columns

Float = NDArray[np.float64]

FEWEST = 3  # outputs
SAME = 0.1  # of the spread that rows of independent outputs would have
EXACTLY = 1e-5  # of that spread, or of the number itself
NEARLY_ALL = 0.98  # of the rows
ALONE = 0.8  # of the rows, in which one output alone is the largest
SHARED = 0.01  # of the rows, in which each of two outputs at least is the largest
ROUNDS = 3
VARIES = 2.0  # %, by which a number that rows were divided by does at least


@dataclass(frozen=True)
class Figure:
    """What may be the same in every row: its name, what it is of rows (n, M), and whether it is read by one output."""

    words: str
    of: Callable[[Float], Float]
    is_extreme: bool = False


FIGURES = (
    Figure("the outputs of every row add up to the same", lambda y: np.asarray(y.sum(axis=1))),
    Figure("the largest output of every row reads the same", lambda y: np.asarray(y.max(axis=1)), True),
    Figure("the smallest output of every row reads the same", lambda y: np.asarray(y.min(axis=1)), True),
    Figure("the outputs of every row have the same median", lambda y: np.asarray(np.median(y, axis=1)), True),
    Figure("the squares of the outputs of every row add up to the same", lambda y: np.asarray((y**2).sum(axis=1))),
)


def refuse_normalised(observations: Observations) -> None:
    """Refuse outputs of which a figure is the same in every row to the last digit: each row was divided by its own.

    Raises
    ------
    FitError
        With the figure.
    """
    y = np.concatenate([columns(rows) for rows in observations.chunks()])
    y = y[~np.isnan(y).any(axis=1)]
    if observations.single or y.shape[1] < 2 or len(y) < 2:
        return
    for figure in FIGURES:
        value = figure.of(y)
        usual = float(np.median(value))
        same = np.abs(value - usual) <= EXACTLY * float(figure.of(_apart(y)).std())
        there = y == value[:, None]
        is_alone = there.sum(axis=1) == 1
        alone, second = float(is_alone.mean()), float(np.sort(there[is_alone].sum(axis=0))[-2]) / len(y)
        # a camera at a rail reads the same, too: but in several outputs at once, or always in the same one
        if figure.is_extreme and (alone < ALONE or second < SHARED):
            continue
        if same.mean() >= NEARLY_ALL:
            raise FitError(
                figure.words,
                action="fit response",
                expected="outputs with a noise of their own",
                seen=f"{usual:.6g} in every row: readings that were normalised row by row",
                hint="export the readings before they are normalised, and import them",
            )


def normalised(left: Leftover) -> str:
    """That readings were divided by a number of their own row, and what to do; empty where they were not."""
    y = left.readings[left.good]
    if left.outputs < FEWEST or len(y) < 2:
        return ""
    for figure in FIGURES:
        value = float(np.median(figure.of(y)))
        if float(figure.of(y).std()) < SAME * float(figure.of(_apart(y)).std()):
            return (
                f"{figure.words} ({value:.4g}): each row was divided by a number of its own, or had one taken "
                "off, and no bench does that; export the readings before they are normalised, then fit again"
            )
    return ""


def divided(left: Leftover) -> Explained | None:
    """Readings as lines over the inputs that were divided, row by row, by one line; None where there are too few rows.

    That is what is left where the output which they were divided by is not among them, or reads 1 in every row. With
    ``y (1 + a·x) = b + c·x``, a of all outputs and b, c of each, a is found by what ``y x`` explains beside x.
    """
    before = left.apart((left.good,), wide=True)
    good = left.good
    if before is None or not left.suffices(int(good.sum()) // 2, wide=True):
        return None
    design, x = left.design[good], left.design[good, 1:]
    y = (left.readings / left.rms)[good]
    y = y - y.mean(axis=0)
    expected, middle = design @ least_squares(design, y), left.readings[good].mean(axis=0) / left.rms
    for _ in range(ROUNDS):
        columns_of = [x * (expected[:, m : m + 1] + middle[m]) for m in range(left.outputs)]
        columns_of = [c - design @ least_squares(design, c) for c in columns_of]
        rest = y - design @ least_squares(design, y)
        a = least_squares(np.concatenate(columns_of), -rest.T.reshape(-1, 1))
        divisor = 1 + x @ a
        if divisor.min() <= 0:
            return None
        expected = (design / divisor) @ least_squares(design / divisor, y + middle) - middle
    freedom = len(y) - design.shape[1] - x.shape[1] / left.outputs
    found = ((y - expected) ** 2).sum(axis=0) / max(freedom, 1.0)
    spread = 100 * float(divisor.std() / divisor.mean())
    if spread < VARIES:
        return None
    words = f"each row was divided by a number of its own that follows the inputs (it varies by {spread:.2g} %)"
    todo = "export the readings before they are normalised (or look for a supply that gives way)"
    return Explained(words, todo, np.asarray(found), before)


def _apart(y: Float) -> Float:
    """The outputs of different rows side by side."""
    return np.stack([np.roll(column, 7 * m) for m, column in enumerate(y.T)], axis=1)
