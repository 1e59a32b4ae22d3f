"""The hold-out: what the fit predicts of rows that it did not see, against a line and against the previous fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.judge.comparison import PairedComparison, paired_difference
from calibration.judge.gate import GateDecision, gate_decision
from calibration.response.assemble import features
from calibration.response.following import Followed
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.predict import Prediction, predict
from calibration.response.residuals import columns
from calibration.response.structure import Candidate, Selector
from calibration.response.sums import Moments

Float = NDArray[np.float64]

KEPT = 400_000  # residuals that the width of the interval is taken from
FIGURE = "rms error [% of range]"


@dataclass(frozen=True)
class ResponseGate:
    """How a fit predicts the rows that it was not fitted to, and whether it is applied.

    Attributes
    ----------
    applied, reason
        Whether the fit replaces what was there, and why, in words and numbers.
    rms_percent_of_range, line_percent_of_range, previous_percent_of_range
        (M,) rms error of each output over the range of its readings [%]: of this fit, of one gain and offset per
        output, and of the previous response (None without one). Drift is followed by all three.
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

    Returns
    -------
    `ResponseGate`, and the half width (M,) of the 95 % interval in standard deviations.
    """
    line = selector.candidate(
        "per output" if "per output" in selector.design.gains() else "scalar", "none", hold_out=False
    )
    before = None if previous is None else predict(previous, observations)
    held = _HeldOut(response, observations, before)
    ours, theirs = _Refits(selector, candidate), _Refits(selector, line, candidate)
    for rows in observations.chunks():
        held.add(rows, followed, bad, fold, ours, theirs)
    interval, coverage = held.interval()
    rms, simple = held.percent_of_range(held.square), held.percent_of_range(held.line_square)
    chi2 = held.chi2_per_dof
    if previous is None or before is None:
        decision = _against_a_line(held, rms, simple, candidate)
        return ResponseGate(*decision, rms, simple, None, coverage, chi2), interval
    old = before.rms_percent_of_range
    assert old is not None
    found = held.against_previous(float(np.nanmean(rms)), float(np.nanmean(old)))
    decided = gate_decision(found, previous.id)
    return ResponseGate(decided.applied, decided.reason, rms, simple, old, coverage, chi2), interval


class _Refits:
    """What the fits without one fold each change of the predictions of the fit to all rows.

    Parameters
    ----------
    candidate
        The structure that is fitted without each fold.
    whole
        The fit to all rows; the same structure if None.
    """

    def __init__(self, selector: Selector, candidate: Candidate, whole: Candidate | None = None) -> None:
        self._selector = selector
        gain, intercept = self._step(whole or candidate, selector.all)
        self._of_fold: dict[int, tuple[Float, Float]] = {}
        for k in selector.folds:
            moments = selector.without(k)
            other = selector.refitted(candidate, moments)
            step = selector.design.gain(other) - selector.reference
            self._of_fold[k] = step - gain, moments.intercept(step) - intercept

    def _step(self, candidate: Candidate, moments: Moments) -> tuple[Float, Float]:
        gain = self._selector.design.gain(candidate.estimate) - self._selector.reference
        return gain, moments.intercept(gain)

    def residual(self, left: Float, phi: Float, fold: NDArray[np.intp]) -> Float:
        """Residuals (n, M) of each row by the fit without its fold; ``left`` (n, M) are those of the fit to all."""
        found = left.copy()
        for k in np.unique(fold):
            if int(k) in self._of_fold:
                gain, intercept = self._of_fold[int(k)]
                own = fold == k
                found[own] -= phi[own] @ gain.T + intercept
        return found


class _HeldOut:
    """Errors of held-out rows, chunk by chunk: squares by output, a sample of scores, and the loss of every row.

    Parameters
    ----------
    before
        What the previous response says of the same rows; None without one.
    """

    def __init__(self, response: Response, observations: Observations, before: Prediction | None) -> None:
        m = response.n_outputs
        self._before = before
        self._response, self._outputs = response, m
        self.square, self.line_square, self._count = np.zeros(m), np.zeros(m), np.zeros(m)
        self._low, self._high = np.full(m, np.inf), np.full(m, -np.inf)
        self._stride = max(1, observations.count * (1 if response.single else m) // KEPT)
        self._scores: list[Float] = []
        self._owners: list[NDArray[np.intp]] = []
        self._losses: list[Float] = []
        self._kept: list[NDArray[np.bool_]] = []

    def add(
        self,
        rows: Rows,
        followed: Followed,
        bad: NDArray[np.bool_],
        fold: NDArray[np.intp],
        ours: _Refits,
        theirs: _Refits,
    ) -> None:
        """Count a chunk of rows, each as it is predicted from the other folds, drift followed."""
        response, m = self._response, self._outputs
        at = np.arange(rows.start, rows.start + len(rows))
        kept = ~bad[at]
        level, y = followed.level[at], columns(rows)
        found = response.expected(rows, level, followed.covariance[at] + followed.jitter)
        phi = features(response, rows, found.light) * (1 + level[:, :1])
        left, variance = y - found.mean, found.variance
        error, of_line = ours.residual(left, phi, fold[at]), theirs.residual(left, phi, fold[at])
        of = np.broadcast_to(np.arange(m) if rows.output is None else rows.output[:, None], y.shape)
        mine = of[kept].ravel()
        self.square += np.bincount(mine, (error[kept] ** 2).ravel(), m)
        self.line_square += np.bincount(mine, (of_line[kept] ** 2).ravel(), m)
        self._count += np.bincount(mine, minlength=m)
        np.minimum.at(self._low, mine, y[kept].ravel())
        np.maximum.at(self._high, mine, y[kept].ravel())
        some = kept & (at % self._stride == 0)
        self._scores.append((error[some] / np.sqrt(variance[some])).ravel())
        self._owners.append(of[some].ravel())
        chi2, line_chi2 = (error**2 / variance).mean(axis=1), (of_line**2 / variance).mean(axis=1)
        losses = [chi2, line_chi2, chi2 + np.log(variance).mean(axis=1)]
        if self._before is not None:
            mean, sd = (a.reshape(len(a), -1)[at] for a in (self._before.mean, self._before.sd))
            losses.append((((y - mean) / sd) ** 2 + 2 * np.log(sd)).mean(axis=1))
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
        return self._paired(kept, 2, 3, new_percent, old_percent)

    def against_line(self, new_percent: float, line_percent: float) -> PairedComparison:
        """This fit and a line per output before the same rows, both with the noise of this fit."""
        return self._paired(np.concatenate(self._kept), 0, 1, new_percent, line_percent)

    def _paired(self, kept: NDArray[np.bool_], mine: int, other: int, new: float, before: float) -> PairedComparison:
        losses, rows = np.concatenate(self._losses), np.nonzero(kept)[0].astype(np.int64)
        difference, stderr, pairs = paired_difference(losses[rows, mine], losses[rows, other], rows)
        return PairedComparison(difference, stderr, new, before, pairs, FIGURE)


def _interval(z: Float) -> float:
    """1.96, or the residuals' own 95 % point where they prove another."""
    covered = float((z <= 1.96).mean()) if len(z) else 0.95
    if abs(covered - 0.95) < 3 * np.sqrt(0.0475 / max(len(z), 1)):
        return 1.96
    return float(np.clip(np.quantile(z, 0.95), 1.5, 4.0))


def _against_a_line(held: _HeldOut, rms: Float, line: Float, candidate: Candidate) -> tuple[bool, str]:
    """Without a response before it, a fit must not predict worse than one gain and one offset per output."""
    ours, simple = float(np.nanmean(rms)), float(np.nanmean(line))
    decided: GateDecision = gate_decision(held.against_line(ours, simple), "a line per output")
    if not decided.applied:
        return False, decided.reason
    if candidate.gain in ("scalar", "per output") and candidate.crosstalk == "none":
        return True, f"{ours:.3f} % of range on held-out rows; the bench is a line per output"
    return True, f"{ours:.3f} % of range on held-out rows, a line per output {simple:.3f} %"
