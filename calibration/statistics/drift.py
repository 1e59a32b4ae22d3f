"""Drift: the course of a few coefficients over a run, with a band, a rate, and the steps in it.

Coefficients (the gain's relative deviation, an offset …) follow independent random walks and may step; each frame says
something about them. The walk's rate is the likeliest; whether there is a walk at all, and where it steps, is decided
by likelihood ratios. See `calibration.statistics.random_walk` for the algebra.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.statistics.choice import Choice
from calibration.statistics.drift_search import WALK_FALSE_ALARM, held_out, model_name, refine, search, walk_error
from calibration.statistics.random_walk import CourseObservations, Posterior

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Jump:
    """A sudden change of all coefficients between two observations.

    Attributes
    ----------
    index
        Index of the first observation after the jump.
    at_s
        Midway between the observations before and after it [s].
    size, stderr, z
        (p,) by how much each coefficient changed, its standard error, and size / stderr; 0 for a coefficient that was
        not observed on both sides of the jump.
    p_value
        Probability that a drift without this jump would show a step as large at any time of the run.
    """

    index: int
    at_s: float
    size: Float
    stderr: Float
    z: Float
    p_value: float


@dataclass(frozen=True)
class DriftTrack:
    """The course of p coefficients, as all n observations tell it.

    Attributes
    ----------
    names
        Names of the coefficients.
    at_s
        (n,) times of the observations [s].
    value, covariance
        (n, p) and (n, p, p): the coefficients at the time of each observation, smoothed over all observations, and
        their covariance.
    left_out_value, left_out_covariance
        The same as all *other* observations tell it; the covariance is infinite where they do not determine it.
    walk_per_sqrt_s, walk_relative_stderr
        (p,) standard deviation by which each coefficient has walked after one second, 0 for one that stands still, and
        the relative standard error of that rate.
    walk_p_value
        (p,) probability that a coefficient which stands still would seem to walk as much.
    model
        ``"still"``, ``"walk"``, ``"still with jumps"`` or ``"walk with jumps"``.
    jumps
        In order of time.
    log_likelihood
        Of each model that was tried, relative to the first.
    held_out_log_likelihood
        How well the models ``"still"`` and ``"walk"``, fitted to the first half of the information, predict the second
        half, each observation from those before it; relative to ``"still"``. The jumps are taken out beforehand.
    known
        The part of the course that something else than the observations tells; the model is of the rest.
    beside
        What was decided of a monitor that might tell such a part; None where none was asked.
    """

    names: tuple[str, ...]
    at_s: Float
    value: Float
    covariance: Float
    left_out_value: Float
    left_out_covariance: Float
    walk_per_sqrt_s: Float
    walk_relative_stderr: Float
    walk_p_value: Float
    model: str
    jumps: tuple[Jump, ...]
    log_likelihood: dict[str, float]
    held_out_log_likelihood: dict[str, float]
    _knots: _Knots
    known: KnownCourse | None = None
    beside: Choice | None = None

    def at(self, at_s: Float) -> tuple[Float, Float]:
        """(m, p) and (m, p, p): the course at any times (m,) [s].

        Between two observations the course is a Brownian bridge; before the first and after the last the variance
        grows as the coefficients walk. A jump lies with equal probability anywhere between the two observations that
        enclose it.
        """
        at_s = np.atleast_1d(np.asarray(at_s, np.float64))
        value, covariance = self._knots.at(at_s)
        if self.known is None:
            return value, covariance
        known, uncertain = self.known.at(at_s, len(self.names))
        return value + known, covariance + uncertain

    def in_words(self, rows: bool = False) -> str:
        """One line for a person; with ``rows`` the times of the course count rows of data instead of seconds."""
        parts, per_root = [], "√row" if rows else "√s"
        for j, name in enumerate(self.names):
            course = self.value[:, j]
            if self.walk_per_sqrt_s[j]:
                parts.append(
                    f"{name} walks {self.walk_per_sqrt_s[j]:.2g}/{per_root}, {np.ptp(course):.2g} over the run"
                )
            else:
                parts.append(f"{name} {'stands still between jumps' if self.jumps else 'stands still'}")
        for jump in self.jumps:
            j = int(np.argmax(np.abs(jump.z)))
            when = f"row {jump.at_s:.0f}" if rows else f"{jump.at_s:.1f} s"
            parts.append(f"{self.names[j]} jumps by {jump.size[j]:+.2g} at {when} ({abs(jump.z[j]):.0f} σ)")
        if self.known is not None:
            parts.append("beside what the monitor explains")
        return "; ".join(parts)


@dataclass(frozen=True)
class KnownCourse:
    """How the first coefficient moves as a monitor tells it: its smoothed readings, times a slope.

    Attributes
    ----------
    readings
        The course of the readings, relative to their mean.
    slope, slope_stderr
        Change of the coefficient for a relative change of the reading of one [1].
    zero
        Of the readings: where the coefficient is zero.
    """

    readings: DriftTrack
    slope: float
    slope_stderr: float
    zero: float

    def at(self, at_s: Float, coefficients: int) -> tuple[Float, Float]:
        """(m, p) and (m, p, p): what is known of ``coefficients`` of them at times (m,) [s]."""
        reading, uncertain = self.readings.at(at_s)
        change = reading[:, 0] - self.zero
        value, covariance = np.zeros((len(at_s), coefficients)), np.zeros((len(at_s), coefficients, coefficients))
        value[:, 0] = self.slope * change
        covariance[:, 0, 0] = self.slope**2 * uncertain[:, 0, 0] + self.slope_stderr**2 * change**2
        return value, covariance

    def centred(self, at_s: Float) -> KnownCourse:
        """Zero in the mean over these times."""
        return replace(self, zero=float(self.readings.at(at_s)[0].mean()))


def track(
    at_s: Float,
    information: Float,
    score: Float,
    names: tuple[str, ...],
    *,
    reference_s: tuple[float, float] | None = None,
    known: KnownCourse | None = None,
    walk_false_alarm: float = WALK_FALSE_ALARM,
) -> DriftTrack:
    """Follow coefficients over a run.

    Parameters
    ----------
    at_s
        (n,) times in any order; several observations may share one [s].
    information, score
        (n, p, p) Λ and (n, p) s: observation i has the log-likelihood ``s_iᵀ θ − ½ θᵀ Λ_i θ``. Λ may be singular.
    names
        Of the p coefficients.
    reference_s
        First and last time of the epoch over whose observed times the course has mean zero [s]; the course is as
        observed if omitted.
    known
        A part of the course that is known beforehand: walks and jumps are sought in what it leaves.
    walk_false_alarm
        Probability with which coefficients that stand still are taken to walk.

    Raises
    ------
    FitError
        When all observations together do not determine every coefficient, or the epoch contains none.
    """
    if known is not None:
        return _beside(at_s, information, score, names, reference_s, known, walk_false_alarm)
    observations, knot = gather(at_s, information, score)
    rank = _rank(observations.total)
    if rank < len(names):
        raise FitError(
            "the observations do not determine the drift",
            action="drift",
            expected=f"information on {', '.join(names)}",
            seen=f"rank {rank} of {len(names)}",
        )
    fits, steps, p_values = search(observations, walk_false_alarm)
    chosen = fits[-1]
    walk2 = refine(observations, chosen, steps)
    posterior = Posterior(observations, walk2, steps)
    knots, left_out = _knots_of(posterior, chosen.walks, reference_s)
    out_value, out_covariance = left_out.of(knot, information, score)
    order = np.argsort(steps)
    return DriftTrack(
        names=names,
        at_s=np.asarray(at_s, np.float64),
        value=knots.value[knot],
        covariance=knots.covariance[knot],
        left_out_value=out_value,
        left_out_covariance=out_covariance,
        walk_per_sqrt_s=np.sqrt(knots.walk2),
        walk_relative_stderr=walk_error(observations, walk2, steps, chosen.walks),
        walk_p_value=chosen.p_value,
        model=model_name(chosen.walks, steps),
        jumps=tuple(_jump(posterior, int(c), knot, p_values[c]) for c in order),
        log_likelihood={fit.name: fit.log_likelihood - fits[0].log_likelihood for fit in fits},
        held_out_log_likelihood=held_out(observations.less(posterior.level)),
        _knots=knots,
    )


def _rank(information: Float) -> int:
    """Of a symmetric matrix, whatever units its coefficients have."""
    scale = np.sqrt(np.maximum(np.diag(information), np.finfo(np.float64).tiny))
    return int(np.linalg.matrix_rank(information / np.outer(scale, scale), hermitian=True))


def _beside(
    at_s: Float,
    information: Float,
    score: Float,
    names: tuple[str, ...],
    reference_s: tuple[float, float] | None,
    known: KnownCourse,
    walk_false_alarm: float,
) -> DriftTrack:
    """As `track`: what the known part leaves is followed, and the known part is put back."""
    times = np.unique(np.asarray(at_s, np.float64))
    if reference_s is not None:
        known = known.centred(times[(times >= reference_s[0]) & (times <= reference_s[1])])
    level, uncertain = known.at(np.asarray(at_s, np.float64), len(names))
    rest = track(
        at_s,
        information,
        score - np.einsum("nij,nj->ni", information, level),
        names,
        reference_s=reference_s,
        walk_false_alarm=walk_false_alarm,
    )
    # what drifts from now on is both: what is left, and what the monitor saw
    walk, error = rest.walk_per_sqrt_s.copy(), rest.walk_relative_stderr.copy()
    seen = abs(known.slope) * known.readings.walk_per_sqrt_s[0]
    walk[0] = np.hypot(rest.walk_per_sqrt_s[0], seen)
    if seen > rest.walk_per_sqrt_s[0]:
        error[0] = known.readings.walk_relative_stderr[0]
    return replace(
        rest,
        value=rest.value + level,
        covariance=rest.covariance + uncertain,
        left_out_value=rest.left_out_value + level,
        left_out_covariance=rest.left_out_covariance + uncertain,
        walk_per_sqrt_s=walk,
        walk_relative_stderr=error,
        model=f"{rest.model} beside a monitor",
        known=known,
    )


@dataclass(frozen=True)
class _Knots:
    """The smoothed course at the k different times, and how to go between them."""

    at_s: Float
    value: Float
    covariance: Float
    lag: Float
    walk2: Float
    jumped: Float  # (k − 1, p) steps in each interval

    def at(self, at_s: Float) -> tuple[Float, Float]:
        left = np.clip(np.searchsorted(self.at_s, at_s, side="right") - 1, 0, max(len(self.at_s) - 2, 0))
        right = np.minimum(left + 1, len(self.at_s) - 1)
        span = np.maximum(self.at_s[right] - self.at_s[left], 1e-300)
        a = np.clip((at_s - self.at_s[left]) / span, 0.0, 1.0)[:, None]
        b = a[:, :, None]
        value = (1 - a) * self.value[left] + a * self.value[right]
        covariance = (1 - b) ** 2 * self.covariance[left] + b**2 * self.covariance[right]
        beyond = np.maximum(self.at_s[0] - at_s, 0.0) + np.maximum(at_s - self.at_s[-1], 0.0)
        walked = beyond[:, None] + a * (1 - a) * span[:, None]
        if len(self.lag):
            covariance += b * (1 - b) * (self.lag[left] + self.lag[left].swapaxes(1, 2))
            step = self.jumped[left]
            covariance += b * (1 - b) * step[:, :, None] * step[:, None, :]
        return value, covariance + walked[:, :, None] * np.diag(self.walk2)


def gather(at_s: Float, information: Float, score: Float) -> tuple[CourseObservations, NDArray[np.intp]]:
    """One observation for each different time, and which one each belongs to."""
    times, knot = np.unique(np.asarray(at_s, np.float64), return_inverse=True)
    p = score.shape[1]
    lambdas, scores = np.zeros((len(times), p, p)), np.zeros((len(times), p))
    np.add.at(lambdas, knot, information)
    np.add.at(scores, knot, score)
    return CourseObservations(times, lambdas, scores), knot


@dataclass(frozen=True)
class _LeftOut:
    """Takes one observation at a time out of the smoothed course, by the formula of Sherman, Morrison and Woodbury.

    Where the course is zero in the mean over a reference epoch, its zero is found again without the observation.
    """

    raw: Float  # (k, p) states before the reference epoch's mean is taken off
    raw_covariance: Float
    value: Float
    covariance: Float
    with_state: Float  # (k, p, p) Cov(course, state)

    def of(self, knot: NDArray[np.intp], information: Float, score: Float) -> tuple[Float, Float]:
        """(n, p) and (n, p, p) for the observations at ``knot`` (n,)."""
        sigma, y = self.raw_covariance[knot], self.with_state[knot]
        rest = np.eye(score.shape[1]) - information @ sigma  # 0 where an observation is all that is known
        determined = np.abs(np.linalg.det(rest)) > 1e-9
        rest[~determined] = np.eye(score.shape[1])
        surprise = score - np.einsum("nij,nj->ni", information, self.raw[knot])
        shift = np.linalg.solve(rest, surprise[:, :, None])
        value = self.value[knot] - (y @ shift)[:, :, 0]
        covariance = self.covariance[knot] + y @ np.linalg.solve(rest, information) @ y.swapaxes(1, 2)
        value[~determined], covariance[~determined] = 0.0, np.inf
        return value, covariance


def _knots_of(
    posterior: Posterior, walks: NDArray[np.bool_], reference_s: tuple[float, float] | None
) -> tuple[_Knots, _LeftOut]:
    raw_covariance, lag = posterior.covariances()
    raw, at_s = posterior.value, posterior.observations.at_s
    value, covariance, with_state = raw, raw_covariance, raw_covariance
    if reference_s is not None:
        among = (at_s >= reference_s[0]) & (at_s <= reference_s[1])
        if not among.any():
            raise FitError(
                "no observation lies in the reference epoch",
                action="drift",
                expected=f"times in {reference_s[0]:g} … {reference_s[1]:g} s",
                seen=f"{at_s[0]:g} … {at_s[-1]:g} s",
            )
        with_mean = posterior.covariance_with_mean(among)
        of_mean = with_mean[among].mean(axis=0)
        value = raw - raw[among].mean(axis=0)
        with_state = raw_covariance - with_mean.swapaxes(1, 2)
        covariance = with_state - with_mean + of_mean
        lag = lag - with_mean[:-1] - with_mean[1:].swapaxes(1, 2) + of_mean
    jumped = np.zeros((len(at_s) - 1, raw.shape[1]))
    jumped[list(posterior.steps)] = posterior.size
    knots = _Knots(at_s, value, covariance, lag, np.where(walks, posterior.walk2, 0.0), jumped)
    return knots, _LeftOut(raw, raw_covariance, value, covariance, with_state)


def _jump(posterior: Posterior, c: int, knot: NDArray[np.intp], p_value: float) -> Jump:
    step, p = posterior.steps[c], posterior.size.shape[1]
    at_s = posterior.observations.at_s
    stderr = np.sqrt(np.diag(posterior.size_covariance)[c * p : (c + 1) * p])
    after = int(np.nonzero(knot == step + 1)[0][0])
    middle = float(at_s[step : step + 2].mean())
    z = np.divide(posterior.size[c], stderr, out=np.zeros(p), where=stderr > 0)
    return Jump(after, middle, posterior.size[c], stderr, z, p_value)
