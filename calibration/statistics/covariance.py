"""Covariance of vectors whose entries have noise of their own and one random factor in common.

A vector of M entries has the covariance ::

    C = diag(v) + ρ² y yᵀ

where v are the variances that the entries have of their own, and the factor, of variance ρ², moves all entries along y
at once. On a bench the vector is the reading of one frame: v = σ² + κ s is read noise and shot noise, y the light, and
the factor the flicker of the source (`calibration.machine.noise`).

All of C⁻¹, its root and log det C follow from sums over the entries (J. Sherman & W. J. Morrison, Ann. Math. Stat. 21
(1950) 124), so that nothing here costs more than the vectors themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Covariance:
    """``C = diag(v) + ρ² y yᵀ`` of each of n vectors of M entries.

    Attributes
    ----------
    own
        (n, M) v: the variance that each entry has of its own, positive.
    along
        (n, M) y: how far one unit of the common factor moves each entry.
    factor_variance
        (n,) ρ²: variance of the common factor; 0 where there is none.
    """

    own: Float
    along: Float
    factor_variance: Float

    @classmethod
    def of(cls, own: Float, along: Float, factor_variance: Float | float) -> Covariance:
        """The same from a factor of one variance for all vectors, or of one for each."""
        return cls(own, along, np.broadcast_to(np.asarray(factor_variance, np.float64), own.shape[:1]))

    def __getitem__(self, vectors: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Covariance:
        return Covariance(self.own[vectors], self.along[vectors], self.factor_variance[vectors])

    @property
    def variance(self) -> Float:
        """(n, M) diagonal of C."""
        return np.asarray(self.own + self.factor_variance[:, None] * self.along**2)

    @cached_property
    def own_precision(self) -> Float:
        """(n, M) 1 / v."""
        return np.asarray(1.0 / self.own)

    @cached_property
    def weight(self) -> Float:
        """(n, M) a = y / v: the weight that each entry has where the common factor is looked for."""
        return np.asarray(self.along / self.own)

    @cached_property
    def information(self) -> Float:
        """(n,) yᵀ a: what one vector tells of the common factor, 1 / variance."""
        return np.asarray((self.along * self.weight).sum(axis=1))

    @cached_property
    def shrink(self) -> Float:
        """(n,) h of ``C⁻¹ = diag(1/v) − h a aᵀ``: ρ² / (1 + ρ² yᵀ a)."""
        return np.asarray(self.factor_variance / (1.0 + self.factor_variance * self.information))

    @property
    def factor_precision(self) -> Float:
        """(n,) 1 / ρ²: what is known of the factor before anything is read; infinite where there is none."""
        with np.errstate(divide="ignore"):
            return np.divide(1.0, self.factor_variance)

    @property
    def weighted_variance(self) -> Float:
        """(n,) variance aᵀ C a of the weighted sum aᵀ x; 1 where the factor moves nothing."""
        kept = 1.0 - self.shrink * self.information
        seen = self.information > 0
        return np.where(seen, self.information / np.where(seen, kept, 1.0), 1.0)

    def factor(self, residual: Float) -> Float:
        """(n,) the most likely value of the common factor, given residuals (n, M)."""
        return np.asarray(self.shrink * (residual * self.weight).sum(axis=1))

    def solve(self, values: Float) -> Float:
        """C⁻¹ times ``values``: vectors (n, M), or r columns for each, (n, M, r)."""
        if values.ndim == 2:
            return np.asarray(values * self.own_precision - self.factor(values)[:, None] * self.weight)
        common = self.shrink[:, None] * np.einsum("nm,nmr->nr", self.weight, values)
        return np.asarray(values * self.own_precision[:, :, None] - self.weight[:, :, None] * common[:, None, :])

    def quadratic(self, residual: Float) -> Float:
        """(n,) χ² = rᵀ C⁻¹ r of residuals r (n, M)."""
        common = (residual * self.weight).sum(axis=1)
        return np.asarray((residual**2 * self.own_precision).sum(axis=1) - self.shrink * common**2)

    def whiten(self, values: Float) -> Float:
        """R times ``values`` (n, M, r), where Rᵀ R = C⁻¹: whitened residuals are independent, of variance 1."""
        root = np.sqrt(self.own_precision)
        scaled = values * root[:, :, None]
        unit = self.along * root
        size = np.where(self.information > 0, self.information, 1.0)
        shrink = (1.0 - 1.0 / np.sqrt(1.0 + self.factor_variance * size)) / size
        common = np.einsum("nm,nmr->nr", unit, scaled) * shrink[:, None]
        return np.asarray(scaled - unit[:, :, None] * common[:, None, :])

    @property
    def inverse_diagonal(self) -> Float:
        """(n, M) diagonal of C⁻¹."""
        return np.asarray(self.own_precision - self.shrink[:, None] * self.weight**2)

    @property
    def log_det_own(self) -> Float:
        """(n,) log det diag(v)."""
        return np.asarray(np.log(self.own).sum(axis=1))

    @property
    def log_det_common(self) -> Float:
        """(n,) by how much the common factor raises log det C: log(1 + ρ² yᵀ a)."""
        return np.log1p(self.factor_variance * self.information)

    @property
    def log_det(self) -> Float:
        """(n,) log det C."""
        return np.asarray(self.log_det_own + self.log_det_common)
