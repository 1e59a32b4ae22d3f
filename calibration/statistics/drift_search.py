"""Which coefficients walk, how fast, and where they step: by likelihood ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.statistics.random_walk import CourseObservations, Posterior, still2, still_step_chi2
from calibration.statistics.tails import chi2_isf, chi2_sf

Float = NDArray[np.float64]

WALK_FALSE_ALARM = 0.005
UNDECIDED = 3.0  # log-likelihood between two coefficients, up to which the first of them, the gain, is taken
ALONE = 0.25  # of that, for the one that explains most where none is evident beside the others
JUMP_FALSE_ALARM = 0.002
JUMPS_MAX = 8
BLOCKS = 200
"""Blocks of equal information in which walks and jumps are searched; the rate is then refined on all times."""
DECADES = 14
"""Rates are looked for from `still2` up to so many decades above: beyond, what neighbours tell each other of a state is
lost in the rounding of what is read of it, and the posterior's precision is not positive definite in floating point."""


@dataclass(frozen=True)
class Fit:
    """Walks fitted to blocks of the observations, the steps given.

    Attributes
    ----------
    name
        `model_name`
    walk2
        (p,) variance per second of each coefficient.
    walks
        (p,) which coefficients are seen to walk.
    p_value
        (p,) probability that a coefficient at rest would seem to walk as much.
    log_likelihood
        Marginal, of the blocks.
    """

    name: str
    walk2: Float
    walks: NDArray[np.bool_]
    p_value: Float
    log_likelihood: float


def search(
    observations: CourseObservations, walk_false_alarm: float = WALK_FALSE_ALARM
) -> tuple[list[Fit], list[int], list[float]]:
    """Find which coefficients walk, and where they step: one step after another, for as long as each is evident.

    Parameters
    ----------
    walk_false_alarm
        Probability with which a walk of any coefficient is found where none walks.

    Returns
    -------
    The fits that were tried, the last of which is the chosen one; indices of the observations after which the
    coefficients step, in the order found; and the p-value of each step.
    """
    fits = _fit(observations, [], walk_false_alarm)
    steps: list[int] = []
    p_values: list[float] = []
    places, p = len(observations) - 1, observations.score.shape[1]
    least = 0.5 * float(chi2_isf(JUMP_FALSE_ALARM / max(places, 1), p))
    while places > 1 and len(steps) < JUMPS_MAX:
        candidates = _candidates(observations, fits[-1], steps) - set(steps)
        tried = [(_gain(observations, steps, c, fits[-1], least), c) for c in candidates]
        gain, best = max(tried, default=(0.0, 0))
        if gain < least:
            break
        p_value = places * float(chi2_sf(2 * gain, p))
        steps.append(best)
        p_values.append(p_value)
        fits += _fit(observations, steps, walk_false_alarm)[-1:]
    return fits, steps, p_values


def _candidates(observations: CourseObservations, fit: Fit, steps: list[int]) -> set[int]:
    """Places where one more step may be.

    The likeliest place if the coefficients otherwise stand still, if they walk as ``fit`` says, and if they walk more
    slowly: a walk that was fitted without the step has already taken part of it.
    """
    slow = still2(observations)
    found = set()
    for walk2 in (fit.walk2, np.maximum(fit.walk2 / 30, slow)):
        found.add(int(np.argmax(Posterior(observations, walk2, steps).step_chi2())))
    rest = observations.less(Posterior(observations, slow, steps).level)
    found.add(int(np.argmax(still_step_chi2(rest))))
    return found


def _gain(observations: CourseObservations, steps: list[int], candidate: int, fit: Fit, least: float) -> float:
    """Log-likelihood that one more step wins, walks fitted with and without it; 0 if far below ``least``."""
    blocks, cuts = observations.thinned(BLOCKS, [*steps, candidate])
    slow = still2(blocks)
    rates = [np.maximum(fit.walk2 / slower, slow) for slower in (1, 30, 1e30)]
    without, rough = (max(Posterior(blocks, walk2, s).log_likelihood for walk2 in rates) for s in (cuts[:-1], cuts))
    if rough - without < least / 2:
        return 0.0
    return likeliest(blocks, cuts)[1] - likeliest(blocks, cuts[:-1])[1]


def _fit(observations: CourseObservations, steps: list[int], walk_false_alarm: float) -> list[Fit]:
    """Coefficients at rest, then, where any is seen to walk, the walks that are evident."""
    blocks, cuts = observations.thinned(BLOCKS, steps)
    p = blocks.score.shape[1]
    slow, nothing = still2(blocks), np.zeros(p, np.bool_)
    rest = Posterior(blocks, slow, cuts).log_likelihood
    free, free_likelihood = likeliest(blocks, cuts)
    p_value = np.ones(p)
    for j in range(p):
        without = rest if p == 1 else likeliest(blocks, cuts, held=np.arange(p) == j)[1]
        ratio = 2 * (free_likelihood - without)
        p_value[j] = 0.5 * chi2_sf(ratio, 1) if ratio > 0 else 1.0
    walks = p_value < walk_false_alarm / p
    if p > 1 and not walks.any():
        # where each could take the place of the other, neither is missed; one of them may be evident all the same
        alone = [likeliest(blocks, cuts, held=np.arange(p) != j)[1] for j in range(p)]
        # observations that are all alike cannot tell which it is; sources walk more often than black levels do
        j = next(j for j in range(p) if alone[j] >= max(alone) - UNDECIDED)
        p_value[j] = min(p_value[j], 0.5 * float(chi2_sf(max(2 * (alone[j] - rest), 0.0), 1)))
        # both together are as likely, or rounding has the say
        walks[j] = p_value[j] < ALONE * walk_false_alarm / p and alone[j] < free_likelihood + 1
        free = np.where(walks, likeliest(blocks, cuts, held=~walks)[0], slow)
    still = Fit(model_name(nothing, steps), slow, nothing, p_value, rest)
    if not walks.any():
        return [still]
    walk2 = np.where(walks, free, slow)
    return [still, Fit(model_name(walks, steps), walk2, walks, p_value, Posterior(blocks, walk2, cuts).log_likelihood)]


def likeliest(
    blocks: CourseObservations, steps: Sequence[int], held: NDArray[np.bool_] | None = None
) -> tuple[Float, float]:
    """Rates (p,) of greatest marginal likelihood, and that; coefficients that are ``held`` (p,) stand still."""
    slow = still2(blocks)
    best, moves = slow.copy(), np.ones(len(slow), bool) if held is None else ~held
    for j in range(len(slow)):
        if moves[j]:
            trials = [np.where(np.arange(len(slow)) == j, slow * 10.0**e, best) for e in range(0, DECADES + 1, 2)]
            best = max(trials, key=lambda walk2: Posterior(blocks, walk2, steps).log_likelihood)
    return _climb(blocks, steps, best, moves)


def _climb(
    observations: CourseObservations, steps: Sequence[int], start: Float, free: NDArray[np.bool_]
) -> tuple[Float, float]:
    """From ``start`` to the top of the marginal likelihood, in the logarithms of the rates that are ``free``."""
    low = np.log(still2(observations))

    def cost(log_free: Float) -> tuple[float, Float]:
        walk2 = start.copy()
        walk2[free] = np.exp(log_free)
        posterior = Posterior(observations, walk2, steps)
        return -posterior.log_likelihood, -posterior.gradient()[free]

    if not free.any() or len(observations) < 3:
        return start, Posterior(observations, start, steps).log_likelihood
    bounds = [(x, x + DECADES * np.log(10.0)) for x in low[free]]
    options = {"ftol": 1e-7, "gtol": 1e-2}
    found = scipy.optimize.minimize(
        cost, np.log(start[free]), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    walk2 = start.copy()
    walk2[free] = np.exp(found.x)
    return walk2, -float(found.fun)


def refine(observations: CourseObservations, fit: Fit, steps: list[int]) -> Float:
    """(p,) rates of the walks that ``fit`` has, fitted again to all observations instead of to blocks."""
    start = np.where(fit.walks, fit.walk2, still2(observations))
    return _climb(observations, steps, start, fit.walks)[0]


def walk_error(observations: CourseObservations, walk2: Float, steps: list[int], walks: NDArray[np.bool_]) -> Float:
    """(p,) relative standard error of √q from the curvature of the likelihood; 0 for what stands still."""
    if not walks.any():
        return np.zeros(len(walk2))
    factor = np.where(walks, 1.5, 1.0)
    up, down = (Posterior(observations, w, steps).gradient() for w in (walk2 * factor, walk2 / factor))
    curvature = np.maximum((down - up) / (2 * np.log(1.5)), 1e-12)
    return np.asarray(np.where(walks, 0.5 / np.sqrt(curvature), 0.0))


def held_out(observations: CourseObservations) -> dict[str, float]:
    """How well models that are fitted to the first half of the information predict the second: log-likelihoods.

    ``"still"`` and ``"walk"``, relative to ``"still"``; each observation is predicted from all those before it. Empty
    where the first half does not determine every coefficient.
    """
    trace = np.diagonal(observations.information, axis1=1, axis2=2) / np.maximum(np.diag(observations.total), 1e-300)
    half = int(np.searchsorted(trace.sum(axis=1).cumsum(), trace.sum() / 2)) + 1
    first = observations.until(half)
    if half >= len(observations) or np.linalg.matrix_rank(first.total, hermitian=True) < observations.score.shape[1]:
        return {}
    blocks, _ = first.thinned(BLOCKS, [])
    slow = still2(first)
    still, walk = (
        Posterior(observations, walk2).log_likelihood - Posterior(first, walk2).log_likelihood
        for walk2 in (slow, np.maximum(likeliest(blocks, [])[0], slow))
    )
    return {"still": 0.0, "walk": walk - still}


def model_name(walks: NDArray[np.bool_], steps: Sequence[int]) -> str:
    """Name of a model in reports: ``"still"`` or ``"walk"``, and ``" with jumps"`` where there are any."""
    return ("walk" if walks.any() else "still") + (" with jumps" if len(steps) else "")
