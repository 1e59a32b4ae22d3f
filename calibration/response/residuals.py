"""Residuals of each row in six numbers: all that drift, a common gain or offset, and the search for bad rows need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

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
        """The same of some rows only."""
        return Reduced(self.at_s[rows], self.information[rows], self.score[rows], self.chi2[rows], self.outputs)

    def scaled(self, factor: float) -> Reduced:
        """The same for residuals whose covariance is larger by a factor."""
        return replace(self, information=self.information / factor, score=self.score / factor, chi2=self.chi2 / factor)

    def chi2_given(self, level: Float, covariance: Float) -> Float:
        """(n,) χ² of each row when gain and offset are ``level`` (n, 2) with ``covariance`` (n, 2, 2) common to it."""
        return self._against(level, covariance)[0]

    def log_likelihood(self, level: Float, covariance: Float) -> float:
        """Log-likelihood of all rows under gain and offset of that mean and covariance, up to a constant."""
        chi2, determinant = self._against(level, covariance)
        return float(-0.5 * (chi2 + np.log(np.maximum(determinant, 1e-300))).sum())

    def blurred(self, jitter: Float) -> tuple[Float, Float]:
        """Information and score about the slow drift, where gain and offset scatter about it from row to row."""
        mix = np.linalg.inv(np.eye(2) + self.information @ jitter)
        information = mix @ self.information
        return (information + information.swapaxes(1, 2)) / 2, np.einsum("nij,nj->ni", mix, self.score)

    def _against(self, level: Float, covariance: Float) -> tuple[Float, Float]:
        """χ² and determinant of ``I + Λ C``; two by two, written out."""
        (a, b, d), (s, t) = self._entries(), self.score.T
        g, o = level.T
        pull_g, pull_o = a * g + b * o, b * g + d * o
        chi2 = self.chi2 - 2 * (g * s + o * t) + g * pull_g + o * pull_o
        s, t = s - pull_g, t - pull_o
        p, q, r = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
        m00, m01 = 1 + a * p + b * q, a * q + b * r
        m10, m11 = b * p + d * q, 1 + b * q + d * r
        determinant = m00 * m11 - m01 * m10
        u, v = (m11 * s - m01 * t) / determinant, (m00 * t - m10 * s) / determinant
        return chi2 - (s * (p * u + q * v) + t * (q * u + r * v)), determinant

    def _entries(self) -> tuple[Float, Float, Float]:
        return self.information[:, 0, 0], self.information[:, 0, 1], self.information[:, 1, 1]


def reduce_rows(response: Response, rows: Rows, readings: Float, about: Float) -> Reduced:
    """Reduce rows with ``readings`` (rows, M), or (rows, 1) of a single detector.

    ``about`` (rows, 2) is where gain and offset are thought to be: curves and noise are taken there.
    """
    light = response.light(rows)
    drifted = light * (1 + about[:, :1])
    variance = response.noise_variance(drifted, rows) + response.parameter_variance(light, rows)
    slope = response.slope(light, rows, about)
    residual = readings - response.mean(light, rows, about) + slope * about[:, :1] + about[:, 1:]
    return reduced(rows.at_s, slope, variance, residual, response.noise.whitening, np.isnan(readings))


def reduced(
    at_s: Float,
    slope: Float,
    variance: Float,
    residual: Float,
    whitening: Float | None,
    absent: NDArray[np.bool_] | None = None,
) -> Reduced:
    """Reduce residuals (rows, M) with their variance and their slopes in the gain; ``whitening`` (M, M) or None.

    A reading that is ``absent`` (rows, M) says nothing of gain and offset, and adds 1 to χ², as one does on average.
    """
    offset = 1 / np.sqrt(variance)
    if some := absent is not None and bool(absent.any()):
        offset, residual = np.where(absent, 0.0, offset), np.where(absent, 0.0, residual)
    gain, rest = slope * offset, residual * offset
    if whitening is not None:
        gain, offset, rest = (a @ whitening.T for a in (gain, offset, rest))
    information = np.empty((len(at_s), 2, 2))
    information[:, 0, 0] = _dot(gain, gain)
    information[:, 0, 1] = information[:, 1, 0] = _dot(gain, offset)
    information[:, 1, 1] = _dot(offset, offset)
    score = np.stack([_dot(gain, rest), _dot(offset, rest)], axis=1)
    chi2 = _dot(rest, rest)
    if some and absent is not None:
        chi2 = chi2 + absent.sum(axis=1)
    return Reduced(at_s, information, score, chi2, slope.shape[1])


def _dot(a: Float, b: Float) -> Float:
    return np.asarray(np.einsum("rm,rm->r", a, b))


def reduce_all(response: Response, observations: Observations, about: Float | None = None) -> Reduced:
    """Reduce a whole file, a piece of it in memory at a time; ``about`` (n, 2) as in `reduce_rows`, zero if None."""
    where = np.zeros((observations.count, 2)) if about is None else about
    parts = [
        reduce_rows(response, rows, as_read(rows), where[rows.start : rows.start + len(rows)])
        for rows in observations.chunks()
    ]
    at_s, information, score, chi2 = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("at_s", "information", "score", "chi2")
    )
    return Reduced(at_s, information, score, chi2, parts[0].outputs)


def columns(rows: Rows) -> Float:
    """Readings as a matrix: (rows, M), or (rows, 1) of a single detector."""
    assert rows.readings is not None
    return rows.readings if rows.readings.ndim == 2 else rows.readings[:, None]


def as_read(rows: Rows) -> Float:
    """The same, NaN where a reading is missing or was drawn."""
    return columns(rows) if rows.drawn is None else np.where(rows.drawn, np.nan, columns(rows))
