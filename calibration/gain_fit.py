"""Gain map and offset from multiplexed display patterns, and the choice of its structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_banded

from calibration.channel import Noise, undo_bleed
from calibration.errors import FitError

Float = NDArray[np.float64]

DEGREES = (2, 4, 6, 8)


@dataclass(frozen=True)
class GainMap:
    """One hypothesis about the gain map.

    Attributes
    ----------
    structure
        ``"scalar"``, ``"per output"``, ``"separable"``, ``"smooth(p)"`` or ``"full"``.
    parameters
        Number of free parameters.
    gain_dn, stderr_dn
        (M, K) [DN]
    chi2
        Σ of what it misses of the full map, squared, over that map's covariance; 0 for the full map itself.
    """

    structure: str
    parameters: int
    gain_dn: Float
    stderr_dn: Float
    chi2: float

    @property
    def aic(self) -> float:
        """Akaike's criterion, χ² + 2 p: twice the expected loss of held-out likelihood."""
        return self.chi2 + 2 * self.parameters


@dataclass(frozen=True)
class FullGain:
    """Every macropixel's gain with the covariance of its error.

    Errors are independent between rows but for the flicker of the source, which moves a whole column at once: column
    k has covariance ``diag(stderr²) + common_k² r rᵀ`` with the row profile r of mean 1. Between columns they are
    correlated alike in every row: frames with all columns lit know the sum of a row far better than its parts.

    Attributes
    ----------
    gain_dn, stderr_dn
        (M, K) estimates and the independent part of their standard errors [DN].
    common_dn
        (K,) standard error that all outputs of a column share [DN].
    profile
        (M,) r [1].
    correlation
        (K, K) of the errors of two columns [1].
    """

    gain_dn: Float
    stderr_dn: Float
    common_dn: Float
    profile: Float
    correlation: Float

    def as_map(self) -> GainMap:
        """The full map as a hypothesis among others."""
        total = np.hypot(self.stderr_dn, np.outer(self.profile, self.common_dn))
        return GainMap("full", self.gain_dn.size, self.gain_dn, total, 0.0)

    def whiten(self, maps: Float) -> Float:
        """Maps (M, K, …) in units in which the full map's errors are independent with variance 1."""
        extra = (1,) * (maps.ndim - 2)
        scaled = maps / self.stderr_dn.reshape(*self.stderr_dn.shape, *extra)
        along = np.outer(self.profile, self.common_dn) / self.stderr_dn
        size2 = (along**2).sum(axis=0)
        shrink = (1 - 1 / np.sqrt(1 + size2)) / np.maximum(size2, 1e-300)
        inside = np.einsum("mk,mk...->k...", along, scaled) * shrink.reshape(-1, *extra)
        rows = scaled - along.reshape(*along.shape, *extra) * inside
        root = np.linalg.inv(np.linalg.cholesky(self.correlation))
        return np.moveaxis(np.tensordot(root, rows, axes=(1, 1)), 0, 1)


def fit_full_gain(
    display: Float, dn: Float, noise: Noise, expected_dn: Float, crosstalk: Float, bleed: Float
) -> tuple[FullGain, Float, Float]:
    """Every macropixel's gain, by weighted least squares with the SLM at full transmission.

    Parameters
    ----------
    display
        (n, K) display transmissions.
    dn
        (n, M) dark-subtracted readings [DN].
    noise, expected_dn
        Noise of a reading, and the light (n, M) that it belongs to [DN].
    crosstalk, bleed
        Of the channel; what they mix is unmixed here.

    Returns
    -------
    The full map, the offsets (M,) and their standard errors (M,) [DN].

    Raises
    ------
    FitError
        When the patterns do not determine every column.
    """
    design = np.column_stack([np.ones(len(display)), display])
    weighted = design / noise.variance(expected_dn).mean(axis=1)[:, None]
    normal = weighted.T @ design
    try:
        covariance = cho_solve(cho_factor(normal), np.eye(len(normal)))
    except np.linalg.LinAlgError as error:
        raise FitError(
            "the display patterns do not determine the gain of every column",
            action="gain",
            expected="independent patterns, as many as columns",
            seen=f"rank {np.linalg.matrix_rank(normal)} of {len(normal)}",
        ) from error
    estimator = covariance @ weighted.T  # (K + 1, n)
    solution = estimator @ dn
    light = np.maximum(expected_dn, 0.0)
    independent = np.sqrt(estimator**2 @ (noise.read_dn**2 + noise.shot_dn * light))  # (K + 1, M)
    common = noise.intensity * np.sqrt(estimator**2 @ light.mean(axis=1) ** 2)
    gain = undo_bleed(bleed, unmix_rows(crosstalk, solution[1:].T))
    profile = gain.mean(axis=1) / gain.mean()
    spread = np.sqrt(np.diag(covariance)[1:])
    correlation = covariance[1:, 1:] / np.outer(spread, spread)
    full = FullGain(gain, independent[1:].T.copy(), common[1:], profile, correlation)
    return full, solution[0], np.hypot(independent[0], common[0] * profile)


def gain_structures(full: FullGain) -> list[GainMap]:
    """The hierarchy scalar → per output → separable → smooth → full, each fitted to the full map.

    The Hadamard design makes the full map, with its covariance, a sufficient statistic: every simpler structure is a
    generalised least-squares fit to it.
    """
    return [fit(full) for fit in _fits(full).values()]


def gain_structure(name: str, full: FullGain) -> GainMap:
    """One structure of `gain_structures`, by its name."""
    return _fits(full)[name](full)


def likeliest(maps: list[GainMap]) -> GainMap:
    """The structure with the best Akaike criterion."""
    return min(maps, key=lambda g: g.aic)


def unmix_rows(crosstalk: Float, raw: Float) -> Float:
    """Undo `calibration.channel.mix` along the rows of (M, K) ``raw``."""
    bands = np.ones((3, len(raw)))
    bands[0, 1:], bands[2, :-1] = crosstalk[:-1, 1], crosstalk[1:, 0]
    return np.asarray(solve_banded((1, 1), bands, raw))


def _fits(full: FullGain) -> dict[str, Callable[[FullGain], GainMap]]:
    """How to fit each structure that a map of this size allows, simplest first."""
    m, k = full.gain_dn.shape
    rows = np.repeat(np.eye(m)[:, None, :], k, axis=1)  # (M, K, M)
    return {
        "scalar": partial(_linear, "scalar", np.ones((m, k, 1))),
        "per output": partial(_linear, "per output", rows),
        "separable": _separable,
        **{f"smooth({p})": partial(_smooth, p) for p in DEGREES if p < min(m, k) - 1},
        "full": FullGain.as_map,
    }


def _linear(structure: str, basis: Float, full: FullGain) -> GainMap:
    """Generalised least squares on ``basis`` (M, K, p)."""
    p = basis.shape[2]
    design, target = full.whiten(basis).reshape(-1, p), full.whiten(full.gain_dn).ravel()
    covariance = np.linalg.inv(design.T @ design)
    parameters = covariance @ (design.T @ target)
    stderr = np.sqrt(np.einsum("mki,ij,mkj->mk", basis, covariance, basis, optimize=True))
    return GainMap(structure, p, basis @ parameters, stderr, float(((target - design @ parameters) ** 2).sum()))


def _separable(full: FullGain) -> GainMap:
    """u_mk = r_m c_k: Gauss–Newton from the means of rows and columns; the scale of r against c is free."""
    u = full.gain_dn
    m, k = u.shape
    scale = np.sqrt(abs(u.mean()))
    row, column = u.mean(1) / scale, u.mean(0) * scale / u.mean()
    for _ in range(10):
        basis = np.concatenate(
            [np.eye(m)[:, None, :] * column[:, None], np.broadcast_to(row[:, None, None] * np.eye(k), (m, k, k))],
            axis=2,
        )
        design = full.whiten(basis).reshape(-1, m + k)
        covariance = np.linalg.pinv(design.T @ design, rcond=1e-12, hermitian=True)
        step = covariance @ (design.T @ full.whiten(u - np.outer(row, column)).ravel())
        row, column = row + step[:m], column + step[m:]
        if np.abs(step).max() < 1e-7 * scale:
            break
    gain = np.outer(row, column)
    stderr = np.sqrt(np.einsum("mki,ij,mkj->mk", basis, covariance, basis, optimize=True))
    return GainMap("separable", m + k - 1, gain, stderr, float((full.whiten(u - gain) ** 2).sum()))


def _smooth(degree: int, full: FullGain) -> GainMap:
    """Legendre polynomials of the row and column, up to a total degree."""
    m, k = full.gain_dn.shape
    y = legendre.legvander(np.linspace(-1, 1, m), degree)
    x = legendre.legvander(np.linspace(-1, 1, k), degree)
    terms = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis = np.asarray(np.stack([np.outer(y[:, i], x[:, j]) for i, j in terms], axis=2), np.float64)
    return _linear(f"smooth({degree})", basis, full)
