"""A bench that starts up: the first rows follow their inputs, but with gains of the outputs that are a little off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations
from calibration.response.preview import PLENTY, WIDEST, Light, Preview, preview
from calibration.response.residuals import columns
from calibration.statistics.bad_frame import BadFrame
from calibration.statistics.tails import f_sf

Float = NDArray[np.float64]
Indices = NDArray[np.intp]

LONGEST = 32  # rows of a start-up; a longer one is drift, since its end is not seen
SHORTEST = 4  # rows; fewer are found one by one
LOOKED_AT = 48  # rows at the start that take no part in the line
SETTLED = 144  # rows after them, at least, that say what is usual; more where every input has a slope of its own
MANY = 8  # settled rows for each such slope
FEWEST = 40  # rows that may say it in a short recording, with as many different inputs
CHANCE = 1e-6  # that a settled bench is said to start up, whatever the length of it
QUIET = 1e-9  # of a standard deviation of the line: what rounding alone may leave
WILD = 6.0  # standard deviations beyond which a reading counts no more
VISIBLE = 1.5  # standard deviations of one reading: a start-up that no row shows is left in
OWN = 0.2  # of what the first rows miss: where the outputs share nearly all of it, it is drift
LARGER = 1.5  # times what any later stretch of that length shows: less is a bench that always moves
REMAINS = 0.3  # of it in the rows right after: more is a bench that wanders
BEYOND = 1.5  # times the farthest of the settled rows: first rows with such inputs are another kind of row


@dataclass(frozen=True)
class _First:
    """The first rows of a recording against the line through the settled ones.

    Attributes
    ----------
    rows
        (k,) their numbers.
    off
        (k, M) what each reading misses [standard deviations], bounded.
    sd
        (k, M) that standard deviation [unit].
    signal
        (k, M) what the inputs add to a reading [unit].
    basis
        (k, p, M) or (k, p, 1) what the line of each output is a sum of.
    """

    rows: NDArray[np.intp]
    off: Float
    sd: Float
    signal: Float
    basis: Float

    @property
    def outputs(self) -> int:
        return int(self.off.shape[1])

    def own(self, start: int, stop: int) -> float:
        """Squares that gains and offsets of single outputs explain in some rows, beyond those that all have in common.

        With the covariance of readings about a line: the unit matrix, and what the line is not known to.
        """
        gain, one = self.signal[start:stop] / self.sd[start:stop], 1 / self.sd[start:stop]
        parts: list[Float] = []
        for m in range(self.outputs):
            design = np.stack([gain[:, m], one[:, m], self.off[start:stop, m]], axis=1)
            parts.append(np.asarray(np.linalg.solve(self._root(start, stop, m), design)))
        whole: Float = np.concatenate(parts)
        return float(sum(_squares(p[:, :2], p[:, 2]) for p in parts)) - _squares(whole[:, :2], whole[:, 2])

    def _root(self, start: int, stop: int, output: int) -> Float:
        """(k, k) lower root of the covariance of some rows; the identity where the line was fitted to them."""
        if start >= LOOKED_AT:
            return np.eye(stop - start)
        x = self.basis[:, :, min(output, self.basis.shape[2] - 1)]
        gram = x[LOOKED_AT:].T @ x[LOOKED_AT:]
        gram += 1e-9 * np.diag(gram).max() * np.eye(len(gram))
        return np.asarray(
            np.linalg.cholesky(np.eye(stop - start) + x[start:stop] @ np.linalg.solve(gram, x[start:stop].T))
        )

    def gains(self, start: int, stop: int) -> Float:
        """(M,) what a gain of its own adds to a usual reading of each output [standard deviations of a reading]."""
        off, gain = self.off[start:stop], (self.signal / self.sd)[start:stop]
        return np.asarray((off * gain).sum(axis=0) / np.sqrt(np.maximum((gain**2).sum(axis=0), 1e-300) * len(off)))

    def apart(self, start: int, stop: int) -> Float:
        """(M,) the same, against the other outputs."""
        gains = self.gains(start, stop)
        return np.asarray(gains - gains.mean())


def started_up(observations: Observations, source: Indices, light: Light | None) -> list[BadFrame]:
    """The first rows of a recording, if the outputs differ there from one another by other factors than afterwards.

    What all outputs have in common is drift, which a fit follows; what each has of its own it does not. An F test holds
    the gains and offsets of the first rows against those of stretches as long among the settled rows, so that a bench
    that always moves so does not start up. Only the first rows, and a fixed number after them, are looked at: the
    verdict does not change with what follows.

    Parameters
    ----------
    observations
        Of the outputs that are looked at.
    source
        (n,) row whose inputs each reading belongs to; −1 where there is none, or the reading is no measurement.
    light
        What a response expects, if the bench is known.
    """
    first = _first(observations, source, light)
    if first is None:
        return []
    longest = min(LONGEST, len(first.rows) // 5)
    evidence = np.array([first.own(0, k) for k in range(SHORTEST, longest + 1)])
    most = SHORTEST + int(np.argmax(evidence))
    # what settles slowly shows most before it has settled
    k = next((k for k in range(most, longest + 1) if _ends(first, k)), None)
    if k is None or _chance(first, most) * len(evidence) > CHANCE:
        return []
    usual = np.sqrt(np.mean((first.signal[:k] / first.sd[:k]) ** 2, axis=0))
    shift = first.gains(0, k) / np.maximum(usual, 1e-300)
    shift = shift - shift.mean()
    words = f"rows 0–{int(first.rows[k - 1])}: gains of the outputs are off by {100 * shift.min():+.2g} … "
    words += f"{100 * shift.max():+.2g} % of one another, as in no row after"
    score = (first.off[:k] ** 2).mean(axis=1)
    return [BadFrame(int(i), "transient", float(s), words) for i, s in zip(first.rows[:k], score, strict=True)]


def _first(observations: Observations, source: Indices, light: Light | None) -> _First | None:
    """The first rows with the line through those of them that are settled; None where there are too few."""
    wide = light is None and observations.n_inputs <= WIDEST
    most = LOOKED_AT + max(SETTLED, MANY * (observations.n_inputs + 1) if wide else 0)
    rows = np.nonzero(source >= 0)[0][:most]
    if observations.single or observations.n_outputs < 2 or len(rows) < LOOKED_AT + FEWEST:
        return None
    part = observations.selected(source[rows], rows, np.arange(observations.n_outputs)).between(0, len(rows))
    y = columns(part.rows(0, len(rows)))
    settled = np.arange(len(rows)) >= LOOKED_AT
    line = preview(part, y, settled, light=light)
    off = (y - line.mean) / line.sd
    basis = _basis(part, line, wide and bool(settled.sum() >= PLENTY * part.n_inputs))
    different = len(np.unique(part.rows(LOOKED_AT, part.count).inputs, axis=0))
    if different < max(FEWEST, 2 * basis.shape[1]):
        return None
    middle = 1.4826 * np.median(np.abs(off[settled]), axis=0)
    # readings that are rounded to the line itself have no median beside it
    scale = np.where(middle > QUIET, middle, np.maximum(off[settled].std(axis=0), QUIET))
    off = np.clip(off / scale, -WILD, WILD)
    off /= np.sqrt(np.maximum((off[settled] ** 2).sum(axis=0) / (settled.sum() - basis.shape[1]), QUIET**2))
    found = _First(rows, off, line.sd * scale, _signal(part, line), basis)
    return found if _alike(found, part) else None


def _basis(observations: Observations, line: Preview, wide: bool) -> Float:
    """(n, p, M or 1) the inputs, where each has a slope of its own, or else what the line follows; and one."""
    x = observations.rows(0, observations.count).inputs[:, :, None] if wide else line.mean[:, None, :]
    return np.concatenate([np.ones((len(x), 1, x.shape[2])), x / max(float(np.abs(x).max()), 1e-300)], axis=1)


def _signal(observations: Observations, line: Preview) -> Float:
    """What the inputs add to each reading: the line less what it says of no light."""
    rows = observations.rows(0, observations.count)
    product = rows.inputs @ observations.weights.T
    centred = product - product.mean(axis=0)
    slope = (centred * line.mean).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-300)
    return np.asarray(line.mean - (line.mean.mean(axis=0) - slope * product.mean(axis=0)))


def _alike(first: _First, observations: Observations) -> bool:
    """Whether the first rows are of the kind of the later ones: no single inputs, no dark rows before the recording."""
    x = observations.rows(0, observations.count).inputs
    signal = first.signal / np.maximum(first.signal.std(axis=0), 1e-300)
    at = np.concatenate([x / max(float(x.std()), 1e-300), signal], axis=1)
    middle = np.median(at[LOOKED_AT:], axis=0)
    far = ((at - middle) ** 2).mean(axis=1)
    return bool(far[:LOOKED_AT].max() <= BEYOND * far[LOOKED_AT:].max())


def _chance(first: _First, k: int) -> float:
    """Probability that a bench that moves as this one does when settled shows so much in its first ``k`` rows."""
    freedom = 2 * (first.outputs - 1)
    starts = range(LOOKED_AT, len(first.rows) - k + 1, k)
    usual = float(np.mean([first.own(s, s + k) for s in starts])) / freedom
    left = 1 - first.basis.shape[1] / (len(first.rows) - LOOKED_AT)  # of a mean square where the line was fitted
    return float(f_sf(first.own(0, k) / freedom / max(usual / left, 1.0), freedom, freedom * len(starts)))


def _ends(first: _First, k: int) -> bool:
    """Whether the first ``k`` rows show it by themselves, and no rows after them so much of it."""
    here, after = first.apart(0, k), first.apart(k, 2 * k)
    largest, whole = float(np.abs(here).max()), float((first.gains(0, k) ** 2).sum())
    later = max(float(np.abs(first.apart(s, s + k)).max()) for s in range(k, len(first.rows) - k + 1, k))
    gone = float(here @ after) < REMAINS * float(here @ here)
    return bool(largest > max(VISIBLE, LARGER * later) and largest**2 > OWN * whole and gone)


def _squares(design: Float, values: Float) -> float:
    """Sum of squares of ``values`` (n,) that the columns of ``design`` (n, 2) explain."""
    size = np.sqrt((design**2).sum(axis=0))
    scaled = design / np.maximum(size, 1e-300)
    return float(((scaled @ np.linalg.lstsq(scaled, values, rcond=1e-6)[0]) ** 2).sum())
