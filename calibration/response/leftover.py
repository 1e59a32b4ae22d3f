"""What a fit leaves of each row, beside what it followed: the material in which faults of a recording show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration.response.following import FAR, Followed
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.residuals import columns

Float = NDArray[np.float64]
Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

MOST_ROWS = 2400
STRETCHES = 8  # of consecutive rows, spread over a longer recording
PLENTY = 3  # rows for each slope: fewer do not tell the slopes of single inputs
WIDEST = 160  # inputs with a slope of their own


@dataclass(frozen=True)
class Explained:
    """A fault with numbers of its own that explains residuals.

    Attributes
    ----------
    words, todo
        What the readings are, and what to do.
    left, before
        (M,) of the mean square of what the fit leaves [1]: with this, and with lines alone.
    """

    words: str
    todo: str
    left: Float
    before: Float


@dataclass(frozen=True)
class Leftover:
    """Rows of a recording with what a fit says of them.

    Attributes
    ----------
    index
        (n,) their numbers in the recording.
    inputs, readings, mean, sd
        (n, N) or (n, M): inputs (behind the weights, of a single detector), readings, and what the fit expects.
    good
        (n,) rows that were not left out.
    names
        (M,) numbers of the outputs.
    gain
        (M, N) what the fit has for gains [unit per input].
    """

    index: Indices
    inputs: Float
    readings: Float
    mean: Float
    sd: Float
    good: Mask
    names: Indices
    gain: Float

    @classmethod
    def of(
        cls, response: Response, observations: Observations, followed: Followed, bad: Mask, names: Indices
    ) -> Leftover:
        """Of a whole recording, or of a few long stretches of it; the outputs are called by ``names`` (M,)."""
        n = observations.count
        long = MOST_ROWS // STRETCHES
        starts = [0] if n <= MOST_ROWS else np.linspace(0, n - long, STRETCHES).astype(int).tolist()
        parts = []
        for start in starts:
            rows = observations.rows(start, n if n <= MOST_ROWS else start + long)
            at = np.arange(start, start + len(rows))
            found = response.expected(rows, followed.level[at], followed.covariance[at] + followed.jitter)
            x = rows.inputs if rows.output is None else rows.inputs * observations.weights[rows.output]
            place = at if observations.place is None else observations.place[at]
            parts.append((place, x, columns(rows), found.mean, np.sqrt(found.variance), ~bad[at]))
        index, x, readings, mean, sd, good = (np.concatenate(p) for p in zip(*parts, strict=True))
        gain = response.input_map[None] if response.single else response.gain
        return cls(index, x, readings, mean, sd, good, names[: readings.shape[1]], gain)

    def thinned(self, most: int) -> Leftover:
        """The same of ``most`` outputs, for searches that look at them many times."""
        if self.outputs <= most:
            return self
        every = np.unique(np.linspace(0, self.outputs - 1, most).astype(int))
        readings, mean, sd = self.readings[:, every], self.mean[:, every], self.sd[:, every]
        return Leftover(self.index, self.inputs, readings, mean, sd, self.good, self.names[every], self.gain[every])

    @cached_property
    def unfitted(self) -> Leftover:
        """The readings as a fit would leave them that expects the same of every row."""
        middle = np.broadcast_to(self.readings[self.good].mean(axis=0), self.readings.shape)
        return replace(self, mean=np.asarray(middle), sd=np.ones_like(self.sd))

    @property
    def outputs(self) -> int:
        """Readings per row."""
        return int(self.readings.shape[1])

    @cached_property
    def error(self) -> Float:
        """(n, M) residuals over the rms that they have in good rows."""
        return np.asarray((self.readings - self.mean) / self.rms)

    @cached_property
    def rms(self) -> Float:
        """(M,) of the residuals of good rows [unit]."""
        left = (self.readings - self.mean)[self.good]
        return np.asarray(np.maximum(np.sqrt((left**2).mean(axis=0)), 1e-300))

    @cached_property
    def percent_of_range(self) -> float:
        """Mean over the outputs of that rms over the range of the good readings [%]."""
        return float(np.mean(100 * self.rms / np.maximum(np.ptp(self.readings[self.good], axis=0), 1e-300)))

    @cached_property
    def score(self) -> Float:
        """(n, M) residuals in standard deviations as the fit states them, bounded."""
        return np.asarray(np.clip((self.readings - self.mean) / self.sd, -FAR, FAR))

    @cached_property
    def signal(self) -> Float:
        """(n, M) what the fit expects, about its mean and over its spread."""
        return self.scaled(self.mean)

    @cached_property
    def design(self) -> Float:
        """(n, 1 + N) one and the inputs, each about its mean and over its spread."""
        return np.concatenate([np.ones((len(self.index), 1)), self.scaled(self.inputs)], axis=1)

    def scaled(self, x: Float) -> Float:
        """Columns (n, k) about the mean of the good rows and over their spread; 0 of those that never change."""
        x = x - x[self.good].mean(axis=0)
        spread = x[self.good].std(axis=0)
        return np.asarray(x / np.where(spread > 1e-9 * max(float(spread.max(initial=0.0)), 1e-300), spread, np.inf))

    def numbers(self, wide: bool) -> int:
        """Numbers that a line of each output has: an offset, and a slope of its signal or of every input."""
        return 1 + self.inputs.shape[1] if wide else 2

    def suffices(self, rows: int, wide: bool) -> bool:
        """Whether so many rows tell the slopes of a line."""
        return rows >= PLENTY * self.numbers(wide) and (not wide or self.inputs.shape[1] <= WIDEST)

    def beside(self, own: Mask, wide: bool) -> Float:
        """(n, M) what is left of `error` beside the line of each output through the rows ``own``.

        Parameters
        ----------
        wide
            Whether every input has a slope of its own; the lines are over what the fit expects otherwise.
        """
        e = self.error
        if wide:
            return np.asarray(e - self.design @ least_squares(self.design[own], e[own]))
        s = self.signal
        middle, level = s[own].mean(axis=0), e[own].mean(axis=0)
        off = s[own] - middle
        slope = (off * (e[own] - level)).sum(axis=0) / np.maximum((off**2).sum(axis=0), 1e-300)
        return np.asarray(e - level - (s - middle) * slope)

    def apart(self, groups: Sequence[Mask], wide: bool) -> Float | None:
        """(M,) mean square that is left where each group of good rows has its own lines; None of too few rows."""
        total, freedom = np.zeros(self.outputs), 0
        for group in groups:
            own = group & self.good
            rows = int(own.sum())
            if not self.suffices(rows, wide):
                return None
            total += (self.beside(own, wide)[own] ** 2).sum(axis=0)
            freedom += rows - self.numbers(wide)
        return np.asarray(total / freedom)


def least_squares(design: Float, values: Float) -> Float:
    """(p, M) coefficients of columns (n, p), with ill-determined directions held at nothing."""
    gram = design.T @ design
    ridge = 1e-10 * max(float(np.trace(gram)) / max(len(gram), 1), 1e-300)
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), design.T @ values))
