"""Readings that nobody took: a fit leaves them out one by one, and the other outputs of their rows stay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.cut_off import MOST, SEED, Filled
from calibration.response.observations import Observations
from calibration.response.preview import Light, Preview, preview
from calibration.statistics.bad_frame import BadFrame

Float = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

MOST_MISSING = 0.2  # share of an output's readings; with more, what is drawn in their place says too much
NONE_LEFT = 0.98  # share above which an output is left out as one that was not read at all
MANY = 0.05  # share of an output's readings above which they are drawn anew from a second fit
ROUNDS = 2  # of a line through the recording
LISTED = 8


def refuse_missing(observations: Observations, missing: Mask) -> None:
    """Refuse a recording of which an output lacks more than a fifth, and yet has some.

    Raises
    ------
    FitError
        With the output that lacks most.
    """
    share = missing.mean(axis=0)
    share[share >= NONE_LEFT] = 0.0
    worst = int(np.argmax(share))
    if share[worst] <= MOST_MISSING:
        return
    who = "the detector" if observations.single else f"output {worst}"
    raise FitError(
        "too many readings are missing",
        action="fit response",
        expected=f"at most {MOST_MISSING:.0%} of the readings of each output",
        seen=f"{who} lacks {int(missing[:, worst].sum())} of {len(missing)} ({share[worst]:.0%})",
        hint="leave that output out of weights and readings, or choose rows that have it: labctl import FILE --rows "
        "START:STOP",
    )


def unread_rows(missing: Mask) -> list[BadFrame]:
    """Rows that lack more than half of the readings, of the outputs that are looked at."""
    lacking = missing.sum(axis=1)
    m = missing.shape[1]
    found = []
    for row in np.nonzero(lacking > MOST * m)[0].tolist():
        words = "no reading" if lacking[row] == m else f"{lacking[row]} of {m} readings are"
        found.append(BadFrame(row, "missing", np.nan, words))
    return found


def by_line(observations: Observations, readings: Float, missing: Mask, light: Light | None) -> Float:
    """(n, M) readings, with what a line through the recording expects, and its noise, in place of missing ones."""
    lines, product = readings.copy(), _product(observations, light)
    for m in range(readings.shape[1]):
        own = ~missing[:, m]
        z, y = product[own, min(m, product.shape[1] - 1)], readings[own, m]
        zc = z - z.mean()
        slope = float((zc * y).sum() / max(float((zc**2).sum()), 1e-300))
        lines[~own, m] = y.mean() + slope * (product[~own, min(m, product.shape[1] - 1)] - z.mean())
    usable = missing.mean(axis=1) <= MOST
    for _ in range(ROUNDS):
        lines = np.where(missing, drawn_from(preview(observations, lines, usable, light=light)), readings)
    return lines


def drawn_from(line: Preview) -> Float:
    """(n, M) readings as a line expects them, with its noise; the same recording gives the same."""
    return np.asarray(line.mean + line.sd * np.random.default_rng(SEED).normal(size=line.mean.shape))


def first_filled(readings: Float, missing: Mask, expected: Preview, reading_of: Indices, rows: Indices) -> Filled:
    """The rows among ``rows`` (k,) that lack readings, with what a line expects in place of those.

    Parameters
    ----------
    readings, missing, expected
        (n, M) by reading.
    reading_of
        (n,) number of the readings that belong to the inputs of each row.
    """
    lacking = rows[missing[reading_of[rows]].any(axis=1)]
    own = reading_of[lacking]
    return Filled(lacking, np.where(missing, drawn_from(expected), readings)[own], missing[own])


def missing_in_words(missing: Mask, dead: set[int], single: bool) -> str:
    """How many readings are missing, of which outputs, and where the first is; empty where none is."""
    counted = missing.copy()
    counted[:, list(dead)] = False
    if not counted.any():
        return ""
    of = counted.sum(axis=0)
    total, first = int(of.sum()), int(np.argmax(counted.any(axis=1)))
    worst = sorted(np.nonzero(of)[0].tolist(), key=lambda m: -of[m])
    outputs = ", ".join(f"output {m} {of[m]}" for m in worst[:LISTED]) + (" …" if len(worst) > LISTED else "")
    where = "" if single else f" ({outputs})"
    are = f"{total} readings are" if total > 1 else "1 reading is"
    return f"{are} missing{where}, first in row {first}: left out, one by one"


def _product(observations: Observations, light: Light | None) -> Float:
    parts = []
    for rows in observations.chunks():
        if light is not None:
            parts.append(light(rows))
        elif rows.output is None:
            parts.append(rows.inputs @ observations.weights.T)
        else:
            parts.append((rows.inputs * observations.weights[rows.output]).sum(axis=1, keepdims=True))
    return np.concatenate(parts)
