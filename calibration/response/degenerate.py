"""Solve symmetric equations along the directions that they determine; large ones without all their eigenvectors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpocon

Float = NDArray[np.float64]

NOTHING = 1e-8
"""Eigenvalues below this part of the largest are those of directions that the equations do not determine."""
LARGE = 400
"""From so many unknowns on, eigenvectors take longer than all else: nine times n³ operations, a factor a third."""
_EMPTY = 12
_SHIFT = 1e-11
_TURNS = 4
_CLEAR = 1e-13


def solved_where_determined(a: Float, b: Float) -> tuple[Float, int]:
    """Least-squares solution of least norm of ``a x = b``, and the number of directions that it uses.

    Parameters
    ----------
    a
        (n, n) symmetric, positive semi-definite, with ones or zeros on its diagonal.
    """
    if len(a) >= LARGE and (found := _by_factors(a, b)) is not None:
        return found
    values, vectors = np.linalg.eigh(a)
    kept = values > NOTHING * values[-1]
    v = vectors[:, kept]
    return np.asarray(v @ ((v.T @ b) / values[kept])), int(kept.sum())


def _by_factors(a: Float, b: Float) -> tuple[Float, int] | None:
    """The same, where few directions are undetermined, clearly, and all others determined, clearly; else None.

    The former are found by inverse iteration, filled up, and the latter checked by the condition of what is then there.
    """
    n = len(a)
    largest = float(np.abs(a).sum(0).max())
    try:
        shifted = cho_factor(a + _SHIFT * largest * np.eye(n), lower=True, overwrite_a=True)
        empty = np.cos(np.outer(np.arange(n) + 0.5, np.arange(1, _EMPTY + 1) ** 2))
        for _ in range(_TURNS):
            empty, _ = np.linalg.qr(cho_solve(shifted, empty))
        values, turn = np.linalg.eigh(empty.T @ a @ empty)
        empty = (empty @ turn)[:, values < _CLEAR * largest]
        if empty.shape[1] == _EMPTY:
            return None
        filled = a + largest * (empty @ empty.T)
        size = float(np.abs(filled).sum(0).max())
        factor = cho_factor(filled, lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        return None
    condition, _ = dpocon(factor[0], size, uplo="L")
    if condition < 10 * NOTHING:
        return None
    x = cho_solve(factor, b - empty @ (empty.T @ b))
    return np.asarray(x - empty @ (empty.T @ x)), n - empty.shape[1]
