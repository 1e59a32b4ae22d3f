"""Residuals of each row in six numbers: all that drift, a common gain or offset, and the search for bad rows need."""

from __future__ import annotations

from dataclasses import dataclass

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

    def with_noise(self, factor: float) -> Reduced:
        """The same where the variance of the readings is ``factor`` times as large."""
        return Reduced(self.at_s, self.information / factor, self.score / factor, self.chi2 / factor, self.outputs)

    def chi2_given(self, level: Float, covariance: Float) -> Float:
        """(n,) χ² of each row when gain and offset are ``level`` (n, 2) with ``covariance`` (n, 2, 2) common to it."""
        return Likelihood(self, level, covariance).chi2()

    def log_likelihood(self, level: Float, covariance: Float) -> float:
        """Log-likelihood of all rows under gain and offset of that mean and covariance, up to a constant."""
        return Likelihood(self, level, covariance)()

    def blurred(self, jitter: Float) -> tuple[Float, Float]:
        """Information and score about the slow drift, where gain and offset scatter about it from row to row."""
        mix = np.linalg.inv(np.eye(2) + self.information @ jitter)
        information = mix @ self.information
        return (information + information.swapaxes(1, 2)) / 2, np.einsum("nij,nj->ni", mix, self.score)


class Likelihood:
    """Log-likelihood of rows under gain and offset of a mean and covariance C, as C grows and D is scaled.

    χ² of a row is ``r₀ᵀ D⁻¹ r₀ − sᵀ (Λ + C⁻¹)⁻¹ s`` with Λ = Hᵀ D⁻¹ H, s = Hᵀ D⁻¹ r₀ and r₀ the residuals at the mean;
    two by two, ``(Λ + C⁻¹)⁻¹ = (C + |C| adj Λ) / |I + Λ C|`` and ``|I + Λ C| = 1 + tr Λ C + |Λ| |C|``. What does not
    change with C is worked out once, since a search for the best C asks hundreds of times.

    Parameters
    ----------
    rows
        Residuals.
    level
        (n, 2) mean of gain and offset.
    covariance
        (n, 2, 2) or (1, 2, 2): C before it grows.
    """

    def __init__(self, rows: Reduced, level: Float, covariance: Float) -> None:
        a, b, d = (np.ascontiguousarray(rows.information[:, i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        (s, t), (g, o) = rows.score.T, level.T
        pull_g, pull_o = a * g + b * o, b * g + d * o
        self._chi2 = rows.chi2 - 2 * (g * s + o * t) + g * pull_g + o * pull_o
        s, t = s - pull_g, t - pull_o
        self._information, self._determinant = (a, 2 * b, d), a * d - b**2
        self._score2 = s**2, 2 * s * t, t**2
        self._across = d * s**2 - 2 * b * s * t + a * t**2  # sᵀ adj(Λ) s
        self._covariance = tuple(np.ascontiguousarray(covariance[:, i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))

    def __call__(self, grown: tuple[float, float] = (0.0, 0.0), factor: float = 1.0) -> float:
        """The log-likelihood, up to a constant: C's diagonal ``grown`` by so much, D multiplied by ``factor``."""
        chi2, determinant = self._against(grown, factor)
        return float(-0.5 * (chi2 + np.log(np.maximum(determinant, 1e-300))).sum())

    def chi2(self) -> Float:
        """(n,) χ² of each row."""
        return self._against((0.0, 0.0), 1.0)[0]

    def sloped(self, grown: tuple[float, float], factor: float) -> tuple[float, Float]:
        """The log-likelihood, and its slopes (3,) in the two variances ``grown`` and in the logarithm of ``factor``."""
        (p, q, r), (a, b2, d), (ss, st2, tt) = self._covariance, self._information, self._score2
        p, q, r = (p + grown[0]) / factor, q / factor, (r + grown[1]) / factor
        chi2, determinant = self._against(grown, factor)
        explained = self._chi2 - chi2 * factor  # sᵀ (Λ + C⁻¹)⁻¹ s
        size, whole, across = p * r - q**2, self._determinant, self._across

        def slope(of_explained: Float, of_determinant: Float) -> Float:
            """What χ² and the log-determinant of each row lose where parts of the fraction grow at these rates."""
            return np.asarray(
                ((of_explained - explained * of_determinant) / factor - of_determinant)
                / np.maximum(determinant, 1e-300)
            )

        by_p = slope(ss + r * across, a + r * whole) / factor
        by_r = slope(tt + p * across, d + p * whole) / factor
        straight, twice = p * ss + q * st2 + r * tt, size * across
        by_factor = chi2 - slope(straight + 2 * twice, a * p + b2 * q + d * r + 2 * size * whole)
        total = float(-0.5 * (chi2 + np.log(np.maximum(determinant, 1e-300))).sum())
        return total, 0.5 * np.array([by_p.sum(), by_r.sum(), by_factor.sum()])

    def _against(self, grown: tuple[float, float], factor: float) -> tuple[Float, Float]:
        (p, q, r), (a, b2, d), (ss, st2, tt) = self._covariance, self._information, self._score2
        p, q, r = (p + grown[0]) / factor, q / factor, (r + grown[1]) / factor
        size = p * r - q**2
        determinant = 1 + a * p + b2 * q + d * r + self._determinant * size
        chi2 = self._chi2 - (p * ss + q * st2 + r * tt + size * self._across) / determinant
        return chi2 / factor, determinant


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
