"""Why a row does not belong: which other inputs, or which other order of outputs, its readings fit much better."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from calibration.response.following import Followed
from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.residuals import as_read, reduced
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.tails import chi2_isf

Float = NDArray[np.float64]

SUSPECT = 2.5  # z above which a row's readings are tried on other inputs
BETTER = 16.0  # by which another explanation must lower χ² to convict a row that χ² alone would pass
MOST_SUSPECTS = 4000
PERMUTED = 4  # outputs up to which every order is tried; beyond, every exchange of two

MOST_PERMUTED = 64  # outputs


@dataclass(frozen=True)
class _Explanation:
    """What a row is instead, in a word and in words, and by how much that lowers its χ²."""

    reason: str
    evidence: str
    gained: float = 0.0


def explain(response: Response, observations: Observations, followed: Followed) -> list[BadFrame]:
    """Explain each bad row, and convict rows that pass alone but fit another explanation much better."""
    n = observations.count
    z = followed.z
    suspects = np.nonzero(followed.bad | (z > SUSPECT))[0]
    if len(suspects) > MOST_SUSPECTS:
        suspects = np.sort(suspects[np.argsort(-z[suspects])[:MOST_SUSPECTS]])
    ceiling = ceilings(observations)
    if not len(suspects):
        return []
    near = np.unique(np.clip(np.concatenate([suspects - 1, suspects, suspects + 1]), 0, n - 1))
    witness = _Witness(response, observations, followed, near)
    worst = [int(i) for i in suspects if followed.bad[i]][:400]
    found = []
    for i in (int(i) for i in suspects):
        why = _explanation(witness, i, ceiling, worst)
        if followed.bad[i] or why.gained > BETTER * followed.tail:
            chi2 = float(followed.chi2[i]) / witness.outputs
            found.append(BadFrame(i, why.reason, chi2, why.evidence, round(float(z[i]), 1)))
    return found


def ceilings(observations: Observations) -> Float:
    """(M,) or (1,) reading at which a column is cut off: its maximum when too many share it; else infinite."""
    counts: list[tuple[Float, Float]] = []
    for rows in observations.chunks():
        y = as_read(rows)
        top = np.where(np.isnan(y), -np.inf, y).max(0)
        counts.append((top, (y == top).sum(0).astype(float)))
    highest = np.max([c[0] for c in counts], axis=0)
    ties = np.sum([np.where(c[0] == highest, c[1], 0.0) for c in counts], axis=0)
    return np.where(ties >= 3, highest, np.inf)


class _Witness:
    """χ² of the readings of one row under the inputs of another, at the drift of the first."""

    def __init__(
        self, response: Response, observations: Observations, followed: Followed, indices: NDArray[np.intp]
    ) -> None:
        parts = [observations.rows(int(i), int(i) + 1) for i in indices]
        self.place = {int(i): k for k, i in enumerate(indices)}
        self.rows = Rows(
            0,
            np.concatenate([p.inputs for p in parts]),
            np.concatenate([as_read(p) for p in parts]),
            None if parts[0].output is None else np.concatenate([p.output for p in parts if p.output is not None]),
            np.concatenate([p.at_s for p in parts]),
        )
        self.followed, self.whitening = followed, response.noise.whitening
        self.readings = as_read(self.rows)
        light = response.light(self.rows)
        self.mean, self.slope = response.mean(light, self.rows), response.slope(light, self.rows)
        self.variance = response.noise_variance(light, self.rows) + response.parameter_variance(light, self.rows)
        good = followed.chi2[~followed.bad]
        self.outputs = self.readings.shape[1]
        self.inflation = max(float(np.median(good)) / float(chi2_isf(0.5, self.outputs)), 1.0)
        # the χ² of `followed` is already relative to the file's median: bring the ones computed here to that scale
        seen = [self._raw(int(i), int(i)) / max(float(followed.chi2[i]), 1e-9) for i in indices]
        self.inflation *= float(np.median(seen)) if seen else 1.0

    def chi2(self, row: int, other: int, free_gain: bool = False) -> float:
        """χ² of the readings of ``row`` as readings of the inputs of ``other``.

        Parameters
        ----------
        free_gain
            Whether the row may have any gain, common to its outputs.
        """
        return self._raw(row, other, free_gain) / self.inflation

    def of_others(self, row: int, others: list[int]) -> Float:
        """(k,) χ² of the readings of ``row`` as readings of the inputs of each of ``others``."""
        places = np.array([self.place[other] for other in others], np.intp)
        return self._raw_of(row, places, self.readings[self.place[row]]) / self.inflation

    def of_orders(self, row: int, orders: NDArray[np.intp]) -> Float:
        """(k,) χ² of a row where other readings stand in the outputs' places, as ``orders`` (k, M) say."""
        k = self.place[row]
        return self._raw_of(row, np.full(len(orders), k), self.readings[k][orders]) / self.inflation

    def _raw(self, row: int, other: int, free_gain: bool = False) -> float:
        place = np.array([self.place[other]])
        return float(self._raw_of(row, place, self.readings[self.place[row]], free_gain)[0])

    def _raw_of(self, row: int, places: NDArray[np.intp], readings: Float, free_gain: bool = False) -> Float:
        """(k,) χ² at the drift of ``row`` of readings (k, M) or (M,) under the inputs at ``places`` (k,)."""
        here = np.full(len(places), self.place[row])
        left = readings - self.mean[places]
        seen = reduced(
            self.rows.at_s[here], self.slope[places], self.variance[places], left, self.whitening, np.isnan(left)
        )
        spread = self.followed.covariance[row] + self.followed.jitter
        if free_gain:
            spread = spread + np.diag([1.0, 0.0])
        return seen.chi2_given(np.tile(self.followed.level[row], (len(places), 1)), spread[None])


def _explanation(w: _Witness, i: int, ceiling: Float, worst: list[int]) -> _Explanation:
    own = w.chi2(i, i)
    k = w.place[i]
    readings, expected = w.readings[k], w.mean[k]
    read = np.isfinite(readings)
    clipped = np.nonzero((readings >= ceiling) & (readings < expected))[0]
    if len(clipped):
        which = ", ".join(str(m) for m in clipped)
        return _Explanation("saturated", f"output {which} stands at {readings[clipped[0]]:g}")
    if not readings[read].any() and np.abs(expected).max() > 0:
        return _Explanation("dropped", "all readings are 0", own)
    before = i - 1
    if before in w.place and own > 9 and _equal(readings, w.readings[w.place[before]]):
        return _Explanation("duplicated", f"the readings of row {before} once more", own)
    tried = _elsewhere(w, i, own, worst)
    limit = float(chi2_isf(1e-4, w.outputs))
    if tried and min(tried)[0] < min(limit, own - 9):
        chi2, reason, evidence = min(tried)
        return _Explanation(reason, evidence, own - chi2)
    if w.outputs > 1 and w.chi2(i, i, free_gain=True) < limit:
        light = w.slope[k][read]
        change = float((light * (readings - expected)[read]).sum() / (light**2).sum())
        return _Explanation("flickering", f"all outputs by {100 * change:+.1f} %")
    if (readings[read] <= 0).all() or np.abs(readings[read]).max() < 0.05 * np.abs(expected[read]).max():
        return _Explanation("dropped", "the readings are dark")
    return _Explanation("garbage", "fits neither its own inputs nor those around it")


def _equal(readings: Float, others: Float) -> bool:
    """Whether two rows hold the same, of the outputs that both have."""
    both = np.isfinite(readings) & np.isfinite(others)
    return bool(both.any() and (readings == others)[both].all())


def _elsewhere(w: _Witness, i: int, own: float, worst: list[int]) -> list[tuple[float, str, str]]:
    """χ², reason and evidence of row ``i`` as a reading of other inputs, or of its outputs in another order.

    Parameters
    ----------
    own
        χ² under its own inputs.
    worst
        Rows far away with which it may have been exchanged.
    """
    tried: list[tuple[float, str, str]] = []
    before, after = i - 1, i + 1
    if before in w.place:
        tried.append((w.chi2(i, before), "stale", f"fits the inputs of row {before}"))
    if after in w.place:
        here, there = w.chi2(i, after), w.chi2(after, i)
        if there < w.chi2(after, after):
            tried.append((here, "swapped rows", f"with row {after}"))
        else:
            tried.append((here, "early", f"fits the inputs of row {after}"))
        if before in w.place and w.chi2(before, i) < w.chi2(before, before) - BETTER:
            tried.append((w.chi2(i, before) - 1e-9, "swapped rows", f"with row {before}"))
    orders = _orders(w.outputs)
    if len(orders) and (w.followed.bad[i] or own > 25):
        every = w.of_orders(i, orders)
        best = int(np.argmin(every))
        moved = np.nonzero(orders[best] != np.arange(w.outputs))[0]
        tried.append((float(every[best]), "swapped outputs", ", ".join(map(str, moved))))
    limit = float(chi2_isf(1e-4, w.outputs))
    if w.followed.bad[i] and (not tried or min(tried)[0] > limit):
        far = [j for j in worst if abs(j - i) > 1]
        every = w.of_others(i, far)
        if far and every.min() < limit:
            tried.append((float(every.min()), "swapped rows", f"with row {far[int(np.argmin(every))]}"))
    return tried


@cache
def _orders(outputs: int) -> NDArray[np.intp]:
    """(k, M) which reading stands in each output's place: every order of a few outputs, every exchange of two else."""
    if outputs < 2 or outputs > MOST_PERMUTED:
        return np.zeros((0, outputs), np.intp)
    same = np.arange(outputs)
    if outputs <= PERMUTED:
        return np.array([p for p in permutations(range(outputs)) if p != tuple(range(outputs))], np.intp)
    pairs = np.array(list(combinations(range(outputs), 2)), np.intp)
    orders = np.tile(same, (len(pairs), 1))
    at = np.arange(len(pairs))
    orders[at, pairs[:, 0]], orders[at, pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return orders
