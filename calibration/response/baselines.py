"""What anybody would try first: the mean, a line per output, a ridge regression; each knows nothing of the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.response.observations import Observations, Rows
from calibration.response.residuals import columns

Float = NDArray[np.float64]

NAMES = ("the mean", "an ordinary line", "ridge regression")
PENALTIES = (1e-9, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MOST_INPUTS = 1500  # beyond, the normal equations of a regression would take longer than the fit


class Baselines:
    """Sums of (1, x, y) by fold, from which each fold is predicted by the others: no curve, no drift, no structure.

    Of a single detector x are the inputs behind the weights; a line is over ``Σ w x`` in both cases.

    Parameters
    ----------
    observations, good, fold
        Rows that are not good take no part.

    Attributes
    ----------
    variance
        (M,) or (1,) of the readings.
    """

    def __init__(self, observations: Observations, good: NDArray[np.bool_], fold: NDArray[np.intp]) -> None:
        self._single, self._weights = observations.single, observations.weights
        n, m = observations.n_inputs, 1 if observations.single else observations.n_outputs
        self._wide = n <= MOST_INPUTS
        self._n = n if self._wide else 0
        self._about: tuple[Float | float, ...] = (0.0, 0.0, 0.0)
        first = self._parts(observations.rows(0, 1))
        self._about = tuple(part[0] for part in first)  # squares about it keep their digits beside a large offset
        folds = np.unique(fold[good])
        gram = {int(k): np.zeros((1 + self._n + m, 1 + self._n + m)) for k in folds}
        lines = {int(k): np.zeros((m, 3, 3)) for k in folds}
        for rows in observations.chunks():
            at = slice(rows.start, rows.start + len(rows))
            x, z, y = self._parts(rows)
            for k in np.unique(fold[at][good[at]]):
                own = good[at] & (fold[at] == k)
                q = np.concatenate([np.ones((int(own.sum()), 1)), x[own], y[own]], axis=1)
                gram[int(k)] += q.T @ q
                v = np.stack([np.ones_like(z[own]), z[own], y[own]], axis=2)
                lines[int(k)] += np.einsum("nmi,nmj->mij", v, v, optimize=True)
        self._of_fold = {k: self._without(k, gram, lines) for k in gram}
        self._penalty = int(np.argmin(self._losses(gram)))
        whole = np.sum(list(gram.values()), axis=0)
        p = 1 + self._n
        spread = np.diag(whole)[p:] / whole[0, 0] - (whole[0, p:] / whole[0, 0]) ** 2
        self.variance = np.maximum(spread, 1e-12 * np.maximum(spread.max(), 1e-300))

    def _parts(self, rows: Rows) -> tuple[Float, Float, Float]:
        x, y = rows.inputs, columns(rows)
        if rows.output is None:
            z = x @ self._weights.T
        else:
            x = x * self._weights[rows.output]
            z = x.sum(1, keepdims=True)
        x0, z0, y0 = self._about
        return x[:, : self._n] - x0, z - z0, y - y0

    def _without(self, k: int, gram: dict[int, Float], lines: dict[int, Float]) -> _Others:
        one = len(gram) == 1
        whole = sum(g for j, g in gram.items() if j != k or one)
        line = sum(v for j, v in lines.items() if j != k or one)
        assert isinstance(whole, np.ndarray)
        assert isinstance(line, np.ndarray)
        p = 1 + self._n
        mean = whole[0, p:] / whole[0, 0]
        centre = whole[0, 1:p] / whole[0, 0]
        s = whole[1:p, 1:p] - whole[0, 0] * np.outer(centre, centre)
        r = whole[1:p, p:] - whole[0, 0] * np.outer(centre, mean)
        varies = np.diag(s) > 1e-12 * np.diag(s).max(initial=1e-300)  # of an input that never does there is no gain
        size = np.where(varies, np.sqrt(np.maximum(np.diag(s), 0)), np.inf)
        values, vectors = np.linalg.eigh(s / np.outer(size, size)) if self._n else (np.zeros(0), np.zeros((0, 0)))
        top = max(float(values[-1]), 1e-300) if len(values) else 1.0
        along = vectors.T @ (r / size[:, None])
        gains = [(vectors @ (along / (np.maximum(values, 0) + a * top)[:, None])) / size[:, None] for a in PENALTIES]
        of_z = line[:, 1, 1] - line[:, 0, 1] ** 2 / line[:, 0, 0]
        slope = (line[:, 1, 2] - line[:, 0, 1] * line[:, 0, 2] / line[:, 0, 0]) / np.maximum(of_z, 1e-300)
        return _Others(mean, centre, np.stack(gains), slope, line[:, 0, 1] / line[:, 0, 0])

    def _losses(self, gram: dict[int, Float]) -> Float:
        """Held-out loss by penalty: the ridge that it is compared with is the best of them."""
        p, lost = 1 + self._n, np.zeros(len(PENALTIES))
        for k, g in gram.items():
            o = self._of_fold[k]
            for i, gain in enumerate(o.gains):
                left = np.concatenate([-(o.mean - o.centre @ gain)[None], -gain, np.eye(len(o.mean))])
                lost[i] += np.einsum("im,ij,jm->m", left, g, left, optimize=True).sum() / max(g[p:, p:].trace(), 1e-300)
        return lost

    def residuals(self, rows: Rows, fold: NDArray[np.intp]) -> Float:
        """(3, n, M) or (3, n, 1): readings less what the mean, the line and the ridge of the other folds say."""
        x, z, y = self._parts(rows)
        found = np.empty((3, *y.shape))
        for k in np.unique(fold):
            own, o = fold == k, self._of_fold.get(int(k)) or next(iter(self._of_fold.values()))
            found[0, own] = y[own] - o.mean
            found[1, own] = found[0, own] - o.slope * (z[own] - o.middle)
            found[2, own] = found[0, own] - (x[own] - o.centre) @ o.gains[self._penalty]
        return found


@dataclass(frozen=True)
class _Others:
    """What the other folds say: mean (M,), centre (N,) and gains (penalties, N, M) of a ridge, slope and middle of a
    line (M,).
    """

    mean: Float
    centre: Float
    gains: Float
    slope: Float
    middle: Float
