"""The covariance of a frame against dense matrices of `numpy.linalg`."""

import numpy as np
import pytest

from calibration.fit.averages import covariance_of_means
from calibration.machine.noise import ROUNDING_DN2, Noise
from calibration.statistics.covariance import Covariance

N, M, R = 5, 7, 3


def example(factor_variance=None):
    """Vectors of very different sizes, one of them without any common factor, and their dense covariances."""
    rng = np.random.default_rng(1)
    own = rng.uniform(0.5, 2.0, (N, M)) * 10.0 ** np.arange(N)[:, None]
    along = rng.uniform(0.0, 100.0, (N, M))
    along[2] = 0.0
    variance = rng.uniform(0.0, 0.5, N) if factor_variance is None else factor_variance
    covariance = Covariance.of(own, along, variance)
    rho2 = np.broadcast_to(variance, N)
    dense = np.stack([np.diag(v) + r * np.outer(y, y) for v, y, r in zip(own, along, rho2, strict=True)])
    return covariance, dense, rng


def test_a_frame_and_the_mean_of_its_repeats_have_one_least_variance():
    """In the dark and without read noise a reading is rounded all the same; with light that is the light's."""
    noise, offset, light = Noise(0.0, 3.0, 0.0, np.zeros(3)), np.full(M, 5.0), np.zeros((2, M))
    light[1] = 1000.0
    one, means = (
        noise.covariance(light, light + offset),
        covariance_of_means(noise, light, offset, np.array([4.0, 8.0])),
    )
    assert np.array_equal(one.own, [[ROUNDING_DN2] * M, [3000.0] * M])
    assert np.array_equal(means.own * [[4.0], [8.0]], one.own)


@pytest.mark.parametrize("factor_variance", [None, 0.0, 1e-4])
def test_inverse_and_determinant_are_those_of_dense_matrices(factor_variance):
    covariance, dense, rng = example(factor_variance)
    inverse = np.linalg.inv(dense)
    residual, columns = rng.standard_normal((N, M)), rng.standard_normal((N, M, R))
    assert covariance.variance == pytest.approx(np.diagonal(dense, axis1=1, axis2=2), rel=1e-12)
    assert covariance.inverse_diagonal == pytest.approx(np.diagonal(inverse, axis1=1, axis2=2), rel=1e-9)
    assert covariance.solve(residual) == pytest.approx(np.einsum("nij,nj->ni", inverse, residual), rel=1e-8)
    assert covariance.solve(columns) == pytest.approx(inverse @ columns, rel=1e-8)
    assert covariance.quadratic(residual) == pytest.approx(
        np.einsum("ni,nij,nj->n", residual, inverse, residual), rel=1e-9
    )
    assert covariance.log_det == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    assert covariance.log_det == pytest.approx(covariance.log_det_own + covariance.log_det_common)


@pytest.mark.parametrize("factor_variance", [None, 0.0])
def test_whitening_is_a_root_of_the_inverse(factor_variance):
    covariance, dense, _ = example(factor_variance)
    root = covariance.whiten(np.broadcast_to(np.eye(M), (N, M, M)))
    assert root.swapaxes(1, 2) @ root == pytest.approx(np.linalg.inv(dense), rel=1e-8, abs=1e-12)


def test_the_likeliest_factor_is_the_mean_of_a_normal_posterior():
    """Prior variance ρ², residual = factor · y + own noise: the formula of Bayesian linear regression."""
    covariance, _, rng = example()
    residual = rng.standard_normal((N, M))
    own, y, rho2 = covariance.own, covariance.along, covariance.factor_variance
    posterior = (y * residual / own).sum(axis=1) / (1 / rho2 + (y**2 / own).sum(axis=1))
    assert covariance.factor(residual) == pytest.approx(posterior, rel=1e-12)


def test_weighted_variance_is_that_of_the_weighted_sum():
    covariance, dense, _ = example()
    found = np.einsum("ni,nij,nj->n", covariance.weight, dense, covariance.weight)
    found[2] = 1.0  # no light, no weight: any number will do but 0
    assert covariance.weighted_variance == pytest.approx(found, rel=1e-9)


def test_a_part_of_the_vectors_has_the_same_covariance():
    covariance, _, rng = example()
    residual = rng.standard_normal((N, M))
    mask = np.array([True, False, True, True, False])
    assert covariance[mask].quadratic(residual[mask]) == pytest.approx(covariance.quadratic(residual)[mask])


def test_noise_of_a_frame_has_own_parts_and_a_common_one():
    light = np.array([[100.0, 400.0, -3.0]])
    offset = np.array([10.0, 20.0, 30.0])
    noise = Noise(5.0, 0.3, 0.02, np.zeros(3))
    total = np.maximum(light, 0) + offset
    dense = np.diag(25 + 0.3 * np.maximum(light[0], 0)) + 0.02**2 * np.outer(total, total)
    covariance = noise.covariance(light, total)
    assert covariance.variance[0] == pytest.approx(np.diag(dense))
    assert covariance.variance == pytest.approx(noise.variance(light, offset))
    assert covariance.log_det == pytest.approx(np.linalg.slogdet(dense)[1])
    assert noise.with_common(0.01).flicker == pytest.approx(np.hypot(0.02, 0.01))
