"""Readings that were divided row by row: their sum, their largest or their size is the same in every row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover

Float = NDArray[np.float64]

FEWEST = 3  # outputs
SAME = 0.1  # of the spread that rows of independent outputs would have

FIGURES: dict[str, Callable[[Float], Float]] = {
    "the outputs of every row add up to the same": lambda y: np.asarray(y.sum(axis=1)),
    "the largest output of every row reads the same": lambda y: np.asarray(y.max(axis=1)),
    "the squares of the outputs of every row add up to the same": lambda y: np.asarray((y**2).sum(axis=1)),
}
"""What is the same in every row of normalised readings."""


def normalised(left: Leftover) -> str:
    """That readings were divided by a number of their own row, and what to do; empty where they were not."""
    y = left.readings[left.good]
    if left.outputs < FEWEST or len(y) < 2:
        return ""
    apart = np.stack([np.roll(column, 7 * m) for m, column in enumerate(y.T)], axis=1)
    for words, of in FIGURES.items():
        value = float(np.median(of(y)))
        if float(of(y).std()) < SAME * float(of(apart).std()):
            return (
                f"{words} ({value:.4g}): each row was divided by a number of its own, and no bench does that; export "
                "the readings before they are normalised, then fit again"
            )
    return ""
