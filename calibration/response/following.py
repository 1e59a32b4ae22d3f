"""Follow a bench through a file, row by row: how gain and offset went, what the outputs of a row share, bad rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy
from numpy.typing import NDArray

from calibration.response.residuals import Likelihood, Reduced
from calibration.response.tails import FALSE_ALARM, heavy_tail
from calibration.statistics.bad_frame import normal_score
from calibration.statistics.drift import DriftTrack, track
from calibration.statistics.tails import chi2_isf

Float = NDArray[np.float64]

NAMES = ("gain", "offset")
BLOCKS = 4096  # of rows that the drift is followed through
FEW_BLOCKS = 512  # enough while the response itself still moves
CROWD = 11  # rows of which the larger part must be good for the rest to be bad
WINDOW = 31  # rows of the running median that finds the first bad rows
JITTER_ROWS = 2000
JITTER_SHARES = (
    1.0,
    2 / 3,
    1 / 3,
    0.0,
)  # of what rows seem to share: a faster drift may be the better account of it
FAR = 5.0  # standard deviations beyond which a residual counts no more
SURELY = 5.0  # standard errors
LEAST_NOISE = 1e-4  # of the stated variance
PRECISE = {"ftol": 1e-9, "gtol": 1e-4}


@dataclass(frozen=True)
class Followed:
    """What the rows of a file say about gain and offset.

    Attributes
    ----------
    drift
        `DriftTrack` over blocks of rows.
    level, covariance
        (n, 2) and (n, 2, 2) at each row, from the other rows.
    jitter
        (2, 2) covariance of gain and offset from row to row.
    jitter_chi2
        Twice the log-likelihood that it gains.
    chi2, z
        (n,) of each row with all of this taken into account, relative to the file's own median; as normal deviate.
    bad
        (n,) rows that do not belong to the course.
    block
        Rows per observation of `drift`.
    tail
        By which the bar for bad rows was raised.
    """

    drift: DriftTrack
    level: Float
    covariance: Float
    jitter: Float
    jitter_chi2: float
    chi2: Float
    z: Float
    bad: NDArray[np.bool_]
    block: int
    tail: float

    def judged(self, rows: Reduced, bad: NDArray[np.bool_], tail: float | None, heavy: bool) -> Followed:
        """The same with χ² of every row, and the rows that do not belong to the course of those that are not bad."""
        seen = rows.chi2_given(self.level, self.covariance + self.jitter)
        chi2 = seen / _inflation(seen[~bad], rows.outputs)
        heavier = heavy_tail(chi2[~bad], rows.outputs, heavy) if tail is None else tail
        found = _outlying(seen, rows.outputs, heavier)
        return replace(self, chi2=chi2, z=normal_score(chi2, rows.outputs), bad=found, tail=heavier)

    def predictive(self, rows: Reduced, bad: NDArray[np.bool_]) -> float:
        """Log-likelihood of the good rows, each as the others predict it."""
        good = np.nonzero(~bad)[0]
        return rows.take(good).log_likelihood(self.level[good], self.covariance[good] + self.jitter)


def follow(
    rows: Reduced,
    jitter: Float | None = None,
    bad: NDArray[np.bool_] | None = None,
    blocks: int = BLOCKS,
    tail: float | None = None,
    heavy: bool = True,
) -> Followed:
    """Follow gain and offset through a file and find the rows that do not belong.

    Parameters
    ----------
    rows
        Residuals against the response.
    jitter
        (2, 2) what the outputs of one row share, where it is known; it is estimated otherwise.
    bad
        (n,) rows known to be bad; found by a running median to begin with otherwise.
    blocks
        Of rows, at most.
    tail
        By which the bar for bad rows is raised (`NoiseLaw.tail`); the file's own if omitted.
    heavy
        Whether the file's own tail may be heavy; not while wrong rows are still in the noise law.
    """
    coarse, spread = _coarse(rows)
    known = jitter is not None
    jitter = jitter if jitter is not None else np.diag([spread, 0.0])
    zero = np.zeros((len(rows), 2, 2))
    if bad is None:
        seen = rows.chi2_given(coarse, zero + np.maximum(jitter, np.diag([spread, 0.0])))
        bad = _lone(_outlying(seen, rows.outputs))
    gained = 0.0
    for _ in range(3):
        followed = _pass(rows, jitter, bad, blocks, tail, heavy)
        if not known:
            jitter, gained = _jitter(rows, followed.level, followed.covariance, bad)
            followed = replace(followed, jitter=jitter).judged(rows, bad, tail, heavy)
        if (followed.bad == bad).all():
            break
        bad = followed.bad
    if known:
        return followed
    shares = JITTER_SHARES if jitter.any() else (0.0,)
    tried = []
    for factor in {1.0, _quieter(rows, bad)}:
        quiet = rows.with_noise(factor)
        for share in shares:
            found = _pass(quiet, jitter * share**2, bad, blocks, tail, heavy)
            tried.append((found.predictive(quiet, bad) - 0.5 * float((~bad).sum()) * math.log(factor), found))
    best = max(tried, key=lambda one: one[0])[1]
    return replace(best, jitter_chi2=gained if best.jitter.any() else 0.0)


def _quieter(rows: Reduced, bad: NDArray[np.bool_]) -> float:
    """Variance of the readings over the stated one as neighbouring rows differ by it, where that proves less; else 1.

    Nothing but time tells the noise of a single reading per row from a bench that goes to and fro: all of that is in
    the noise law at first, and beside so much noise no drift is seen. With more outputs these tell it.
    """
    if rows.outputs > 1:
        return 1.0
    z = np.clip(np.sign(rows.score[:, 1]) * np.sqrt(rows.chi2), -FAR, FAR)[~bad]
    whole = float((z**2).mean())
    ratio = 0.5 * float((np.diff(z) ** 2).mean()) / max(whole, 1e-300)
    if ratio > 1 - SURELY / math.sqrt(len(z)):
        return 1.0
    return max(ratio * whole, LEAST_NOISE)


def _pass(
    rows: Reduced, jitter: Float, bad: NDArray[np.bool_], blocks: int, tail: float | None, heavy: bool
) -> Followed:
    """Follow the course of the good rows, and see which rows belong to it, with what rows share given."""
    drift, level, covariance, block = _track(rows, jitter, bad, blocks)
    _place_jumps(rows, drift, level, covariance, jitter, bad, block)
    nothing = np.zeros(len(rows))
    blank = Followed(drift, level, covariance, jitter, 0.0, nothing, nothing, bad, block, 1.0)
    return blank.judged(rows, bad, tail, heavy)


def _coarse(rows: Reduced) -> tuple[Float, float]:
    """Running median of the gain deviations of single rows, and the variance they have beyond noise: (n, 2).

    A median, so that a single bad row does not move it.
    """
    information = np.maximum(rows.information[:, 0, 0], 1e-300)
    gain = rows.score[:, 0] / information
    half = min(WINDOW // 2, max((len(gain) - 1) // 2, 0))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(gain, half, mode="reflect"), 2 * half + 1)
    course = np.concatenate([np.median(part, axis=1) for part in np.array_split(windows, len(gain) // 65536 + 1)])
    spread = (1.4826 * float(np.median(np.abs(gain - course)))) ** 2
    excess = max(spread - float(np.median(1 / information)), 0.0)
    return np.stack([course, np.zeros_like(course)], axis=1), excess


def _outlying(chi2: Float, outputs: int, tail: float = 1.0) -> NDArray[np.bool_]:
    """Rows whose χ² is larger than a bench whose other rows have the χ² that these have would ever show."""
    return np.asarray(chi2 > tail * _inflation(chi2, outputs) * chi2_isf(FALSE_ALARM, outputs))


def _lone(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bad rows without those in crowds: where most of a stretch looks bad, the bench has changed, and that is drift."""
    near = np.convolve(bad, np.ones(CROWD), "same")
    return np.asarray(bad & (near <= CROWD / 2))


def _inflation(chi2: Float, outputs: int) -> float:
    """Median χ² of the rows over that of its law; at least one half, because less would mean a wrong noise law."""
    return max(float(np.median(chi2)) / float(chi2_isf(0.5, outputs)), 0.5)


def _track(rows: Reduced, jitter: Float, bad: NDArray[np.bool_], blocks: int) -> tuple[DriftTrack, Float, Float, int]:
    """Fit the drift to blocks of good rows; give each row the level, and its covariance, that the other blocks tell."""
    information, score = rows.blurred(jitter)
    information = np.where(bad[:, None, None], 0.0, information)
    score = np.where(bad[:, None], 0.0, score)
    block = -(-len(rows) // blocks)
    starts = np.arange(0, len(rows), block)
    drift = track(
        np.add.reduceat(rows.at_s, starts) / np.diff(np.append(starts, len(rows))),
        np.add.reduceat(information, starts, axis=0),
        np.add.reduceat(score, starts, axis=0),
        NAMES,
    )
    level, covariance = drift.left_out_value, drift.left_out_covariance
    known = np.nonzero(np.isfinite(covariance).all(axis=(1, 2)))[0]
    # a row alone between two jumps says nothing about others, nor they about it: it belongs to its neighbours
    nearest = known[np.clip(np.searchsorted(known, np.arange(len(starts))), 0, len(known) - 1)]
    of = nearest[np.arange(len(rows)) // block]
    return drift, level[of], covariance[of], block


def _place_jumps(
    rows: Reduced,
    drift: DriftTrack,
    level: Float,
    covariance: Float,
    jitter: Float,
    bad: NDArray[np.bool_],
    block: int,
) -> None:
    """Give each row about a jump the level of the side that it is on: bad rows do not tell where a jump is.

    The course knows a jump to a block of rows, and to a stretch of bad ones: a good row in it that has been given the
    level of the other side looks bad itself, and would stay so. The place is the one that the rows about it want most,
    none of them counting for more than a bad row does. ``level`` and ``covariance`` are changed in place.
    """
    most = chi2_isf(FALSE_ALARM, rows.outputs)
    n = len(rows)
    for jump in drift.jumps:
        low, high = max((jump.index - 1) * block, 0), min((jump.index + 1) * block, n)
        while low > 0 and bad[low - 1]:
            low -= 1
        while high < n and bad[high]:
            high += 1
        if not 0 < low < high < n:
            continue
        here = rows.take(slice(low, high))
        sides = np.array([low - 1, high])
        costs = [
            np.minimum(here.chi2_given(np.tile(level[s], (len(here), 1)), (covariance[s] + jitter)[None]), most)
            for s in sides
        ]
        before = np.append(0.0, np.cumsum(costs[0] - costs[1]))
        now = jump.index * block - low
        cut = int(np.argmin(before))
        if before[cut] >= before[now]:
            continue
        other = slice(low + min(cut, now), low + max(cut, now))
        side = sides[0] if cut > now else sides[1]
        level[other], covariance[other] = level[side], covariance[side]


def _jitter(rows: Reduced, level: Float, covariance: Float, bad: NDArray[np.bool_]) -> tuple[Float, float]:
    """Variances by which gain and offset scatter from row to row; zero unless the rows prove it (χ² > 15 for each).

    D may be off by a factor, with jitter and without: what the outputs have in common is told from what they have not.
    """
    if rows.outputs < 2:
        return np.zeros((2, 2)), 0.0
    good = np.nonzero(~bad)[0]
    good = good[np.linspace(0, len(good) - 1, min(len(good), JITTER_ROWS)).astype(int)]
    part = rows.take(good)
    likelihood = Likelihood(part, level[good], covariance[good])
    unit = 1 / np.median(np.einsum("nii->ni", part.information), axis=0)

    def cost(free: Float, which: Sequence[int]) -> tuple[float, Float]:
        log_ratio, log_scale = np.full(2, -30.0), float(free[-1])
        log_ratio[list(which)] = free[:-1]
        grown = unit * np.exp(log_ratio)
        value, slope = likelihood.sloped((float(grown[0]), float(grown[1])), math.exp(log_scale))
        values = 0.5 * len(part) * part.outputs
        slope = np.append(slope[:2] * grown, slope[2] - values)[[*which, 2]]
        return values * log_scale - value, -slope

    def least(which: Sequence[int]) -> tuple[Float, float]:
        bounds = [(-30.0, 20.0)] * len(which) + [(-60.0, 10.0)]  # down to readings without noise
        found = scipy.optimize.minimize(
            cost, np.zeros(len(which) + 1), (which,), "L-BFGS-B", jac=True, bounds=bounds, options=PRECISE
        )
        return found.x[:-1], float(found.fun)

    none = least(())[1]
    best, value = np.zeros((2, 2)), none
    for which in ((0,), (1,), (0, 1)):
        log_ratio, cost_of_it = least(which)
        if cost_of_it < value - 7.5:
            ratio = np.zeros(2)
            ratio[list(which)] = np.exp(log_ratio)
            best, value = np.diag(unit * ratio), cost_of_it
    return best, 2 * (none - value)
