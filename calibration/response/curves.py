"""Curvature: of the input's transmission, x + q x², and of the detector, y + a y²."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_law

from calibration.response.model import Response
from calibration.response.observations import Observations, Rows
from calibration.response.structure import LEVEL, Selector
from calibration.statistics.choice import Choice

Float = NDArray[np.float64]

OUTPUTS = 8  # that are looked at: both curves are common to all
ROWS = 20000
RIDGE = 1e-9
NAMES = {(): "none", (0,): "input curve", (1,): "detector curve", (0, 1): "input and detector curve"}


class Curves:
    """Gram matrices of ``(1, φ, f, r)`` by fold, with the derivatives f of the readings by q and by a.

    Parameters
    ----------
    observations
        Spread rows and outputs of it are looked at where it is large.
    """

    def __init__(self, observations: Observations) -> None:
        single, m = observations.single, observations.n_outputs
        self.outputs = np.arange(1) if single else np.unique(np.linspace(0, m - 1, min(m, OUTPUTS)).astype(int))
        self.stride = -(-observations.count // ROWS)
        self.features = observations.n_inputs + (m if single else 0)
        self.gram: dict[int, Float] = {}
        self.rows = 0

    def add(
        self,
        response: Response,
        rows: Rows,
        good: NDArray[np.bool_],
        fold: NDArray[np.intp],
        weight: Float,
        phi: Float,
        residual: Float,
        light: Float,
    ) -> None:
        """Add rows, with the residuals that the current response leaves of them."""
        block = (np.arange(rows.start, rows.start + len(rows)) // 64) % self.stride == 0  # neighbours stay together
        kept = good & block
        o = self.outputs
        squared = rows.inputs[kept] ** 2
        if rows.output is None:
            by_q = squared @ response.gain[o].T
        else:
            by_q = np.einsum("rk,rk->r", response.gain[rows.output[kept]], squared)[:, None]
        by_a = light[kept][:, o] ** 2
        detector = response.per_output(response.detector, rows)
        a = (detector[kept] if rows.output is not None else detector)[:, o]
        left = residual[kept][:, o] + response.curve * by_q + a * by_a
        q = np.concatenate([np.ones((len(left), 1)), phi[kept], by_q, by_a, left], axis=1)
        q *= np.sqrt(weight[kept])[:, None]
        for k in np.unique(fold[kept]):
            part = q[fold[kept] == k]
            self.gram[int(k)] = self.gram.get(int(k), 0.0) + part.T @ part
        self.rows += len(left)


def fit_curves(curves: Curves, selector: Selector) -> tuple[float, float, Choice]:
    """Fit both curvatures and decide whether there is one; return q, a and the choice.

    A curvature counts if an F test shows it and if it predicts held-out rows better, as every other structure must.
    """
    o = curves.outputs
    omega = selector.omega if len(selector.omega) == 1 else np.linalg.inv(np.linalg.inv(selector.omega)[np.ix_(o, o)])
    whole = sum(curves.gram.values())
    if not isinstance(whole, np.ndarray) or curves.rows < curves.features + 30:
        return 0.0, 0.0, Choice("none", "none", 0.0, 1.0, "input curve", "too few rows to look for curvature")
    p = curves.features
    omega = omega * _scale(whole, p, len(o), omega, curves.rows)
    dof = (curves.rows - p - 1) * len(o)
    names = {t: _solve(whole, p, len(o), omega, t) for t in NAMES}
    held = dict.fromkeys(NAMES, 0.0)
    for gram in curves.gram.values():
        for t in NAMES:
            held[t] -= 0.5 * _loss(gram, _solve(whole - gram, p, len(o), omega, t)[2], omega)
    chosen: tuple[int, ...] = ()
    last: tuple[tuple[int, ...], tuple[int, ...], float, float] | None = None
    while True:
        more = [t for t in NAMES if len(t) == len(chosen) + 1 and set(chosen) < set(t)]
        tests = [(t, names[t][1] - names[chosen][1]) for t in more]
        if not tests:
            break
        t, f = max(tests, key=lambda item: item[1])
        chance = float(f_law.sf(max(f, 0.0), 1, dof))
        if chance > LEVEL or held[t] <= held[chosen]:
            if last is None:
                last = t, chosen, f, chance
            break
        last, chosen = (t, chosen, f, chance), t
    assert last is not None
    t, before, f, chance = last
    statistic = f"F(1, {dof})"
    if chosen == ():
        reason = f"no evidence for curvature ({statistic} = {f:.2f}, p = {chance:.2g})"
        if chance <= LEVEL:
            reason = f"curvature does not predict held-out rows better ({statistic} = {f:.2f}, p = {chance:.2g})"
        return 0.0, 0.0, Choice("none", statistic, f, chance, NAMES[t], reason)
    q, a = names[chosen][0]
    reason = (
        f"{NAMES[chosen]}: {statistic} = {f:.3g}, p = {chance:.2g} against {NAMES[before]}; held-out log-likelihood "
        f"+{held[chosen] - held[before]:.1f}"
    )
    return q, a, Choice(NAMES[chosen], statistic, f, chance, NAMES[before], reason)


def _solve(
    gram: Float, p: int, m: int, omega: Float, terms: tuple[int, ...]
) -> tuple[tuple[float, float], float, Float]:
    """(q, a), the loss they take away, and the residual as combination of the columns of the Gram matrix (…, M)."""
    base = gram[: p + 1, : p + 1]
    unit = 1 / np.sqrt(np.maximum(np.diag(base), 1e-300))
    cross = gram[: p + 1, p + 1 :]
    project = unit[:, None] * np.linalg.solve(
        base * unit * unit[:, None] + RIDGE * np.eye(p + 1), unit[:, None] * cross
    )
    rest = gram[p + 1 :, p + 1 :] - cross.T @ project
    f = [slice(0, m), slice(m, 2 * m)]
    r = slice(2 * m, 3 * m)
    h = np.array([[(omega * rest[f[i], f[j]]).sum() for j in terms] for i in terms]).reshape(len(terms), len(terms))
    right = np.array([(omega * rest[f[i], r]).sum() for i in terms])
    value = np.linalg.solve(h, right) if terms else np.zeros(0)
    theta = np.zeros(2)
    theta[list(terms)] = value
    combination = np.concatenate([-theta[0] * np.eye(m), -theta[1] * np.eye(m), np.eye(m)])
    return (
        (float(theta[0]), float(theta[1])),
        float(value @ right),
        np.concatenate([-project @ combination, combination]),
    )


def _loss(gram: Float, combination: Float, omega: Float) -> float:
    return float((omega * (combination.T @ gram @ combination)).sum())


def _scale(gram: Float, p: int, m: int, omega: Float, rows: int) -> float:
    """Scale of the loss at which the unrestricted regression has a χ² of one per degree of freedom."""
    loss = _loss(gram, _solve(gram, p, m, omega, ())[2], omega)
    return (rows - p - 1) * m / max(loss, 1e-300)
