"""Equations that do not determine every direction: the factored way gives what the eigenvectors give."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.response import Observations, degenerate, fit_response, memory_need
from calibration.response.blocks import AllOutputs
from calibration.response.degenerate import solved_where_determined
from calibration.response.structure import blocks_of, fit_free
from calibration.response.sums import Moments


def equations(n: int, empty: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A well-conditioned matrix with ones on its diagonal, but for some combinations that it does not see."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    values = np.concatenate([np.zeros(empty), rng.uniform(0.1, 3, n - empty)])
    a = (q * values) @ q.T
    return a, a @ rng.normal(size=n)


@pytest.mark.parametrize("empty", [0, 1, 2, 5, 40])
def test_factors_and_eigenvectors_agree(empty: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = equations(150, empty)
    expected, rank = solved_where_determined(a, b)
    monkeypatch.setattr(degenerate, "LARGE", 1)
    found, same = solved_where_determined(a, b)
    assert (rank, same) == (150 - empty, 150 - empty)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    assert (degenerate._by_factors(a, b) is None) == (empty >= degenerate._EMPTY)


def test_direction_that_is_hardly_determined_is_left_to_the_eigenvectors() -> None:
    a, b = equations(150, 0)
    values, vectors = np.linalg.eigh(a)
    for small in (3e-7, 1e-8, 1e-10):
        values[0] = small
        assert degenerate._by_factors((vectors * values) @ vectors.T, b) is None


@pytest.mark.parametrize(
    "structure", [("per output", "none"), ("separable", "each neighbour"), ("scalar", "neighbours")]
)
def test_structures_of_a_bench_are_fitted_the_same_either_way(
    structure: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    weights, x = rng.random((30, 9)), rng.random((200, 9))
    design, rows = AllOutputs(weights), np.concatenate([np.ones((200, 1)), x], axis=1)
    y = (x @ weights.T) * rng.normal(1, 0.05, 30) + rng.normal(0, 0.01, (200, 30))
    both = np.concatenate([rows, y], axis=1)
    moments = Moments(both.T @ both, 9, 200.0)
    start = design.start(blocks_of(*structure))
    expected, rank = fit_free(design, start, moments, moments.r, np.eye(30) * 1e4)
    monkeypatch.setattr(degenerate, "LARGE", 1)
    found, same = fit_free(design, start, moments, moments.r, np.eye(30) * 1e4)
    assert rank == same
    np.testing.assert_allclose(design.gain(found), design.gain(expected), rtol=0, atol=1e-10)


def test_fit_that_does_not_fit_into_memory_says_what_it_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.random((60, 4)), rng.random((3, 4))
    monkeypatch.setattr(memory_need, "memory_bytes", lambda: 10**8)
    with pytest.raises(FitError, match="does not fit into memory") as caught:
        fit_response(Observations(x, w, x @ w.T))
    assert "GB for 3 outputs, 4 inputs and 60 rows" in caught.value.seen
    assert 2e9 < memory_need.needed_bytes(1296, 36, 1200) < 7e9  # 3.5 GB were seen
    assert memory_need.needed_bytes(20_000, 36, 1200) > 5e11
