"""Tails of the usual distributions, by `scipy.special`: `scipy.stats` gives the same and takes longer to import than
most commands take to do their work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


def chi2_sf(x: ArrayLike, dof: ArrayLike) -> Any:
    """Probability that a χ² with ``dof`` degrees of freedom is larger than ``x``; NaN where there are none."""
    return special.chdtrc(np.where(np.greater(dof, 0), dof, np.nan), np.maximum(x, 0.0))


def chi2_isf(p: ArrayLike, dof: ArrayLike) -> Any:
    """What a χ² with ``dof`` degrees of freedom exceeds with probability ``p``."""
    return special.chdtri(dof, p)


def f_sf(x: ArrayLike, numerator: ArrayLike, denominator: ArrayLike) -> Any:
    """Probability that a ratio of F with these degrees of freedom is larger than ``x``."""
    return special.fdtrc(numerator, denominator, np.maximum(x, 0.0))


def t_isf(p: ArrayLike, dof: ArrayLike) -> Any:
    """What Student's t with ``dof`` degrees of freedom exceeds with probability ``p``."""
    return -special.stdtrit(dof, p)


def binomial_sf(k: int, n: int, p: float) -> float:
    """Probability of more than ``k`` successes in ``n`` trials, each with probability ``p``."""
    return float(special.bdtrc(k, n, p))


def poisson_sf(k: int, mean: float) -> float:
    """Probability that a Poisson count is larger than ``k``, which may be -1."""
    return float(special.gammainc(k + 1, mean))


def normal_pdf(z: ArrayLike) -> Any:
    """Density of the standard normal distribution."""
    return np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi)


def normal_cdf(z: ArrayLike) -> Any:
    """Probability that a standard normal value is at most ``z``."""
    return special.ndtr(z)


def normal_sf(z: ArrayLike) -> Any:
    """Probability that a standard normal value is larger than ``z``."""
    return special.ndtr(np.negative(z))


def normal_isf(p: ArrayLike) -> Any:
    """What a standard normal value exceeds with probability ``p``."""
    return -special.ndtri(p)


def cauchy_sf(x: ArrayLike) -> Any:
    """Probability that a standard Cauchy value is larger than ``x``."""
    return np.arctan2(1.0, x) / np.pi


def p_in_words(p_value: float) -> str:
    """``"p = 0.031"``; one below the smallest number is not zero: ``"p < 1e-300"``."""
    return f"p = {p_value:.2g}" if p_value > 0 else "p < 1e-300"
