"""Follow a bench through a file, row by row: how gain and offset went, what the outputs of a row share, bad rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import chi2 as chi2_law

from calibration.response.residuals import Reduced
from calibration.response.tails import FALSE_ALARM, heavy_tail
from calibration.statistics.bad_frame import normal_score
from calibration.statistics.drift import DriftTrack, track

Float = NDArray[np.float64]

NAMES = ("gain", "offset")
BLOCKS = 4096  # of rows that the drift is followed through
FEW_BLOCKS = 512  # enough while the response itself still moves
CROWD = 11  # rows of which the larger part must be good for the rest to be bad
WINDOW = 31  # rows of the running median that finds the first bad rows
JITTER_ROWS = 2000
PRECISE = {"xatol": 1e-3, "fatol": 1e-3}


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
    followed = None
    for _ in range(3):
        drift, level, covariance, block = _track(rows, jitter, bad, blocks)
        gained = 0.0
        if not known:
            jitter, gained = _jitter(rows, level, covariance, bad)
        seen = rows.chi2_given(level, covariance + jitter)
        chi2 = seen / _inflation(seen[~bad], rows.outputs)
        heavier = heavy_tail(chi2[~bad], rows.outputs, heavy) if tail is None else tail
        found = _outlying(seen, rows.outputs, heavier)
        followed = Followed(
            drift, level, covariance, jitter, gained, chi2, normal_score(chi2, rows.outputs), found, block, heavier
        )
        if (found == bad).all():
            break
        bad = found
    assert followed is not None
    return followed


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
    return np.asarray(chi2 > tail * _inflation(chi2, outputs) * chi2_law.isf(FALSE_ALARM, outputs))


def _lone(bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bad rows without those in crowds: where most of a stretch looks bad, the bench has changed, and that is drift."""
    near = np.convolve(bad, np.ones(CROWD), "same")
    return np.asarray(bad & (near <= CROWD / 2))


def _inflation(chi2: Float, outputs: int) -> float:
    """Median χ² of the rows over that of its law; at least one half, because less would mean a wrong noise law."""
    return max(float(np.median(chi2)) / float(chi2_law.median(outputs)), 0.5)


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


def _jitter(rows: Reduced, level: Float, covariance: Float, bad: NDArray[np.bool_]) -> tuple[Float, float]:
    """Variances by which gain and offset scatter from row to row; zero unless the rows prove it (χ² > 15 for each).

    D may be off by a factor, with jitter and without: what the outputs have in common is told from what they have not.
    """
    if rows.outputs < 2:
        return np.zeros((2, 2)), 0.0
    good = np.nonzero(~bad)[0]
    good = good[np.linspace(0, len(good) - 1, min(len(good), JITTER_ROWS)).astype(int)]
    part, at, about = rows.take(good), level[good], covariance[good]
    unit = 1 / np.median(np.einsum("nii->ni", part.information), axis=0)

    def cost(log_ratio: Float, log_scale: float) -> float:
        ratio = np.exp(np.clip(log_ratio, -30, 20))
        scaled = part.scaled(float(np.exp(np.clip(log_scale, -10, 10))))
        return 0.5 * len(part) * part.outputs * log_scale - scaled.log_likelihood(at, about + np.diag(unit * ratio))

    still = np.full(2, -30.0)
    none = float(minimize(lambda free: cost(still, free[0]), [0.0], method="Nelder-Mead", options=PRECISE).fun)
    best, value = np.zeros((2, 2)), none
    for which in ((0,), (1,), (0, 1)):

        def only(free: Float, which: tuple[int, ...] = which) -> float:
            ratio = still.copy()
            ratio[list(which)] = free[:-1]
            return cost(ratio, free[-1])

        found = minimize(only, np.zeros(len(which) + 1), method="Nelder-Mead", options=PRECISE)
        if found.fun < value - 7.5:
            ratio = np.zeros(2)
            ratio[list(which)] = np.exp(np.clip(found.x[:-1], -30, 20))
            best, value = np.diag(unit * ratio), float(found.fun)
    return best, 2 * (none - value)
