"""A monitor beside the observations of a drift: used where it predicts them better than they predict each other.

A power meter sees the source all the time, reference frames only now and then. Whether it helps is not assumed: the
course is followed with it and without it. It is applied where it makes what was observed a good deal likelier, walks
fitted with and without it, each observation predicted from those before it; and where each observation is predicted
better from all the others, too. A meter that is noisy, looks at something else, or has stopped does neither, and is
left alone: the course is then the same, to the last bit, as if nobody had asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.statistics.choice import Choice
from calibration.statistics.drift import DriftTrack, KnownCourse, gather, track
from calibration.statistics.drift_search import BLOCKS, WALK_FALSE_ALARM, likeliest
from calibration.statistics.random_walk import CourseObservations, Posterior, still2
from calibration.statistics.tails import chi2_sf

Float = NDArray[np.float64]

READINGS_MIN = 8
FALSE_ALARM = 0.001
"""Probability that a monitor which has nothing to do with the light is applied."""
ROUNDS = 3
SIGMA = 4.0
"""A slope that is one to within so many standard errors is one: what a meter of the source's power has."""
NOISE_SHARE_MIN = 0.02
"""Share of the mean square of the steps from one reading to the next that is noise, at least."""
STATISTIC = "χ²(1)"
ALONE = "reference frames alone"


@dataclass(frozen=True)
class MonitorReadings:
    """What a monitor said over a run, while the light was on.

    Attributes
    ----------
    name
        Of the device.
    at_s, value
        (n,) times on the clock of the observations [s], and readings in any unit.
    """

    name: str
    at_s: Float
    value: Float


def track_beside(
    monitor: MonitorReadings | None,
    at_s: Float,
    information: Float,
    score: Float,
    names: tuple[str, ...],
    *,
    reference_s: tuple[float, float] | None = None,
    walk_false_alarm: float = WALK_FALSE_ALARM,
) -> DriftTrack:
    """As `calibration.statistics.drift.track`, with a monitor that may explain the first coefficient.

    Parameters
    ----------
    monitor
        None where no monitor is asked.
    at_s, information, score, names, reference_s, walk_false_alarm
        As of `track`.

    Returns
    -------
    The better of the two courses; its ``beside`` says which it is and why.
    """
    followed = partial(track, at_s, information, score, names, walk_false_alarm=walk_false_alarm)
    alone = followed(reference_s=reference_s)
    if monitor is None:
        return alone
    try:
        found = _known(monitor, at_s, information, score)
        if isinstance(found, str):
            return replace(alone, beside=_refused(monitor.name, found))
        chi2 = 2 * _evidence(found, at_s, information, score)
        beside, without = (_held_out(followed(known=known), information, score) for known in (found, None))
        course = followed(reference_s=reference_s, known=found)
    except (FitError, np.linalg.LinAlgError) as error:
        return replace(alone, beside=_refused(monitor.name, f"what it leaves cannot be followed ({error})"))
    p_value, gain = float(chi2_sf(max(chi2, 0.0), 1)), beside - without
    if not np.isfinite([chi2, gain]).all():
        return replace(alone, beside=_refused(monitor.name, "what it leaves of the drift cannot be followed"))
    figures = f"χ²(1) = {chi2:.1f}, p = {p_value:.1e}; log likelihood of held-out reference frames {gain:+.1f}"
    if p_value > FALSE_ALARM or gain <= 0:
        why = f"the reference frames are explained no better with it; {figures}"
        return replace(alone, beside=_refused(monitor.name, why, chi2, p_value))
    reason = f"the monitor {monitor.name} explains the drift: applied, at a slope of {found.slope:.2f}; {figures}"
    return replace(course, beside=Choice(f"with {monitor.name}", STATISTIC, chi2, p_value, ALONE, reason))


def _refused(name: str, why: str, chi2: float = 0.0, p_value: float = 1.0) -> Choice:
    reason = f"the monitor {name} is not applied to the drift: {why}"
    return Choice(ALONE, STATISTIC, chi2, p_value, f"with {name}", reason)


def _known(monitor: MonitorReadings, at_s: Float, information: Float, score: Float) -> KnownCourse | str:
    """What the monitor knows, or why it knows nothing."""
    finite = np.isfinite(monitor.value) & np.isfinite(monitor.at_s)
    times, first = np.unique(monitor.at_s[finite], return_index=True)
    value = monitor.value[finite][first]
    if len(value) < READINGS_MIN:
        return f"{len(value)} readings, of which {READINGS_MIN} are needed"
    mean = float(np.median(value))
    if mean <= 0:
        return f"it reads {mean:g} with the light on"
    relative = value / mean - 1
    noise2 = _noise2(relative)
    if noise2 == 0:
        return "its reading never changes"
    weight = np.full((len(times), 1, 1), 1 / noise2)
    readings = track(times, weight, relative[:, None] / noise2, ("reading",))
    observations, _ = gather(at_s, information, score)
    slope = _slope(observations, readings.at(observations.at_s)[0][:, 0])
    if slope is None:
        return "its reading does not change more than its noise"
    value_, stderr = slope
    if abs(value_ - 1) < SIGMA * stderr:
        value_, stderr = 1.0, 0.0
    return KnownCourse(readings, value_, stderr, 0.0)


def _noise2(relative: Float) -> float:
    """Variance of the noise of a reading: of what does not grow from steps of one reading to steps of two."""
    one, two = (float(np.mean((relative[k:] - relative[:-k]) ** 2)) for k in (1, 2))
    return max(one - two / 2, NOISE_SHARE_MIN * one) if one else 0.0


def _slope(observations: CourseObservations, reading: Float) -> tuple[float, float] | None:
    """Slope of the first coefficient on the reading, and its standard error; the rest walks as is likeliest.

    For given walks the likelihood is a parabola in the slope; the walks are fitted to what a slope leaves, in turns.
    """
    level = np.zeros_like(observations.score)
    level[:, 0] = reading - reading.mean()
    linear = float((observations.score * level).sum())
    square = float(np.einsum("ki,kij,kj->", level, observations.information, level))
    slope, stderr = 0.0, 0.0
    for _ in range(ROUNDS):
        walk2 = _walks(observations.less(slope * level))
        low, middle, high = (
            Posterior(observations.less(b * level), walk2).log_likelihood + b * linear - 0.5 * b**2 * square
            for b in (-1.0, 0.0, 1.0)
        )
        bent = 2 * middle - low - high
        if not bent > 0:
            return None
        slope, stderr = (high - low) / 2 / bent, float(1 / np.sqrt(bent))
    return slope, stderr


def _evidence(known: KnownCourse, at_s: Float, information: Float, score: Float) -> float:
    """By how much the log likelihood of the observations is higher with the known course than without it."""
    observations, _ = gather(at_s, information, score)
    level = known.centred(observations.at_s).at(observations.at_s, score.shape[1])[0]
    rest = observations.less(level)
    shift = (observations.score * level).sum() - 0.5 * np.einsum("ki,kij,kj->", level, observations.information, level)
    beside, without = (Posterior(o, _walks(o)).log_likelihood for o in (rest, observations))
    return float(beside + shift - without)


def _walks(observations: CourseObservations) -> Float:
    """(p,) rates of walks of greatest likelihood, evident or not."""
    return np.maximum(likeliest(observations.thinned(BLOCKS, [])[0], [])[0], still2(observations))


def _held_out(course: DriftTrack, information: Float, score: Float) -> float:
    """Log likelihood of each observation as all others predict it, summed, relative to a course of zero."""
    mean, spread = course.left_out_value, course.left_out_covariance
    known = np.isfinite(spread).all(axis=(1, 2))
    mean, spread, information, score = mean[known], spread[known], information[known], score[known]
    left = score - np.einsum("nij,nj->ni", information, mean)
    wider = np.eye(mean.shape[1]) + spread @ information
    explained = np.linalg.solve(wider, (spread @ left[:, :, None]))[:, :, 0]
    likelihood = (score * mean).sum(axis=1) - 0.5 * np.einsum("ni,nij,nj->n", mean, information, mean)
    likelihood += 0.5 * (left * explained).sum(axis=1) - 0.5 * np.linalg.slogdet(wider)[1]
    return float(likelihood.sum())
