"""The hold-out: what the fit predicts of rows that it did not see, against a line and against the previous fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.response.following import Followed
from calibration.response.model import Response
from calibration.response.observations import Observations
from calibration.response.predict import predict
from calibration.response.residuals import columns
from calibration.response.structure import Candidate, Selector

Float = NDArray[np.float64]

KEPT = 400_000  # residuals that the width of the interval is taken from


@dataclass(frozen=True)
class Gate:
    """Held-out figures, drift followed.

    Attributes
    ----------
    applied
        Whether the fit replaces what was there.
    reason
        Why, in words.
    rms_percent_of_range, line_percent_of_range, previous_percent_of_range
        (M,) of this fit, of one gain and offset per output, and of the previous response (None without one) [%].
    coverage95
        (M,) of the interval.
    chi2_per_dof
        Mean squared error over variance.
    """

    applied: bool
    reason: str
    rms_percent_of_range: Float
    line_percent_of_range: Float
    previous_percent_of_range: Float | None
    coverage95: Float
    chi2_per_dof: float

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
    features: Any,
) -> tuple[Gate, Float]:
    """`Gate`, and the half width (M,) of the 95 % interval in standard deviations."""
    line = selector.candidate(
        "per output" if "per output" in selector.design.gains() else "scalar", "none", hold_out=False
    )
    steps = {k: _without(selector, candidate, k) for k in selector.folds}
    lines = {k: _without(selector, line, k) for k in selector.folds}
    whole = _step(selector, candidate, selector.all)
    m = response.n_outputs
    square, plain, count = np.zeros(m), np.zeros(m), np.zeros(m)
    low, high = np.full(m, np.inf), np.full(m, -np.inf)
    scores: list[Float] = []
    owners: list[NDArray[np.intp]] = []
    stride = max(1, observations.count * (1 if response.single else m) // KEPT)
    for rows in observations.chunks():
        at = np.arange(rows.start, rows.start + len(rows))
        kept = ~bad[at]
        level, spread = followed.level[at], followed.covariance[at] + followed.jitter
        light = response.light(rows)
        slope = response.slope(light, rows)
        phi = features(response, rows, light) * (1 + level[:, :1])
        y = columns(rows)
        left = y - response.mean(light, rows) - slope * level[:, :1] - level[:, 1:]
        variance = response.noise_variance(light, rows) + response.parameter_variance(light, rows)
        variance = variance + slope**2 * spread[:, :1, 0] + 2 * slope * spread[:, :1, 1] + spread[:, 1:, 1]
        ours, theirs = left.copy(), left.copy()
        for k in np.unique(fold[at]):
            own = fold[at] == k
            if int(k) not in steps:
                continue
            for target, table in ((ours, steps), (theirs, lines)):
                gain, intercept = table[int(k)][0] - whole[0], table[int(k)][1] - whole[1]
                target[own] -= phi[own] @ gain.T + intercept
        of = np.broadcast_to(np.arange(m) if rows.output is None else rows.output[:, None], y.shape)
        mine = of[kept].ravel()
        square += np.bincount(mine, (ours[kept] ** 2).ravel(), m)
        plain += np.bincount(mine, (theirs[kept] ** 2).ravel(), m)
        count += np.bincount(mine, minlength=m)
        np.minimum.at(low, mine, y[kept].ravel())
        np.maximum.at(high, mine, y[kept].ravel())
        some = kept & (at % stride == 0)
        scores.append((ours[some] / np.sqrt(variance[some])).ravel())
        owners.append(of[some].ravel())
    z, owner = np.abs(np.concatenate(scores)), np.concatenate(owners)
    # a single detector is one instrument, whatever it looks through
    interval = np.full(m, _interval(z))
    if not response.single:  # half-way: outputs differ, but less than one hold-out makes them seem
        interval = np.sqrt(interval * np.array([_interval(z[owner == i]) for i in range(m)]))
    span = np.maximum(high - low, 1e-300) if not response.single else np.full(m, max(high.max() - low.min(), 1e-300))
    seen = count > 0
    rms, simple = (np.where(seen, 100 * np.sqrt(s / np.maximum(count, 1)) / span, np.nan) for s in (square, plain))
    inside = np.bincount(owner, z <= interval[owner], m)
    coverage = np.where(seen, inside / np.maximum(np.bincount(owner, minlength=m), 1), np.nan)
    before = None if previous is None else predict(previous, observations).rms_percent_of_range
    applied, reason = _verdict(rms, simple, before, candidate)
    return Gate(applied, reason, rms, simple, before, coverage, float((z**2).mean())), interval


def _interval(z: Float) -> float:
    """1.96, or the residuals' own 95 % point where they prove another."""
    covered = float((z <= 1.96).mean()) if len(z) else 0.95
    if abs(covered - 0.95) < 3 * np.sqrt(0.0475 / max(len(z), 1)):
        return 1.96
    return float(np.clip(np.quantile(z, 0.95), 1.5, 4.0))


def _verdict(rms: Float, line: Float, before: Float | None, candidate: Candidate) -> tuple[bool, str]:
    ours, simple = float(np.nanmean(rms)), float(np.nanmean(line))
    if before is not None:
        old = float(np.nanmean(before))
        if ours > old:
            return False, f"not applied: the previous response leaves {old:.3f} % of range, this one {ours:.3f} %"
        return True, f"applied: {ours:.3f} % of range on held-out rows, the previous response {old:.3f} %"
    if ours > 1.02 * simple:
        return False, f"not applied: a line per output leaves {simple:.3f} % of range, this fit {ours:.3f} %"
    if candidate.gain in ("scalar", "per output") and candidate.crosstalk == "none":
        return True, f"applied: {ours:.3f} % of range on held-out rows; the bench is a line per output"
    return True, f"applied: {ours:.3f} % of range on held-out rows, a line per output {simple:.3f} %"


def _step(selector: Selector, candidate: Candidate, moments: Any) -> tuple[Float, Float]:
    gain = selector.design.gain(candidate.estimate) - selector.reference
    return gain, moments.intercept(gain)


def _without(selector: Selector, candidate: Candidate, k: int) -> tuple[Float, Float]:
    moments = selector.without(k)
    estimate, _ = selector._fit(candidate.gain, candidate.crosstalk, moments, candidate.estimate)
    gain = selector.design.gain(estimate) - selector.reference
    return gain, moments.intercept(gain)
