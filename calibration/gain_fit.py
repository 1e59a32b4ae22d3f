"""Gain map and offset from multiplexed display patterns, and the choice of its structure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_banded

from calibration.channel import undo_bleed
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
    """

    structure: str
    parameters: int
    gain_dn: Float
    stderr_dn: Float


def fit_full_gain(
    display: Float, dn: Float, variance_dn2: Float, crosstalk: Float, bleed: Float
) -> tuple[GainMap, Float, Float]:
    """Every macropixel's gain, by weighted least squares with the SLM at full transmission.

    Parameters
    ----------
    display
        (n, K) display transmissions.
    dn, variance_dn2
        (n, M) dark-subtracted readings and their variances.
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
    typical = variance_dn2.mean(axis=1)
    weighted = design / typical[:, None]
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
    solution = covariance @ (weighted.T @ dn)
    brighter = (variance_dn2 / typical[:, None]).mean(axis=0)
    offset, raw = solution[0], solution[1:].T
    gain = undo_bleed(bleed, unmix_rows(crosstalk, raw))
    stderr = np.sqrt(np.outer(brighter, np.diag(covariance)[1:]))
    full = GainMap("full", gain.size, gain, stderr)
    return full, offset, np.sqrt(brighter * covariance[0, 0])


def gain_structures(full: GainMap) -> list[GainMap]:
    """The hierarchy scalar → per output → separable → smooth → full, each fitted to the full map.

    The Hadamard design makes the full map's errors all but independent, so that it is a sufficient statistic and
    every simpler structure is a weighted fit to it.
    """
    u, weight = full.gain_dn, 1.0 / full.stderr_dn**2
    m, k = u.shape
    maps = []
    mean = float((u * weight).sum() / weight.sum())
    maps.append(GainMap("scalar", 1, np.full((m, k), mean), np.full((m, k), weight.sum() ** -0.5)))
    row = (u * weight).sum(1) / weight.sum(1)
    row_error = weight.sum(1) ** -0.5
    maps.append(GainMap("per output", m, np.tile(row[:, None], k), np.tile(row_error[:, None], k)))
    maps.append(_separable(u, weight))
    maps.extend(_smooth(u, weight, p) for p in DEGREES if p < min(m, k) - 1)
    return [*maps, full]


def smoothest(full: GainMap) -> GainMap:
    """The most detailed map short of the full one: the light of a row without the noise of its macropixels."""
    degrees = [p for p in DEGREES if p < min(full.gain_dn.shape) - 1]
    weight = 1.0 / full.stderr_dn**2
    return _smooth(full.gain_dn, weight, degrees[-1]) if degrees else _separable(full.gain_dn, weight)


def unmix_rows(crosstalk: Float, raw: Float) -> Float:
    """Undo `calibration.channel.mix` along the rows of (M, K) ``raw``."""
    bands = np.ones((3, len(raw)))
    bands[0, 1:], bands[2, :-1] = crosstalk[:-1, 1], crosstalk[1:, 0]
    return np.asarray(solve_banded((1, 1), bands, raw))


def _separable(u: Float, weight: Float) -> GainMap:
    """u_mk = r_m c_k by alternating weighted least squares."""
    row, column = u.mean(1), np.ones(u.shape[1])
    for _ in range(50):
        column = (weight * u * row[:, None]).sum(0) / (weight * row[:, None] ** 2).sum(0)
        row = (weight * u * column).sum(1) / (weight * column**2).sum(1)
    row_error = (weight * column**2).sum(1) ** -0.5
    column_error = (weight * row[:, None] ** 2).sum(0) ** -0.5
    stderr = np.hypot(np.outer(row_error, column), np.outer(row, column_error))
    return GainMap("separable", sum(u.shape) - 1, np.outer(row, column), stderr)


def _smooth(u: Float, weight: Float, degree: int) -> GainMap:
    """Legendre polynomials of the row and column, up to a total degree."""
    y = legendre.legvander(np.linspace(-1, 1, u.shape[0]), degree)
    x = legendre.legvander(np.linspace(-1, 1, u.shape[1]), degree)
    terms = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    basis = np.stack([np.outer(y[:, i], x[:, j]).ravel() for i, j in terms], axis=1)
    scaled = basis * weight.reshape(-1, 1)
    covariance = np.linalg.inv(scaled.T @ basis)
    gain = basis @ (covariance @ (scaled.T @ u.ravel()))
    stderr = np.sqrt(np.einsum("ij,jk,ik->i", basis, covariance, basis, optimize=True))
    return GainMap(f"smooth({degree})", len(terms), gain.reshape(u.shape), stderr.reshape(u.shape))
