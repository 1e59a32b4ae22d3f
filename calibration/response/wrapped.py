"""Whole numbers that went round: inputs or readings that a type of too few bits has cut to their last bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.leftover import Leftover, least_squares

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

BITS = (8, 10, 12, 14, 16)
FILLED = 0.6  # of the numbers that a type has: fewer never went round
GAP = 0.03  # of them that no value takes: where the largest numbers meet the smallest
CUTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of the numbers, up to which some may have gone round
ROUNDS = 12
PER_COLUMN = 4  # rows for each number that is fitted
MENDED = 0.5  # of the mean square beside a line, that an output leaves once it is put right
MARGIN = 50.0  # log-likelihood beyond what the choice for every number is worth


@dataclass(frozen=True)
class Wrapped:
    """What went round.

    Attributes
    ----------
    words
        In words.
    left
        (M,) of the mean square of what the fit leaves, once it is put right [1].
    """

    words: str
    left: Float


def wrapped_readings(left: Leftover) -> Wrapped | None:
    """Readings that follow the inputs once the small ones of some outputs are taken as large ones."""
    y, best = left.readings, None
    if not left.suffices(int(left.good.sum()), wide=True):
        return None
    for bits in _fitting(y):
        size = float(2**bits)
        there, found = [], np.ones(left.outputs)
        for m, column in enumerate(y.T):
            cut = _gap(column[left.good], size)
            if cut is None:
                continue
            mended = np.where(column < cut, column + size, column)
            now, before = (_misfit(left, v[:, None])[0] for v in (mended, column))
            if now < MENDED * before and before > MENDED * left.rms[m] ** 2:  # a line alone does no better than the fit
                found[m] = now / left.rms[m] ** 2
                there.append(m)
        if there and (best is None or found.mean() < best.left.mean()):
            which = ", ".join(str(left.names[m]) for m in there[:8])
            words = f"readings of output {which} go round at {size:.0f}: they were cut to {bits} bits"
            best = Wrapped(words, found)
    return best


def wrapped_inputs(left: Leftover) -> Wrapped | None:
    """Inputs that the readings follow once some small ones are taken as large ones."""
    x = left.inputs
    best = None
    for bits in _fitting(x):
        size = float(2**bits)
        cut = _gap(x[left.good].ravel(), size)
        if cut is not None:
            found: Float | None = _misfit(left, left.readings, np.where(x < cut, x + size, x)) / left.rms**2
        else:
            found = _decoded(left, size)
        if found is not None and (best is None or found.mean() < best.left.mean()):
            best = Wrapped(f"inputs go round at {size:.0f}: they were cut to {bits} bits", found)
    return best


def _fitting(values: Float) -> list[int]:
    """Numbers of bits whose whole numbers the values are, and fill."""
    if not (values == np.round(values)).all():
        return []
    low, high = float(values.min()), float(values.max())
    found = []
    for bits in BITS:
        size = 2**bits
        first = 0 if low >= 0 else -size // 2
        if first <= low and high < first + size and high - low > FILLED * size:
            found.append(bits)
    return found


def _gap(values: Float, size: float) -> float | None:
    """The middle of the numbers that no value takes between the smallest and the largest; None where there are none."""
    levels = np.unique(values)
    gaps = np.diff(levels)
    if not len(gaps):
        return None
    widest = int(np.argmax(gaps))
    others = np.delete(gaps, widest)
    if gaps[widest] < max(GAP * size, 3 * float(others.max(initial=0.0))):
        return None
    return float(levels[widest] + gaps[widest] / 2)


def _misfit(left: Leftover, values: Float, inputs: Float | None = None) -> Float:
    """(k,) mean square of ``values`` (n, k) in good rows about a line over the inputs."""
    good = left.good
    x = left.inputs if inputs is None else inputs
    design = np.concatenate([np.ones((len(x), 1)), left.scaled(x)], axis=1)[good]
    rest = values[good] - values[good].mean(axis=0)
    rest = rest - design @ least_squares(design, rest)
    return np.asarray((rest**2).sum(axis=0) / max(len(rest) - design.shape[1], 1))


def _decoded(left: Leftover, size: float) -> Float | None:
    """Which small inputs were large ones, each told from the readings of its row; (M,) left, None if nothing is won.

    A line with a step at each small input gives the gains; then the numbers of every row and the gains are found in
    turn. What the choice for each number is worth by chance is taken off.
    """
    good = left.good
    x, y = left.inputs[good] / size, left.readings[good] / left.rms
    n, k = x.shape
    if n < PER_COLUMN * (2 * k + 1):
        return None
    one, best = np.ones((n, 1)), None
    low = float(x.min())
    for cut in CUTS:
        small = x < low + cut
        design = np.concatenate([one, x, small], axis=1)
        c = least_squares(design, y)
        rest = float(((y - design @ c) ** 2).sum())
        if best is None or rest < best[0]:
            best = (rest, small, c[: 1 + k])
    assert best is not None
    _, small, c = best
    turned = np.zeros((n, k), bool)
    c[0] = (y - (x + 0.5 * small) @ c[1:]).mean(axis=0)
    for _ in range(ROUNDS):
        turned = _chosen(y - c[0] - x @ c[1:], c[1:], small, turned)
        design = np.concatenate([one, x + turned], axis=1)
        c = least_squares(design, y)
    found = np.asarray(((y - design @ c) ** 2).sum(axis=0) / (n - k - 1))
    gained = -0.5 * n * float(np.log(np.maximum(found, 1e-300)).sum())
    return found if gained > np.log(2) * float(small.sum()) + MARGIN else None


def _chosen(rest: Float, gain: Float, small: Mask, turned: Mask) -> Mask:
    """Which small inputs, taken as large ones, explain ``rest`` (n, M) best: one input after the other, twice."""
    turned = turned.copy()
    rest = rest - turned @ gain
    for _ in range(2):
        for k in range(gain.shape[0]):
            without = rest + turned[:, k : k + 1] * gain[k]
            is_turned = small[:, k] & (2 * without @ gain[k] > gain[k] @ gain[k])
            rest = without - is_turned[:, None] * gain[k]
            turned[:, k] = is_turned
    return turned
