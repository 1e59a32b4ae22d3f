"""Rows that are there twice, and inputs that were computed from the readings: what a hold-out would take for proof."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response.observations import Observations
from calibration.response.residuals import as_read
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.tails import f_sf
from groundwork.listing import listed

Float = NDArray[np.float64]

ALWAYS = 0.95  # of the rows that repeat inputs: so many must repeat the readings, too
FEWEST = 3  # such rows
ENOUGH = 2  # different rows for each input, which must be left
ONCE_MORE = "inputs and readings"
EXACT = 1e-10  # of the variance of an input that the readings leave
MOST = 20_000_000  # inputs that are compared with each other
TOGETHER = 128  # outputs, whose readings are looked at together
FOLLOWS = 0.5  # of the variance of the readings, that the inputs explain where it can be told that they do not
AS_ALL = 0.2  # of the variance of all readings, at least
CHANCE = 1e-6  # that noise alone scatters as much
MATTERS = 1e-3  # of the largest part that an output has in an input


def copies(observations: Observations) -> list[BadFrame]:
    """Rows that repeat inputs and readings of a row before to the last digit; none where that is how the bench is.

    A bench has noise: where inputs that come again always come with the same readings, these were averaged before they
    were written, the file holds them several times, or rounding has swallowed the noise. In each case they say once
    what they say. Few different rows are left as they are.
    """
    first: dict[bytes, int] = {}
    shown: dict[bytes, int] = {}
    frames, again = [], 0
    for rows in observations.chunks():
        y = as_read(rows)
        for i in range(len(rows)):
            inputs = blake2b(rows.inputs[i].tobytes(), digest_size=16)
            if rows.output is not None:
                inputs.update(int(rows.output[i]).to_bytes(8, "little"))
            key = inputs.digest()
            again += key in shown
            shown.setdefault(key, rows.start + i)
            inputs.update(y[i].tobytes())
            before = first.setdefault(inputs.digest(), rows.start + i)
            if before != rows.start + i:
                words = f"{ONCE_MORE} of row {before} once more"
                frames.append(BadFrame(rows.start + i, "duplicated", np.nan, words))
    left = observations.count - len(frames)
    if len(frames) < FEWEST or len(frames) < ALWAYS * again or left < ENOUGH * (observations.n_inputs + 1):
        return []
    return frames


def lost_inputs(observations: Observations, readings: Float, usable: NDArray[np.bool_]) -> list[BadFrame]:
    """Rows that all have the same inputs and read as differently as the others do: what they were shown was not kept.

    Parameters
    ----------
    readings
        (n, M)
    usable
        (n,) rows that are not left out anyway.
    """
    if observations.count * observations.n_inputs > MOST:
        return []
    inputs = np.concatenate([rows.inputs for rows in observations.chunks()])
    at = np.nonzero(usable & ~np.isnan(readings).any(axis=1))[0]
    _, of, many = np.unique(inputs[at], axis=0, return_inverse=True, return_counts=True)
    largest = int(np.argmax(many))
    own, rest = at[of == largest], at[of != largest]
    if not FEWEST <= len(own) < len(rest) or len(rest) < ENOUGH * (inputs.shape[1] + 1):
        return []
    x = np.concatenate([np.ones((len(rest), 1)), inputs[rest]], axis=1)
    y = readings[rest]
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    freedom = max(len(rest) - x.shape[1], 1)
    whole, noise, scatter = y.var(axis=0), (left**2).sum(axis=0) / freedom, readings[own].var(axis=0, ddof=1)
    varies = (whole > 0) & (noise > 0)
    if not varies.any() or float((noise / np.maximum(whole, 1e-300))[varies].mean()) > 1 - FOLLOWS:
        return []
    as_all = float((scatter[varies] / whole[varies]).mean())
    as_noise = float((scatter[varies] / noise[varies]).mean())
    if as_all < AS_ALL or f_sf(as_noise, len(own) - 1, freedom) > CHANCE:
        return []
    words = f"{len(own)} rows have the same inputs, and read as differently as all others do"
    return [BadFrame(int(row), "inputs lost", np.nan, words) for row in own]


def refuse_readings_among_inputs(x: Float, y: Float, weights: Float) -> None:
    """Refuse inputs (n, N) of which one follows from the readings (n, M) of its row to the last digit.

    Raises
    ------
    FitError
        With the input, and the outputs that it was computed from.
    """
    for start, stop in pairwise([*range(0, y.shape[1], TOGETHER), y.shape[1]]):
        part = np.arange(start, stop)
        if len(x) < 2 * (len(part) + 1):
            continue
        varies = np.nonzero(np.ptp(x, axis=0) > 0)[0]
        targets, readings = _standard(x[:, varies]), _standard(y[:, part])
        slopes, *_ = np.linalg.lstsq(readings, targets, rcond=1e-9)
        left = ((targets - readings @ slopes) ** 2).mean(axis=0)
        exact = np.nonzero(left < EXACT)[0]
        if len(exact) == len(varies):  # computed readings without noise, from which all inputs follow
            continue
        for k in exact:
            size = np.abs(slopes[:, k])
            outputs = part[size > MATTERS * size.max()]
            others = np.delete(weights[outputs][:, varies], k, axis=1)
            if len(outputs) > 1 or others.any():
                raise _refused(int(varies[k]), outputs.tolist())


def _standard(values: Float) -> Float:
    spread = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(spread > 0, spread, np.inf))


def _refused(column: int, outputs: list[int]) -> FitError:
    many = listed(outputs)
    return FitError(
        f"input {column} was computed from the readings",
        action="fit response",
        expected="inputs that were shown, whatever was read",
        seen=f"input {column} follows from the reading of output {many} in its row to the last digit",
        hint=f"leave input {column} out of inputs and weights, and import again",
    )
