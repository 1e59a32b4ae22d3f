"""Sufficient statistics: weighted Gram matrices of (1, inputs, residuals), one for each fold of the hold-out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


class Sums:
    """Gram matrices of ``q = (1, φ, r)`` over the good rows of each fold.

    Parameters
    ----------
    features, outputs, folds
        Lengths of φ and r, and number of folds.
    """

    def __init__(self, features: int, outputs: int, folds: int) -> None:
        self.features, self.outputs = features, outputs
        size = 1 + features + outputs
        self.gram = np.zeros((folds, size, size))
        self.rows = np.zeros(folds)

    def add(self, fold: NDArray[np.intp], weight: Float, features: Float, residual: Float) -> None:
        """Add rows: the fold of each (n,), its weight (n,), features φ (n, p) and residuals r (n, M)."""
        q = np.concatenate([np.ones((len(fold), 1)), features, residual], axis=1)
        q *= np.sqrt(weight)[:, None]
        for k in np.unique(fold):
            part = q if (fold == k).all() else q[fold == k]
            self.gram[k] += part.T @ part
            self.rows[k] += len(part)

    def moments(self, without: int | None = None) -> Moments:
        """Moments over all folds, or over all but one."""
        kept = np.arange(len(self.gram)) != (-1 if without is None else without)
        return Moments(self.gram[kept].sum(0), self.features, float(self.rows[kept].sum()))


@dataclass(frozen=True)
class Moments:
    """Sums with the intercept projected out.

    Attributes
    ----------
    gram
        (1 + p + M,) squared, about zero.
    features
        p
    rows
        Their number.
    """

    gram: Float
    features: int
    rows: float

    @property
    def mean(self) -> Float:
        """(p + M,) weighted means of φ and r."""
        return np.asarray(self.gram[0, 1:] / self.gram[0, 0])

    @cached_property
    def centred(self) -> Float:
        """(p + M, p + M) products about the mean."""
        return np.asarray(self.gram[1:, 1:] - np.outer(self.gram[0, 1:], self.mean))

    @property
    def s(self) -> Float:
        """(p, p) ``Σ a φ φᵀ``: products of the features."""
        return self.centred[: self.features, : self.features]

    @property
    def r(self) -> Float:
        """(M, p) ``Σ a r φᵀ``: products of residuals and features."""
        return self.centred[self.features :, : self.features]

    @property
    def rr(self) -> Float:
        """(M, M) ``Σ a r rᵀ``: products of the residuals."""
        return self.centred[self.features :, self.features :]

    def loss(self, gain: Float, intercept: Float, omega: Float) -> float:
        """``Σ a (r − b − G φ)ᵀ Ω (r − b − G φ)`` of these rows for other rows' ``gain`` (M, p), ``intercept`` (M,)."""
        left, p = np.concatenate([-intercept[None, :], -gain.T]), 1 + self.features
        own, across, rest = self.gram[:p, :p], left.T @ self.gram[:p, p:], self.gram[p:, p:]
        return float((omega * (left.T @ own @ left + across + across.T + rest)).sum())

    def intercept(self, gain: Float) -> Float:
        """(M,) offset at which residuals under ``gain`` (M, p) have mean zero."""
        return np.asarray(self.mean[self.features :] - gain @ self.mean[: self.features])
