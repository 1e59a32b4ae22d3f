"""As how many independent numbers the errors of a fit's gains, sums of gains and offsets count."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.response.blocks import OneDetector
from calibration.response.model import Response
from calibration.response.structure import Candidate, Selector

Float = NDArray[np.float64]

ROUNDING = 1e-9  # of a variance, by which that of a direction may fall below zero


def independent_numbers(response: Response, selector: Selector, candidate: Candidate) -> dict[str, float]:
    """Effective numbers of the errors of ``"gain"``, ``"output gain"`` and ``"offset"``.

    A sum of n squares of errors, each over its standard error, has the mean n and the variance 2 Σ ρ² over all pairs of
    them; independent ones of the number n²/Σ ρ² scatter as much (Satterthwaite). Where one number stands for the gains
    of all outputs, their errors are one error, however many outputs there are.

    Parameters
    ----------
    response
        With its covariances, as they are before the drift is referred to the end of the file.
    """
    design, e = selector.design, candidate.estimate
    if isinstance(design, OneDetector):
        sums = response.weights @ response.factor[0].T
        own = response.row_variance * response.gain.sum(axis=1) ** 2
        return {
            "gain": _effective(response.factor[0].T),
            "output gain": _effective(sums, own),
            "offset": 1.0,  # one detector has one offset
        }
    m = response.n_outputs
    if e.extra is not None:  # every gain is its own, and what outputs share is small beside that
        return {
            "gain": float(sum(_effective(f.T) for f in response.factor)),
            "output gain": float(m),
            "offset": float(m),
        }
    root = np.linalg.cholesky(e.covariance + ROUNDING * np.diag(np.diag(e.covariance)))
    inner = np.zeros((len(root), len(root)))
    sums, at_zero = np.zeros((m, len(root))), np.zeros((m, len(root)))
    for output, (j, places) in enumerate(design.jacobians(e)):
        error = np.maximum(response.stderr["gain"][output], 1e-300)[:, None]
        inner[np.ix_(places, places)] += (j / error).T @ (j / error)
        sums[output], at_zero[output] = j.sum(axis=0) @ root[places], response.centre[0] @ j @ root[places]
    of_gains = root.T @ inner @ root
    squares = float((of_gains**2).sum())
    return {
        "gain": float(np.trace(of_gains)) ** 2 / squares if squares > 0 else float(response.gain.size),
        "output gain": _effective(sums),
        "offset": _effective(at_zero, np.asarray(response.offset_variance)),
    }


def _effective(root: Float, own: Float | float = 0.0) -> float:
    """Of errors whose covariance is ``root rootᵀ + diag(own)``, with ``root`` (n, r) and ``own`` (n,)."""
    variance = np.maximum((root**2).sum(axis=1) + own, 1e-300)
    scaled, share = root / np.sqrt(variance)[:, None], np.broadcast_to(own / variance, len(root))
    of_root = scaled.T @ scaled if scaled.shape[1] < len(root) else scaled @ scaled.T
    squares = float((of_root**2).sum() + (2 * share * (scaled**2).sum(axis=1) + share**2).sum())
    return len(root) ** 2 / max(squares, 1e-300)
