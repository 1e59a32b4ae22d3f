"""A bench that goes to and fro between two levels or two gains: a source or an amplifier that hops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover, least_squares
from calibration.response.parts import follows_inputs
from calibration.statistics.drift_search import JUMPS_MAX

Float = NDArray[np.float64]

WITHIN = 0.1  # of the variance, that is left about two levels; about those of evenly spread values a quarter is
BETWEEN, CLEAR = 0.5, 0.96  # of their distance, the middle of which rows are seldom in; share of rows elsewhere
LEAST = 0.05  # share of the rows in the rarer state
NEAR = 3  # rows before and after a change
MATTERS = 0.15  # of the squares of all rows, which those near the changes have beyond the others
ROUNDS = 20
IN_TURN = 0.8  # of all rows: who changes more often is asked in turn, and does not hop


def to_and_fro(left: Leftover) -> str:
    """How often the outputs change between which two states, and what to do; empty where they do not.

    A drift with a few jumps is followed. Where there are more, the rows about each of them are given a course between
    the two states, which is none of the bench's.
    """
    good = left.good
    if not left.suffices(int(good.sum()), wide=True):
        return ""
    design = np.concatenate([np.ones((len(good), 1)), left.inputs], axis=1)
    scale = np.maximum(np.abs(design[good]).max(axis=0), 1e-300)
    lines = least_squares(design[good] / scale, left.readings[good])
    light = (design / scale)[:, 1:] @ lines[1:]
    error = (left.readings - light - lines[0]) / left.sd
    slope = light / left.sd
    of_light = np.maximum((slope**2).sum(axis=1), 1e-300)
    level = (error / left.sd).sum(axis=1) / (1 / left.sd**2).sum(axis=1)
    gain = (error * slope).sum(axis=1) / of_light
    # a row with hardly any light says nothing of its gain
    bright = good & (of_light > 0.1 * np.median(of_light[good]))
    states = [("black level", good, _two_states(level[good])), ("gain", bright, _two_states(gain[bright]))]
    found = [(two.within, what, own, two) for what, own, two in states if two is not None]
    if not found:
        return ""
    _, what, own, two = min(found, key=lambda one: one[0])
    second = np.zeros(len(good), bool)
    second[np.nonzero(own)[0][two.upper]] = True
    if follows_inputs(left, second):
        return ""  # a curve, or a product of inputs
    near = np.zeros(len(good), bool)
    at = np.nonzero(own)[0][two.changes]
    for step in range(-NEAR, NEAR):
        near[np.clip(at + step, 0, len(good) - 1)] = True
    square, elsewhere = (left.error**2).mean(axis=1), good & ~near
    far = float(square[elsewhere].mean()) if elsewhere.any() else 0.0
    if square[near].sum() - near.sum() * far < MATTERS * far * len(good):
        return ""  # the drift that was followed is as good
    how = f"{100 * two.apart:.2g} %" if what == "gain" else f"{two.apart:.3g}"
    return (
        f"the {what} of all outputs goes to and fro between two states that are {how} apart, {len(two.changes)} times "
        f"(first at row {int(left.index[at[0]])}): a source or an amplifier that hops; mend that, or fit the rows of "
        "one state alone"
    )


@dataclass(frozen=True)
class _States:
    """How far apart two states are, the places of their changes, what of the variance is within, and rows of one."""

    apart: float
    changes: NDArray[np.intp]
    within: float
    upper: NDArray[np.bool_]


def _two_states(values: Float) -> _States | None:
    """The two states of values; None where there are not two, or where they change as seldom as a drift may jump."""
    upper = values > values.mean()
    for _ in range(ROUNDS):
        if not upper.any() or upper.all():
            return None
        fresh = values > (values[upper].mean() + values[~upper].mean()) / 2
        if (fresh == upper).all():
            break
        upper = fresh
    share, low, high = float(upper.mean()), float(values[~upper].mean()), float(values[upper].mean())
    within = (share * values[upper].var() + (1 - share) * values[~upper].var()) / max(float(values.var()), 1e-300)
    # what walks between two places is in between on its way, and what noise carries over the middle has not changed
    place = (values - low) / max(high - low, 1e-300)
    clear = np.abs(place - 0.5) > BETWEEN / 2
    at = np.nonzero(clear)[0]
    changed = at[1:][np.diff(upper[at].astype(int)) != 0]
    if within > WITHIN or clear.mean() < CLEAR or min(share, 1 - share) < LEAST:
        return None
    if not JUMPS_MAX < len(changed) < IN_TURN * len(values):
        return None
    return _States(high - low, changed, within, upper)
