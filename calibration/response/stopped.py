"""Inputs that were recorded as one number over a long stretch, although the readings go on following them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover
from calibration.statistics.tails import f_sf

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST = 48  # rows of a stretch, and beside it
SHARE = 0.05  # of the rows beside a stretch that may have its number: of sparse inputs, more have
MOST_INPUTS = 0.34  # share of the inputs that may stop: where more do, they were shown one after the other
LOUDER = 1.3  # ratio of the variances within a stretch and beside it, along what is shared there
CHANCE = 1e-6


def stopped_inputs(left: Leftover) -> str:
    """Which inputs stop although the readings go on, with what to do; empty where none does.

    Of an input that is not what was recorded, each output leaves its own gain times what the input was: one direction
    among the outputs, along which the rows of the stretch scatter more than others. The direction is taken from every
    second row of the stretch and tested in the others, and the other way round.
    """
    at = np.nonzero(left.good)[0]
    stretches = [(n, *found) for n, column in enumerate(left.inputs[at].T) if (found := _stretch(column)) is not None]
    if not 0 < len(stretches) <= max(1, int(MOST_INPUTS * left.inputs.shape[1])):
        return ""
    for n, start, stop, value in stretches:
        within = np.zeros(len(at), bool)
        within[start:stop] = True
        if _louder(left.score[at], within):
            first, last = int(left.index[at[start]]), int(left.index[at[stop - 1]])
            return (
                f"input {n} is recorded as {value:g} in every row from {first} to {last}, while the readings there "
                "scatter as if it went on changing; put its values back or take these rows out, then fit again"
            )
    return ""


def _stretch(column: Float) -> tuple[int, int, float] | None:
    """Start, stop and value of the longest run of one number, where the column changes beside it; None without one."""
    edges = np.concatenate([[0], np.nonzero(np.diff(column))[0] + 1, [len(column)]])
    longest = int(np.argmax(np.diff(edges)))
    start, stop = int(edges[longest]), int(edges[longest + 1])
    beside = np.concatenate([column[:start], column[stop:]])
    if min(stop - start, len(beside)) < FEWEST or (beside == column[start]).mean() > SHARE:
        return None
    return start, stop, float(column[start])


def _louder(score: Float, within: Mask) -> bool:
    """Whether the rows of a stretch scatter more than others in a direction that they share."""
    inside, beside = score[within] - score[within].mean(axis=0), score[~within] - score[~within].mean(axis=0)
    loud, usual = [], []
    for half, other in ((inside[::2], inside[1::2]), (inside[1::2], inside[::2])):
        direction = np.linalg.svd(half, full_matrices=False)[2][0]
        loud.append((other @ direction) ** 2)
        usual.append((beside @ direction) ** 2)
    ratio = float(np.concatenate(loud).mean() / max(float(np.concatenate(usual).mean()), 1e-300))
    return ratio > LOUDER and float(f_sf(ratio, len(inside) - 1, len(beside) - 1)) < CHANCE
