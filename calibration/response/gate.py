"""The hold-out: what the fit predicts of rows that it did not see, against simple baselines and the previous fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.judge.comparison import PairedComparison, paired_difference
from calibration.judge.gate import SIGMAS, gate_decision
from calibration.response.assemble import features
from calibration.response.baselines import NAMES, Baselines
from calibration.response.bends import Bent
from calibration.response.following import Followed
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.predict import Prediction, predict
from calibration.response.residuals import as_read
from calibration.response.structure import Candidate, Selector
from calibration.response.sums import Moments
from calibration.response.survey import QUIETEST

Float = NDArray[np.float64]

KEPT = 400_000  # residuals that the width of the interval is taken from
FIGURE = "rms error [% of range]"
WORSE = 1.02  # rms relative to a baseline that chance is not blamed for
LEAST_EXPLAINED = 0.02  # of the variance of held-out rows, below which a fit says no more than the mean
MOST_BAD = 1 / 3  # of the rows
NOISIEST = 1.0  # standard deviation of a reading over the range of the readings


@dataclass(frozen=True)
class ResponseGate:
    """How a fit predicts the rows that it was not fitted to, and whether it is applied.

    Attributes
    ----------
    applied, reason
        Whether the fit replaces what was there, and why, in words and numbers.
    rms_percent_of_range, line_percent_of_range, previous_percent_of_range
        (M,) rms error of each output over the range of its readings [%]: of this fit, of an ordinary line over Σ w x
        that knows of no curve and no drift, and of the previous response (None without one).
    baselines_percent_of_range
        Mean over the outputs of the same for each baseline, by name [%].
    coverage95
        (M,) share of readings inside their 95 % interval [1].
    chi2_per_dof
        Mean squared error over variance [1].
    """

    applied: bool
    reason: str
    rms_percent_of_range: Float
    line_percent_of_range: Float
    previous_percent_of_range: Float | None
    coverage95: Float
    chi2_per_dof: float
    baselines_percent_of_range: Mapping[str, float] = field(default_factory=dict)

    def of_outputs(self, live: NDArray[np.intp], outputs: int) -> ResponseGate:
        """The same of a bench that has other outputs, too, which took no part: NaN for those."""
        if len(live) == outputs:
            return self

        def spread(values: Float) -> Float:
            found = np.full(outputs, np.nan)
            found[live] = values
            return found

        old = self.previous_percent_of_range
        return replace(
            self,
            rms_percent_of_range=spread(self.rms_percent_of_range),
            line_percent_of_range=spread(self.line_percent_of_range),
            previous_percent_of_range=None if old is None else spread(old),
            coverage95=spread(self.coverage95),
        )

    def unless(self, fault: str) -> ResponseGate:
        """The same, not applied where there is a fault of the recording, which is then the reason."""
        return replace(self, applied=False, reason=fault) if fault else self

    def as_json(self) -> dict[str, Any]:
        """JSON types only."""

        def plain(values: Float | None) -> list[float | None] | None:
            return None if values is None else [round(float(v), 4) if np.isfinite(v) else None for v in values]

        return {
            "applied": self.applied,
            "reason": self.reason,
            "rms_percent_of_range": plain(self.rms_percent_of_range),
            "line_percent_of_range": plain(self.line_percent_of_range),
            "previous_percent_of_range": plain(self.previous_percent_of_range),
            "coverage95": plain(self.coverage95),
            "chi2_per_dof": round(self.chi2_per_dof, 3),
            "baselines_percent_of_range": {k: round(v, 4) for k, v in self.baselines_percent_of_range.items()},
        }


def judge(
    response: Response,
    selector: Selector,
    candidate: Candidate,
    observations: Observations,
    followed: Followed,
    bad: NDArray[np.bool_],
    fold: NDArray[np.intp],
    previous: Response | None,
    bent: Bent | None = None,
) -> tuple[ResponseGate, Float]:
    """Predict each fold of the rows by a fit of the other folds, and decide.

    Parameters
    ----------
    selector, candidate
        The sums of all folds, and the structure that was chosen with its estimate.
    followed
        The drift of the rows.
    bad
        (n,) rows that are left out.
    fold
        (n,) which part of the hold-out each row belongs to.
    previous
        The response that this one would replace; it predicts the same rows.
    bent
        The curvature of single inputs, with what it is without each fold.

    Returns
    -------
    `ResponseGate`, and the half width (M,) of the 95 % interval in standard deviations.
    """
    before = None if previous is None else predict(previous, observations)
    held = _HeldOut(response, observations, before, Baselines(observations, ~bad, fold))
    ours = _Refits(selector, candidate, bent)
    for rows in observations.chunks():
        held.add(rows, followed, bad, fold, ours)
    interval, coverage = held.interval()
    rms = held.percent_of_range(held.square)
    simple = [held.percent_of_range(square) for square in held.baseline_square]
    named = {name: float(np.nanmean(percent)) for name, percent in zip(NAMES, simple, strict=True)}
    old = None if before is None else before.rms_percent_of_range
    refused = _bar(held, float(np.nanmean(rms)), named, float(bad.mean()), observations.unit)
    applied, reason = True, _in_words(float(np.nanmean(rms)), named[NAMES[1]], candidate)
    if previous is not None and old is not None:
        decided = gate_decision(held.against_previous(float(np.nanmean(rms)), float(np.nanmean(old))), previous.id)
        applied, reason = decided.applied, decided.reason
    if applied and refused:
        applied, reason = False, refused
    return ResponseGate(applied, reason, rms, simple[1], old, coverage, held.chi2_per_dof, named), interval


class _Refits:
    """What the fits without one fold each change of the predictions of the fit to all rows.

    Parameters
    ----------
    candidate
        The structure that is fitted without each fold.
    bent
        The curvature of single inputs.
    """

    def __init__(self, selector: Selector, candidate: Candidate, bent: Bent | None) -> None:
        self._selector, self._bent = selector, bent
        gain, intercept = self._step(candidate, selector.all)
        self._of_fold: dict[int, tuple[Float, Float]] = {}
        for k in selector.folds:
            moments = selector.without(k)
            other = selector.refitted(candidate, moments)
            step = selector.design.gain(other) - selector.reference
            self._of_fold[k] = step - gain, moments.intercept(step) - intercept

    def _step(self, candidate: Candidate, moments: Moments) -> tuple[Float, Float]:
        gain = self._selector.design.gain(candidate.estimate) - self._selector.reference
        return gain, moments.intercept(gain)

    def bend(self, response: Response, rows: Rows, fold: NDArray[np.intp]) -> Float:
        """(n, M) or (n, 1): what the curvature of single inputs without each row's fold adds to that of all rows."""
        added = np.zeros((len(rows), 1 if rows.output is not None else response.n_outputs))
        bent = self._bent
        if bent is None or not bent.bend.powers:
            return added
        terms = response.bend.terms(rows.inputs)
        if rows.output is not None:
            terms = terms * (response.output_gain[rows.output, None] * response.weights[rows.output])
        for k, gain in bent.without.items():
            own = fold == k
            added[own] = np.einsum("jnk,jmk->nm", terms[:, own], gain - bent.bend.gain, optimize=True)
        return added

    def residual(self, left: Float, phi: Float, gradient: Float, fold: NDArray[np.intp]) -> Float:
        """Residuals (n, M) of each row by the fit without its fold.

        Parameters
        ----------
        left
            (n, M) residuals by the fit to all rows.
        gradient
            (n, M) readings per light.
        """
        found = left.copy()
        for k in np.unique(fold):
            if int(k) in self._of_fold:
                gain, intercept = self._of_fold[int(k)]
                own = fold == k
                found[own] -= gradient[own] * (phi[own] @ gain.T + intercept)
        return found


class _HeldOut:
    """Errors of held-out rows, chunk by chunk: squares by output, a sample of scores, and the loss of every row.

    Parameters
    ----------
    before
        What the previous response says of the same rows; None without one.
    """

    def __init__(
        self, response: Response, observations: Observations, before: Prediction | None, baselines: Baselines
    ) -> None:
        m = response.n_outputs
        self._before, self._baselines = before, baselines
        self._response, self._outputs = response, m
        self.square, self.baseline_square, self._count = np.zeros(m), np.zeros((len(NAMES), m)), np.zeros(m)
        self._low, self._high = np.full(m, np.inf), np.full(m, -np.inf)
        self._stride = max(1, observations.count * (1 if response.single else m) // KEPT)
        self._scores: list[Float] = []
        self._owners: list[NDArray[np.intp]] = []
        self._stated: list[Float] = []
        self._losses: list[Float] = []
        self._kept: list[NDArray[np.bool_]] = []

    def add(
        self,
        rows: Rows,
        followed: Followed,
        bad: NDArray[np.bool_],
        fold: NDArray[np.intp],
        ours: _Refits,
    ) -> None:
        """Count a chunk of rows, each as it is predicted from the other folds, drift followed."""
        response, m = self._response, self._outputs
        at = np.arange(rows.start, rows.start + len(rows))
        kept = ~bad[at]
        level, y = followed.level[at], as_read(rows)
        read = kept[:, None] & ~np.isnan(y)
        found = response.expected(rows, level, followed.covariance[at] + followed.jitter)
        phi = features(response, rows, found.light) * (1 + level[:, :1])
        left, variance = y - found.mean, found.variance
        error = ours.residual(left, phi, found.gradient, fold[at])
        error -= found.gradient * (1 + level[:, :1]) * ours.bend(response, rows, fold[at])
        of_baselines = np.where(np.isnan(y), np.nan, self._baselines.residuals(rows, fold[at]))
        of = np.broadcast_to(np.arange(m) if rows.output is None else rows.output[:, None], y.shape)
        mine = of[read]
        self.square += np.bincount(mine, error[read] ** 2, m)
        for total, other in zip(self.baseline_square, of_baselines, strict=True):
            total += np.bincount(mine, other[read] ** 2, m)
        self._count += np.bincount(mine, minlength=m)
        np.minimum.at(self._low, mine, y[read])
        np.maximum.at(self._high, mine, y[read])
        some = read & (at % self._stride == 0)[:, None]
        self._scores.append(error[some] / np.sqrt(variance[some]))
        self._owners.append(of[some])
        self._stated.append(np.sqrt(variance[some]))
        spread = self._baselines.variance
        losses = [_mean(e**2 / spread) for e in (error, *of_baselines)]
        losses.append(_mean(error**2 / variance + np.log(variance)))
        if self._before is not None:
            mean, sd = (a.reshape(len(a), -1)[at] for a in (self._before.mean, self._before.sd))
            losses.append(_mean(((y - mean) / sd) ** 2 + 2 * np.log(sd)))
        self._losses.append(np.stack(losses, axis=1))
        self._kept.append(kept)

    @property
    def chi2_per_dof(self) -> float:
        """Mean squared error over variance [1]."""
        return float((np.concatenate(self._scores) ** 2).mean())

    def interval(self) -> tuple[Float, Float]:
        """(M,) half width of the 95 % interval in standard deviations, and the share of readings inside it."""
        m = self._outputs
        z, owner = np.abs(np.concatenate(self._scores)), np.concatenate(self._owners)
        # a single detector is one instrument, whatever it looks through
        interval = np.full(m, _interval(z))
        if not self._response.single:  # half-way: outputs differ, but less than one hold-out makes them seem
            interval = np.sqrt(interval * np.array([_interval(z[owner == i]) for i in range(m)]))
        inside = np.bincount(owner, z <= interval[owner], m)
        share = inside / np.maximum(np.bincount(owner, minlength=m), 1)
        return interval, np.where(self._count > 0, share, np.nan)

    def percent_of_range(self, square: Float) -> Float:
        """(M,) rms of summed squares, over the range of an output's readings [%]; NaN where none was read."""
        low, high = self._low, self._high
        span = np.full(self._outputs, max(high.max() - low.min(), 1e-300))
        if not self._response.single:
            span = np.maximum(high - low, 1e-300)
        rms = 100 * np.sqrt(square / np.maximum(self._count, 1)) / span
        return np.asarray(np.where(self._count > 0, rms, np.nan))

    def against_previous(self, new_percent: float, old_percent: float) -> PairedComparison:
        """This fit and the previous response before the same rows: −2 log likelihood per reading, row by row.

        Rows that either of them calls bad are left out.
        """
        kept = np.concatenate(self._kept)
        kept[[row.index for row in (self._before.bad_rows if self._before else ())]] = False
        return self._paired(kept, 1 + len(NAMES), 2 + len(NAMES), new_percent, old_percent)

    def against_baseline(self, i: int) -> PairedComparison:
        """This fit and a baseline before the same rows: squares over the variance of the readings."""
        return self._paired(np.concatenate(self._kept), 0, 1 + i, 0.0, 0.0)

    @property
    def left(self) -> float:
        """What of the variance of held-out readings the fit leaves [1]."""
        return float(np.concatenate(self._losses)[np.concatenate(self._kept), 0].mean())

    @property
    def noisiest(self) -> float:
        """Median standard deviation that the fit states of a reading, over the range of the readings [1]."""
        return float(np.median(np.concatenate(self._stated))) / max(float((self._high - self._low).max()), 1e-300)

    def _paired(self, kept: NDArray[np.bool_], mine: int, other: int, new: float, before: float) -> PairedComparison:
        losses, rows = np.concatenate(self._losses), np.nonzero(kept)[0].astype(np.int64)
        difference, stderr, pairs = paired_difference(losses[rows, mine], losses[rows, other], rows)
        return PairedComparison(difference, stderr, new, before, pairs, FIGURE)


def _mean(loss: Float) -> Float:
    """(n,) of each row, over the readings that there are."""
    read = ~np.isnan(loss)
    return np.asarray(np.where(read, loss, 0.0).sum(axis=1) / np.maximum(read.sum(axis=1), 1))


def _interval(z: Float) -> float:
    """1.96, or the residuals' own 95 % point where they prove another."""
    covered = float((z <= 1.96).mean()) if len(z) else 0.95
    if abs(covered - 0.95) < 3 * np.sqrt(0.0475 / max(len(z), 1)):
        return 1.96
    return float(np.clip(np.quantile(z, 0.95), 1.5, 4.0))


def _bar(held: _HeldOut, ours: float, baselines: Mapping[str, float], bad: float, unit: str) -> str:
    """Why a fit is of no use whatever was there before; empty where it passes."""
    if bad > MOST_BAD:
        return f"{100 * bad:.0f} % of the rows were called bad: what is left is a choice, no measurement"
    if not np.isfinite(held.left) or not held.noisiest < NOISIEST:
        return (
            f"the noise law makes no sense: a reading would scatter by {held.noisiest:.3g} times the range of all "
            f"readings [{unit}]"
        )
    if held.noisiest < QUIETEST:
        return (
            f"the readings hold no noise: they scatter by {held.noisiest:.1e} of their range about a curve, and no "
            "curve is known so well between its rows; to computed readings add the noise of a detector"
        )
    explained = 100 * (1 - held.left)
    if 1 - held.left < LEAST_EXPLAINED:
        return f"no better than predicting the mean: {explained:.2g} % of the variance of held-out rows is explained"
    lost = []
    for i, (name, percent) in enumerate(baselines.items()):
        found = held.against_baseline(i)
        if found.difference < -SIGMAS * found.stderr and ours > WORSE * percent:
            lost.append((percent, name, -found.difference / max(found.stderr, 1e-300)))
    if lost:
        percent, name, sigmas = min(lost)
        return (
            f"predicts worse than {name}: held-out {FIGURE} {ours:.3f} against {percent:.3f} "
            f"({sigmas:.1f} standard errors)"
        )
    return ""


def _in_words(ours: float, line: float, candidate: Candidate) -> str:
    if candidate.gain in ("scalar", "per output") and candidate.crosstalk == "none" and line < WORSE * ours:
        return f"{ours:.3f} % of range on held-out rows; the bench is a line per output"
    return f"{ours:.3f} % of range on held-out rows, a line per output {line:.3f} %"
