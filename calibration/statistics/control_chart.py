"""Control charts: whether one number of a night still is what it was, by an exponentially weighted moving average.

The average of Roberts (1959) with the exact variance of its first points (Lucas and Saccucci, Technometrics 32, 1990).
Centre and spread are learned from the first nights, robustly: a median, and the median distance from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
State = Literal["learning", "in_control", "alarm", "acknowledged"]

WEIGHT = 0.2
"""Share of the newest night in the moving average, λ."""
ALARM_AT = 3.5
"""Standard deviations of the moving average from the centre at which a chart fires, L."""
LEARNING_NIGHTS = 20
FROZEN_AFTER = 50
"""Nights from which centre and spread are estimated once more, and then never again in this phase."""
NORMAL_MAD = 1.482602218505602
"""Standard deviation over median absolute deviation, of a normal law."""
MEDIAN_VARIANCE = np.pi / 2
"""Variance of a median of many normal values, in units of that of their mean."""
RESOLUTION = 1e-9
"""Smallest spread that is told from none, relative to the values: numbers that never change have no noise."""


@dataclass(frozen=True)
class Baseline:
    """What a metric is while nothing happens.

    Attributes
    ----------
    centre, sigma
        Of single nights.
    nights
        That these were learned from; 0 where they are known.
    """

    centre: float
    sigma: float
    nights: int = 0

    def spread(self, nights: int, weight: float = WEIGHT) -> float:
        """Standard deviation of the moving average's distance from the centre after so many nights.

        The centre's own error is in it: a centre learned from a few nights is not where the true one is.
        """
        start = weight / (2 - weight) * (1 - (1 - weight) ** (2 * nights))
        return self.sigma * float(np.sqrt(start + (MEDIAN_VARIANCE / self.nights if self.nights else 0.0)))


@dataclass(frozen=True)
class Point:
    """One night on a chart.

    Attributes
    ----------
    value
        Of the metric.
    phase, night
        Which phase it is in, from 0, and which night of that phase it is, from 1.
    state
        ``learning``, ``in_control``, ``alarm`` or ``acknowledged``.
    baseline
        What it is compared with; None while the chart learns.
    average
        The moving average; None while the chart learns.
    spread
        Its standard deviation; None while the chart learns.
    """

    value: float
    phase: int
    night: int
    state: State
    baseline: Baseline | None = None
    average: float | None = None
    spread: float | None = None

    @property
    def z(self) -> float | None:
        """Distance of the moving average from the centre in its standard deviations."""
        if self.baseline is None or self.average is None or self.spread is None:
            return None
        return (self.average - self.baseline.centre) / self.spread


def learned(values: Sequence[float], error: float = 0.0) -> Baseline:
    """Centre and spread of nights, however wild a few of them are.

    Parameters
    ----------
    error
        Standard error of a single night's value: nights differ by no less.
    """
    data = np.asarray(values, np.float64)
    centre = float(np.median(data))
    sigma = NORMAL_MAD * small_sample(len(data)) * float(np.median(np.abs(data - centre)))
    smallest = RESOLUTION * float(np.abs(data).max()) or np.finfo(float).tiny
    return Baseline(centre, max(sigma, error, smallest), len(data))


def small_sample(n: int) -> float:
    """By how much the median absolute deviation of n normal values is too small, on average (Williams 2011)."""
    return 1.0 / (1.0 - 0.76213 / n - 0.86413 / n**2) if n > 2 else 1.0


def moving_average(values: Float, centre: float, weight: float = WEIGHT) -> Float:
    """The average after each night, begun at the centre.

    Parameters
    ----------
    values
        (nights, …)
    """
    averages, last = np.empty_like(values), np.full(values.shape[1:], centre)
    for i, value in enumerate(values):
        last = averages[i] = (1 - weight) * last + weight * value
    return averages


@dataclass
class _Phase:
    """A chart from where its phase began."""

    number: int
    widened: float = 1.0
    steady: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    nights: int = 0
    baseline: Baseline | None = None
    average: float = 0.0
    watched: int = 0
    fires: bool = False
    acknowledged: bool = False

    def add(self, value: float, error: float) -> Point:
        """One more night."""
        self.nights += 1
        if self.baseline is None:
            self._learn(value, error)
            return Point(value, self.number, self.nights, "learning")
        self.watched += 1
        self.average = (1 - WEIGHT) * self.average + WEIGHT * value
        baseline = self.baseline
        spread = baseline.spread(self.watched)
        self.fires = abs(self.average - baseline.centre) > ALARM_AT * spread
        self.acknowledged &= self.fires
        state: State = "in_control" if not self.fires else "acknowledged" if self.acknowledged else "alarm"
        if not self.fires:
            self._learn(value, error)
        return Point(value, self.number, self.nights, state, baseline, self.average, spread)

    def _learn(self, value: float, error: float) -> None:
        """Nights that fire teach nothing: a drift that was found is not learned away."""
        if len(self.steady) < FROZEN_AFTER:
            self.steady.append(value)
            self.errors.append(error)
            if len(self.steady) in (LEARNING_NIGHTS, FROZEN_AFTER):
                first = self.baseline is None
                found = learned(self.steady, float(np.median(self.errors)))
                self.baseline = replace(found, sigma=self.widened * found.sigma)
                self.average = self.baseline.centre if first else self.average


def control_chart(
    values: Sequence[float],
    errors: Sequence[float] | None = None,
    phases: Sequence[bool] | None = None,
    acknowledged: Sequence[bool] | None = None,
    widened: float = 1.0,
) -> list[Point]:
    """A metric night by night.

    A chart learns for `LEARNING_NIGHTS`, then watches, and learns once more when it has seen `FROZEN_AFTER` nights that
    did not fire. An acknowledged alarm is silent until the average has returned and fires anew.

    Parameters
    ----------
    values
        One for each night, finite.
    errors
        Standard error of each; 0 where it is not known.
    phases
        Whether a new phase begins with the night: what was learned before counts no more.
    acknowledged
        Whether somebody has acknowledged the alarm before the night.
    widened
        Factor by which the spread is taken to be larger than was learned, for a chart that is to fire for nothing less
        often than others, and finds less.
    """
    n = len(values)
    errors = [0.0] * n if errors is None else errors
    phases = [False] * n if phases is None else phases
    acknowledged = [False] * n if acknowledged is None else acknowledged
    phase, points = _Phase(0, widened), list[Point]()
    for value, error, begins, silent in zip(values, errors, phases, acknowledged, strict=True):
        if begins and phase.nights:
            phase = _Phase(phase.number + 1, widened)
        phase.acknowledged |= silent and phase.fires
        points.append(phase.add(float(value), float(error)))
    return points
