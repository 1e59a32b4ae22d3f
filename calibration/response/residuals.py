"""Readings against a response, reduced to what drift, common light and bad rows need: six numbers per row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_law
from scipy.stats import norm

from calibration.response.model import Response
from calibration.response.observations import Observations, Rows

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Reduced:
    """Residuals r of each row with covariance D (diagonal), against ``H = (∂y/∂gain, 1)``.

    Attributes
    ----------
    at_s
        (n,) clock.
    information
        (n, 2, 2) ``Hᵀ D⁻¹ H``
    score
        (n, 2) ``Hᵀ D⁻¹ r``
    chi2
        (n,) ``rᵀ D⁻¹ r``
    outputs
        Readings per row.
    """

    at_s: Float
    information: Float
    score: Float
    chi2: Float
    outputs: int

    def __len__(self) -> int:
        return len(self.at_s)

    def take(self, rows: NDArray[np.intp] | slice) -> Reduced:
        """Some rows."""
        return Reduced(self.at_s[rows], self.information[rows], self.score[rows], self.chi2[rows], self.outputs)

    def chi2_given(self, level: Float, covariance: Float) -> Float:
        """(n,) χ² of each row when gain and offset are ``level`` (n, 2) with ``covariance`` (n, 2, 2) common to it."""
        score, chi2 = self._moved(level)
        shrink = np.linalg.solve(np.eye(2) + self.information @ covariance, score[:, :, None])
        return np.asarray(chi2 - np.einsum("ni,nij,nj->n", score, covariance, shrink[:, :, 0]))

    def log_likelihood(self, level: Float, covariance: Float) -> float:
        """Of all rows, up to a constant that depends on D alone."""
        determinant = np.linalg.det(np.eye(2) + self.information @ covariance)
        return float(-0.5 * (self.chi2_given(level, covariance) + np.log(determinant)).sum())

    def blurred(self, jitter: Float) -> tuple[Float, Float]:
        """Information and score about the level under a gain and offset that jitter from row to row."""
        mix = np.linalg.inv(np.eye(2) + self.information @ jitter)
        information = mix @ self.information
        return (information + information.swapaxes(1, 2)) / 2, np.einsum("nij,nj->ni", mix, self.score)

    def _moved(self, level: Float) -> tuple[Float, Float]:
        pulled = np.einsum("nij,nj->ni", self.information, level)
        moved = self.chi2 - 2 * (level * self.score).sum(1) + (level * pulled).sum(1)
        return self.score - pulled, moved


def reduce_rows(response: Response, rows: Rows, readings: Float) -> Reduced:
    """`Reduced` of some rows; ``readings`` (rows, M) or (rows, 1)."""
    light = response.light(rows)
    variance = response.noise_variance(light, rows) + response.parameter_variance(light, rows)
    residual = readings - response.mean(light, rows)
    return reduced(rows.at_s, response.slope(light, rows), variance, residual)


def reduced(at_s: Float, slope: Float, variance: Float, residual: Float) -> Reduced:
    """`Reduced` from arrays (rows, M)."""
    weight = 1 / variance
    weighted = weight * slope
    information = np.empty((len(at_s), 2, 2))
    information[:, 0, 0] = (weighted * slope).sum(1)
    information[:, 0, 1] = information[:, 1, 0] = weighted.sum(1)
    information[:, 1, 1] = weight.sum(1)
    score = np.stack([(weighted * residual).sum(1), (weight * residual).sum(1)], axis=1)
    return Reduced(at_s, information, score, (weight * residual**2).sum(1), slope.shape[1])


def reduce_all(response: Response, observations: Observations) -> Reduced:
    """`Reduced` of a whole file, by chunks."""
    parts = [reduce_rows(response, rows, columns(rows)) for rows in observations.chunks()]
    return Reduced(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("at_s", "information", "score", "chi2")),
        parts[0].outputs,
    )


def columns(rows: Rows) -> Float:
    """Readings as (rows, M) or (rows, 1)."""
    assert rows.readings is not None
    return rows.readings if rows.readings.ndim == 2 else rows.readings[:, None]


def normal_score(chi2: Float, dof: int) -> Float:
    """χ² as the normal deviate with the same upper tail (Wilson–Hilferty beyond 1e-290)."""
    z = norm.isf(np.maximum(chi2_law.sf(chi2, dof), 1e-290))
    cube = (np.cbrt(chi2 / dof) - (1 - 2 / (9 * dof))) / np.sqrt(2 / (9 * dof))
    return np.asarray(np.where(z > 36, np.maximum(cube, 36), z))
