"""Inputs whose gains change during a recording, each on its own: by hops of a source, or by walks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.response.leftover import Leftover, least_squares
from groundwork.listing import listed

Float = NDArray[np.float64]

ROWS = (2, 8, 32, 128)  # over which a gain may keep its value
PROVEN = 5.5  # standard errors: four of them are tried
MATTERS = 0.05  # of the mean square of the residuals
ALONE = 6.5  # the same of a single input, of which there are many
LEVEL_ROWS = 12  # over which the level of an output is told
OWN = 4.0  # standard errors of a single input that is named


@dataclass(frozen=True)
class InTime:
    """What a fault that changes in time does.

    Attributes
    ----------
    words
        In words.
    share
        Of the mean square of the residuals, that follows from it [1].
    """

    words: str
    share: float


def wandering_inputs(left: Leftover) -> InTime | None:
    """Inputs with a gain that changes from row to row by what it was before; None where chance shows as much.

    If the gain of input k is off by δ(t), the residuals of row t hold ``x_k g_mk δ(t)``. Their projection on that is
    s_k(t). If nothing changes, the products of s_k(t) with a sum over the rows before, which fades with their distance,
    have the mean zero whatever the law of the noise, and their own scatter says how far from zero their sum may be.
    Levels and gains that outputs have of their own, or all together, are projected out: that is drift.
    """
    s, information = _projected(left)
    scatter = np.sqrt((s[left.good] ** 2).mean(axis=0))
    moved = scatter > 0
    if not moved.any():
        return None
    s, information, scatter = s[:, moved], information[:, moved], scatter[moved]
    tried = [_followed(s, information, scatter, rows) for rows in ROWS]
    z, rows, of_inputs, squares = max(tried, key=lambda found: max(found[0], found[2].max() + PROVEN - ALONE))
    of_residuals = float((left.score[left.good] ** 2).mean()) * left.outputs
    share = float((squares * information[left.good].mean(axis=0)).sum()) / max(of_residuals, 1e-300)
    if (z < PROVEN and of_inputs.max() < ALONE) or share < MATTERS:
        return None
    order = np.argsort(-squares)
    named = sorted(np.nonzero(moved)[0][[k for k in order if of_inputs[k] > OWN] or order[:1]].tolist())
    percent = 100 * float(np.sqrt(squares[order[0]]))
    which = f"gains of inputs {listed(named)} change" if len(named) > 1 else f"gain of input {named[0]} changes"
    words = (
        f"the {which} during the recording, by up to {percent:.2g} % and within about {rows} rows, each on its own "
        "(hops or a walk of a source): no drift that all inputs share follows that; mend it or record within less "
        "time, then fit again"
    )
    return InTime(words, min(share, 1.0))


def _projected(left: Leftover) -> tuple[Float, Float]:
    """Of each input (n, N): the residuals along what a change of its gain would do, and the square of that."""
    good, x = left.good, left.inputs
    score = np.where(good[:, None], left.score - left.score[good].mean(axis=0), 0.0)
    # what an output did in the rows before it does on the whole in this one, too, and would be noise here
    fade = float(np.exp(-1 / LEVEL_ROWS))
    level = scipy.signal.lfilter([0.0, fade], [1.0, -fade], score, axis=0)
    score = score - level / (1 / (1 - fade))
    s, information = np.zeros(x.shape), np.zeros(x.shape)
    for m in range(left.outputs):
        along = x * left.gain[m] / left.sd[:, m : m + 1]
        own = np.stack([np.ones(len(x)), left.signal[:, m]], axis=1) / left.sd[:, m : m + 1]
        along = along - own @ least_squares(own[good], along[good])
        s += along * score[:, m : m + 1]
        information += along**2
    s[~good], information[~good] = 0.0, 0.0
    # what is off in all rows is a matter of the fit
    return s - information * (s.sum(axis=0) / np.maximum(information.sum(axis=0), 1e-300)), information


def _followed(s: Float, information: Float, scatter: Float, rows: int) -> tuple[float, int, Float, Float]:
    """How surely gains keep a value over so many rows: of all inputs and (N,) of each, and (N,) their variances."""
    fade = float(np.exp(-1 / rows))
    products = s * scipy.signal.lfilter([0.0, fade], [1.0, -fade], s, axis=0)
    # a gain that keeps its value as long is correlated by the same number again
    expected = information * scipy.signal.lfilter([0.0, fade**2], [1.0, -(fade**2)], information, axis=0)
    of_rows = (products / scatter**2).sum(axis=1)
    of_inputs = products.sum(axis=0) / np.maximum(np.sqrt((products**2).sum(axis=0)), 1e-300)
    squares = np.maximum(products.sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-300), 0.0)
    return float(of_rows.sum() / max(np.sqrt((of_rows**2).sum()), 1e-300)), rows, of_inputs, squares
