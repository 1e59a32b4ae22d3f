"""Several power laws through the same models at once: ``ln C = X B``, with what the models and the text leave open.

The models of a fit differ in the seed of their training too, so their scatter about the law is what another training
would change, and what no power law can follow. All models read the same documents, so that what another text would
change moves them together and does not show in that scatter: it comes from a bootstrap over documents, and is added.
With one design for all kinds of product the errors of their coefficients are correlated as their residuals are
(Zellner's seemingly unrelated regressions, where least squares is efficient).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadOperands
from calibration.statistics.tails import f_sf, t_isf

Float = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Fit:
    """Least squares of P columns on K coefficients, the first of which is the height at the mean.

    Attributes
    ----------
    coefficients
        (K, P)
    covariance
        (P, K, P, K) of all coefficients: training and lack of fit, plus text.
    scatter
        (P, P) of one model about the law.
    degrees
        n − K, of Student's t.
    seeds
        (P,) standard deviation of ln C between trainings of one shape; nan where each was trained once.
    lack_of_fit
        (P,) probability that a power law would miss the shapes by as much, given how seeds scatter; nan without seeds.
    """

    coefficients: Float
    covariance: Float
    scatter: Float
    degrees: int
    seeds: Float
    lack_of_fit: Float

    def interval(self, coefficient: int, column: int) -> tuple[float, float]:
        """95 % of one coefficient."""
        value = float(self.coefficients[coefficient, column])
        error = float(np.sqrt(self.covariance[column, coefficient, column, coefficient]))
        half = float(t_isf((1 - LEVEL) / 2, self.degrees)) * error
        return value - half, value + half


def regress(x: Float, y: Float, drawn: Float, groups: Sequence[Hashable]) -> Fit:
    """Fit (n, P) logarithms y on (n, K − 1) centred logarithms x.

    Parameters
    ----------
    drawn
        (B, n, P) y of each draw of documents, the same documents for every model.
    groups
        (n,) equal for models that differ in the seed of their training alone.

    Raises
    ------
    BadOperands
        When there are no more models than coefficients, or two sizes vary together.
    """
    design = np.column_stack([np.ones(len(x)), x])
    n, k = design.shape
    if n <= k or np.linalg.matrix_rank(design) < k:
        raise BadOperands(
            "too few models, or sizes that vary together, for a law",
            expected=f"more than {k} models that tell {k - 1} sizes apart",
            seen=f"{n} models",
            hint="more widths, or fewer arms",
        )
    solve = np.linalg.pinv(design)
    coefficients = solve @ y
    residuals = y - design @ coefficients
    scatter = residuals.T @ residuals / (n - k)
    covariance = np.einsum("pq,kl->pkql", scatter, solve @ solve.T)
    if len(drawn):
        moved = np.moveaxis(solve @ drawn, 2, 1)  # (B, P, K)
        away = (moved - moved.mean(0)).reshape(len(drawn), -1)
        covariance = covariance + (away.T @ away / len(drawn)).reshape(covariance.shape)
    seeds, lack = _pure_error(y, residuals, groups, k)
    return Fit(coefficients, covariance, scatter, n - k, seeds, lack)


def _pure_error(y: Float, residuals: Float, groups: Sequence[Hashable], k: int) -> tuple[Float, Float]:
    """Scatter within the groups, and the F test of what the law leaves beyond it."""
    which = np.unique([list(dict.fromkeys(groups)).index(group) for group in groups], return_inverse=True)[1]
    n, shapes = len(y), int(which.max()) + 1
    within = y - np.stack([y[which == g].mean(0) for g in range(shapes)])[which]
    pure, beyond = n - shapes, shapes - k
    missing = np.full(y.shape[1], np.nan)
    if not pure:
        return missing, missing
    variance = np.square(within).sum(0) / pure
    if beyond < 1:
        return np.sqrt(variance), missing
    excess = (np.square(residuals).sum(0) - np.square(within).sum(0)) / beyond
    ratio = np.divide(excess, variance, out=np.full(len(variance), np.nan), where=variance > 0)
    return np.sqrt(variance), np.asarray(f_sf(ratio, beyond, pure))
