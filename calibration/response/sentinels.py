"""Numbers that stand for "no value": −999, 9999, 1e30, told by how they repeat exactly, far from all other values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations
from calibration.response.preview import Light, Preview, preview
from calibration.statistics.bad_frame import BadFrame
from groundwork.listing import listed

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST = 3  # times that such a number stands somewhere
MOST = 3  # such numbers
LEVELS = 8  # that the other values of a column have at least
MOST_OF_COLUMN = 0.5  # of its values
MOST_VALUES = 40_000_000  # inputs of a recording that are looked through
GAP = 0.1  # of the range of the others, that lies between them and it
GAP_OF_INPUTS = 0.5
CONTRADICTED = 6.0  # standard deviations from what the inputs of the row let expect
SURE = 12  # times that such a number stands, from which on it tells where
ALWAYS = 0.9  # chance that a reading is expected to be larger where the number does not stand
MOSTLY = 0.8  # of the places, where it is


@dataclass(frozen=True)
class Sentinel:
    """A number that stands for a missing value.

    Attributes
    ----------
    what
        ``"output"`` or ``"input"``.
    value, times, columns, rows
        The number, how often it stands, in which outputs or inputs, and in how many rows.
    low, high
        Range of the other values there.
    below
        The largest reading that is expected where it stands, if it stands only where little is: then it is what a
        threshold writes. NaN otherwise.
    """

    what: str
    value: float
    times: int
    columns: tuple[int, ...]
    rows: int
    low: float
    high: float
    below: float = np.nan

    @property
    def in_words(self) -> str:
        """``"-999 stands 60 times in 52 rows (output 0, 1), where all others are 60 … 2100: no values, left out"``"""
        which = listed(self.columns)
        times = f"{self.times} times in {self.rows} row{'s' if self.rows > 1 else ''}"
        return (
            f"{self.value:g} stands {times} ({self.what} {which}), where all other values are {self.low:.4g} … "
            f"{self.high:.4g}: taken for missing values and left out"
        )


@dataclass(frozen=True)
class Gaps:
    """Values of a recording that are missing: (n, M) of the readings, (n, N) of the inputs, and by what numbers."""

    readings: Mask
    inputs: Mask
    of_readings: tuple[Sentinel, ...]
    of_inputs: tuple[Sentinel, ...]

    @classmethod
    def of(cls, observations: Observations, readings: Float, usable: Mask, light: Light | None, again: Mask) -> Gaps:
        """Of observations with (n, M) readings, of rows that are usable as far as is known.

        Rows that are there ``again`` (n,) say nothing about how often a number stands.
        """
        missing, in_readings = missing_readings(observations, readings, usable & ~again, light, again)
        gaps, in_inputs = missing_inputs(observations, readings, usable & ~missing.any(axis=1) & ~again, again)
        return cls(missing, gaps, tuple(in_readings), tuple(in_inputs))

    @property
    def rows(self) -> Mask:
        """(n,) rows of which an input is missing."""
        return np.asarray(self.inputs.any(axis=1))

    @property
    def frames(self) -> dict[int, BadFrame]:
        """These rows, with reasons."""
        found = {}
        for i in np.nonzero(self.rows)[0].tolist():
            names = ", ".join(map(str, np.nonzero(self.inputs[i])[0]))
            found[i] = BadFrame(i, "missing input", np.nan, f"input {names} has no value")
        return found

    def numbered(self, live: NDArray[np.intp]) -> tuple[Sentinel, ...]:
        """All numbers, those of outputs by the numbers ``live`` that the outputs have in the recording."""
        renamed = (replace(s, columns=tuple(int(live[m]) for m in s.columns)) for s in self.of_readings)
        return (*renamed, *self.of_inputs)


def missing_readings(
    observations: Observations, readings: Float, usable: Mask, light: Light | None, again: Mask
) -> tuple[Mask, list[Sentinel]]:
    """(n, M) which readings are numbers that stand for none, and these numbers.

    A number is one if it repeats exactly beyond a gap that no other reading falls into, and if the inputs of its rows
    let other readings be expected. Rows in which every output reads it are no such rows: there the camera stopped.
    """
    missing, found = np.repeat(again[:, None], readings.shape[1], axis=1), []
    for _ in range(MOST):
        best = _farthest(readings, missing, GAP)
        if best is None:
            break
        value, there = best
        if readings.shape[1] > 1:
            there = there & ~there.all(axis=1, keepdims=True)
        if there.sum() < FEWEST:
            break
        line = preview(observations, readings, usable & ~(missing | there).any(axis=1), light=light)
        off = np.abs(readings - line.mean)[there] > CONTRADICTED * line.sd[there]
        if off.mean() < MOSTLY or _in_runs(there):
            break
        missing |= there
        sentinel = _sentinel("output", value, there, readings, missing)
        found.append(replace(sentinel, below=_threshold(line.mean, there, ~missing)))
    return missing & ~again[:, None], found


def missing_inputs(
    observations: Observations, readings: Float, usable: Mask, again: Mask
) -> tuple[Mask, list[Sentinel]]:
    """(n, N) which inputs are numbers that stand for none, and these numbers: told like readings."""
    if observations.count * observations.n_inputs > MOST_VALUES:
        return np.zeros((observations.count, 1), bool), []
    inputs = np.concatenate([rows.inputs for rows in observations.chunks()])
    missing, found = np.repeat(again[:, None], inputs.shape[1], axis=1), []
    for _ in range(MOST):
        best = _farthest(inputs, missing, GAP_OF_INPUTS)
        if best is None:
            break
        value, there = best
        rows = there.any(axis=1)
        if (there.mean(axis=1)[rows] > MOST_OF_COLUMN).all() or inputs.shape[1] < 2:
            break
        line = preview(observations, readings, usable & ~(missing | there).any(axis=1))
        off = _score(line, readings)[rows] > CONTRADICTED
        if off.mean() < MOSTLY:
            break
        missing |= there
        found.append(_sentinel("input", value, there, inputs, missing))
    return missing & ~again[:, None], found


def _score(line: Preview, readings: Float) -> Float:
    """(n,) largest deviation of a row from a line [standard deviations]."""
    return np.asarray(np.nan_to_num((np.abs(readings - line.mean) / line.sd).max(axis=1), nan=np.inf))


def _farthest(values: Float, missing: Mask, gap: float) -> tuple[float, Mask] | None:
    """The number that repeats farthest from the others of its columns, and where it stands; None if there is none."""
    ends: dict[float, list[tuple[int, float]]] = {}
    for k, column in enumerate(values.T):
        levels, counts = np.unique(column[~missing[:, k]], return_counts=True)
        if len(levels) < LEVELS + 1:
            continue
        for end, beside, others in ((levels[0], levels[1], levels[1:]), (levels[-1], levels[-2], levels[:-1])):
            wide = float(abs(end - beside)) / max(float(np.ptp(others)), 1e-300)
            often = int(counts[0 if end == levels[0] else -1])
            if wide > gap and often < MOST_OF_COLUMN * len(column):
                ends.setdefault(float(end), []).append((k, wide))
    best = None
    for value, places in ends.items():
        there = np.zeros(values.shape, bool)
        columns = [k for k, _ in places]
        there[:, columns] = (values[:, columns] == value) & ~missing[:, columns]
        far = min(wide for _, wide in places)
        if there.sum() >= FEWEST and (best is None or far > best[0]):
            best = (far, value, there)
    return None if best is None else best[1:]


def _threshold(expected: Float, there: Mask, others: Mask) -> float:
    """The largest reading that is expected where a number stands, if nearly all others are larger; NaN otherwise."""
    apart, top = [], -np.inf
    for m in np.nonzero(there.any(axis=0))[0]:
        low, high = np.sort(expected[there[:, m], m]), expected[others[:, m], m]
        # chance that a reading where it stands is expected below one where it does not
        apart.append((len(low), 1 - float(np.searchsorted(low, high, side="right").mean()) / len(low)))
        top = max(top, float(np.quantile(low, 0.95)))
    count, share = np.array(apart).T
    is_low = count.sum() >= SURE and float((count * (1 - share)).sum() / count.sum()) > ALWAYS
    return top if is_low else float("nan")


def _in_runs(there: Mask) -> bool:
    """Whether it mostly stands in the same column of neighbouring rows: a camera that stopped, a lamp that went out."""
    beside = np.zeros_like(there)
    beside[1:] |= there[:-1]
    beside[:-1] |= there[1:]
    return bool((beside & there).sum() > 0.5 * there.sum())


def _sentinel(what: str, value: float, there: Mask, values: Float, missing: Mask) -> Sentinel:
    columns = np.nonzero(there.any(axis=0))[0]
    others = values[:, columns][~missing[:, columns]]
    rows = int(there.any(axis=1).sum())
    low, high = float(others.min()), float(others.max())
    return Sentinel(what, value, int(there.sum()), tuple(int(k) for k in columns), rows, low, high)
