"""Drift of a few coefficients: against closed forms, dense algebra, and simulated courses."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.errors import FitError
from calibration.statistics.drift import track
from calibration.statistics.random_walk import CourseObservations, Posterior

Float = NDArray[np.float64]
NAMES = ("gain", "offset")


def course(rng, n, walk, jump=None) -> tuple[Float, Float, Float, Float]:
    """Times, Λ, s and the true course: n seconds, unit noise on each coefficient."""
    walk = np.asarray(walk, float)
    theta = np.cumsum(rng.standard_normal((n, len(walk))) * walk, axis=0)
    if jump is not None:
        theta[jump[0] :] += jump[1]
    information = np.tile(np.eye(len(walk)), (n, 1, 1))
    return np.arange(float(n)), information, theta + rng.standard_normal(theta.shape), theta


def random_observations(rng, k, p) -> CourseObservations:
    root = rng.standard_normal((k, p, p))
    information = root @ root.swapaxes(1, 2)
    information[3] = 0.0
    information[5] = np.outer(root[5, 0], root[5, 0])  # singular
    score = np.einsum("kij,kj->ki", information, rng.standard_normal((k, p)))
    return CourseObservations(np.cumsum(rng.exponential(1.0, k)), information, score)


def dense(o: CourseObservations, walk2: Float, steps: tuple[int, ...]) -> tuple[Float, Float]:
    """Mean and covariance of all states by dense algebra: first state, increments and steps all unknown."""
    k, p = o.score.shape
    design = [np.tile(np.eye(p), (k, 1))]  # the first state
    prior = [0.0] * p
    for i in range(k - 1):
        after = (np.arange(k) > i).repeat(p)[:, None]
        design.append(after * design[0])
        prior += list(1 / ((o.at_s[i + 1] - o.at_s[i]) * walk2))
    for i in steps:
        design.append((np.arange(k) > i).repeat(p)[:, None] * design[0])
        prior += [0.0] * p
    x = np.concatenate(design, axis=1)
    full = np.zeros((k * p, k * p))
    for i in range(k):
        full[i * p : (i + 1) * p, i * p : (i + 1) * p] = o.information[i]
    covariance = np.linalg.inv(x.T @ full @ x + np.diag(prior))
    return (x @ covariance @ x.T @ o.score.ravel()).reshape(k, p), x @ covariance @ x.T


@pytest.mark.parametrize("steps", [(), (6, 14)])
def test_states_and_covariances_are_those_of_dense_algebra(steps: tuple[int, ...]) -> None:
    o = random_observations(np.random.default_rng(1), 24, 3)
    walk2 = np.array([0.3, 1.0, 0.01])
    mean, covariance = dense(o, walk2, steps)
    posterior = Posterior(o, walk2, steps)
    own, lag = posterior.covariances()
    np.testing.assert_allclose(posterior.value, mean, atol=1e-9)
    for i in range(24):
        np.testing.assert_allclose(own[i], covariance[3 * i : 3 * i + 3, 3 * i : 3 * i + 3], atol=1e-9)
    for i in range(23):
        np.testing.assert_allclose(lag[i], covariance[3 * i : 3 * i + 3, 3 * i + 3 : 3 * i + 6], atol=1e-9)
    among = np.arange(24) < 10
    averaged = covariance[:, :30].reshape(72, 10, 3).mean(axis=1).reshape(24, 3, 3)
    np.testing.assert_allclose(posterior.covariance_with_mean(among), averaged, atol=1e-9)


def test_likelihood_slope_is_its_derivative() -> None:
    o = random_observations(np.random.default_rng(2), 30, 2)
    for steps in ((), (11,)):
        log_q = np.log([0.2, 0.7])
        numeric = []
        for j in range(2):
            up, down = (np.exp(log_q + d * np.eye(2)[j] * 1e-4) for d in (1, -1))
            difference = Posterior(o, up, steps).log_likelihood - Posterior(o, down, steps).log_likelihood
            numeric.append(difference / 2e-4)
        np.testing.assert_allclose(Posterior(o, np.exp(log_q), steps).gradient(), numeric, rtol=1e-5, atol=1e-7)


def test_likelihood_slope_is_that_of_fishers_identity() -> None:
    o, q = random_observations(np.random.default_rng(2), 30, 2), np.array([0.2, 0.7])
    mean, covariance = dense(o, q, ())
    step = np.eye(60, k=2)[:-2] - np.eye(60)[:-2]
    second = (step @ mean.ravel()) ** 2 + np.diag(step @ covariance @ step.T)
    stiffness = 1 / (np.diff(o.at_s)[:, None] * q)
    expected = 0.5 * (second.reshape(29, 2) * stiffness - 1).sum(axis=0)
    np.testing.assert_allclose(Posterior(o, q).gradient(), expected, rtol=1e-6)


def test_last_state_has_the_variance_of_the_steady_kalman_filter() -> None:
    q, r = 0.04, 1.0
    o = CourseObservations(np.arange(400.0), np.full((400, 1, 1), 1 / r), np.zeros((400, 1)))
    before = q / 2 + np.sqrt(q**2 / 4 + q * r)  # Riccati equation of the local level model: M² = q (M + r)
    own, _ = Posterior(o, np.array([q])).covariances()
    assert own[-1, 0, 0] == pytest.approx(before * r / (before + r), rel=1e-9)


def test_between_observations_lies_a_brownian_bridge_and_beyond_them_a_walk() -> None:
    rng = np.random.default_rng(3)
    at_s, information, _, theta = course(rng, 400, [1.0])
    at_s[200:] += 100.0  # nothing is seen for 101 s
    information = information * 1e6
    found = track(at_s, information, theta * 1e6, ("gain",))
    walk2 = found.walk_per_sqrt_s[0] ** 2
    for share in (0.25, 0.5):
        value, covariance = found.at(at_s[199] + share * 101.0)
        assert value[0, 0] == pytest.approx((1 - share) * theta[199, 0] + share * theta[200, 0], abs=0.01)
        assert covariance[0, 0, 0] == pytest.approx(walk2 * 101.0 * share * (1 - share), rel=1e-3)
    value, covariance = found.at(at_s[-1] + 7.0)
    assert value[0, 0] == pytest.approx(theta[-1, 0], abs=0.01)
    assert covariance[0, 0, 0] == pytest.approx(7.0 * walk2, rel=1e-3)
    at_knots = found.at(at_s)
    np.testing.assert_allclose(at_knots[0], found.value, atol=1e-9)
    np.testing.assert_allclose(at_knots[1], found.covariance, atol=1e-9)


@pytest.mark.parametrize("reference_s", [None, (0.0, 60.0)])
def test_left_out_course_is_that_of_the_other_observations(reference_s) -> None:
    rng = np.random.default_rng(4)
    at_s, information, score, _ = course(rng, 120, [0.3, 0.0])
    at_s[50:53] = at_s[50]  # three observations at one time
    whole = track(at_s, information, score, NAMES, reference_s=reference_s)
    for i in (0, 51, 90):
        kept = information.copy(), score.copy()
        kept[0][i], kept[1][i] = 0.0, 0.0
        posterior = Posterior(*_merged(at_s, *kept), _rates(whole, at_s, information, score))
        times = posterior.observations.at_s
        at = int(np.searchsorted(times, at_s[i]))
        among = np.ones(len(times), bool) if reference_s is None else times <= reference_s[1]
        level = posterior.value[among].mean(axis=0) if reference_s else 0.0
        np.testing.assert_allclose(whole.left_out_value[i], posterior.value[at] - level, atol=1e-4)
        if reference_s is None:
            np.testing.assert_allclose(whole.left_out_covariance[i], posterior.covariances()[0][at], atol=1e-4)
    if reference_s:
        assert whole.value[np.unique(at_s, return_index=True)[1]][: 61 - 2].mean(axis=0) == pytest.approx(0, abs=1e-9)
        assert np.all(np.diagonal(whole.left_out_covariance - whole.covariance, axis1=1, axis2=2) > -1e-12)


def _merged(at_s, information, score) -> tuple[CourseObservations]:
    times, knot = np.unique(at_s, return_inverse=True)
    lambdas, scores = np.zeros((len(times), 2, 2)), np.zeros((len(times), 2))
    np.add.at(lambdas, knot, information)
    np.add.at(scores, knot, score)
    return (CourseObservations(times, lambdas, scores),)


def _rates(found, at_s, information, score) -> Float:
    slow = 1e-4 / len(at_s) / (at_s[-1] - at_s[0])
    return np.where(found.walk_per_sqrt_s > 0, found.walk_per_sqrt_s**2, slow)


def test_data_at_rest_are_called_still() -> None:
    rng = np.random.default_rng(5)
    found = [track(*course(rng, 120, [0.0, 0.0])[:3], NAMES) for _ in range(60)]
    assert sum(f.model != "still" for f in found) <= 3  # false alarms ≤ 1 %: four of sixty once in 300
    one = found[0]
    assert one.walk_per_sqrt_s.tolist() == [0.0, 0.0]
    assert not one.jumps
    np.testing.assert_allclose(np.diagonal(one.covariance[60]), 1 / 120, rtol=1e-3)


def test_jump_is_found_where_it_is_and_nowhere_else() -> None:
    rng = np.random.default_rng(6)
    for walk in (0.0, 0.2):
        for _ in range(6):
            index = int(rng.integers(20, 180))
            size = 8 * np.sqrt(1 + walk**2)
            at_s, information, score, _ = course(rng, 200, [walk, 0.0], (index, np.array([size, 0.0])))
            found = track(at_s, information, score, NAMES)
            assert [jump.index for jump in found.jumps] == [index]
            jump = found.jumps[0]
            assert abs(jump.size[0] - size) < 4 * jump.stderr[0]
            assert abs(jump.z[0]) > 6
            assert found.model.endswith("with jumps")
            assert "jumps by +" in found.in_words()


def test_walk_is_followed_as_well_as_one_who_knows_its_rate_could() -> None:
    rng = np.random.default_rng(7)
    mine, best, squared = [], [], []
    for _ in range(20):
        at_s, information, score, theta = course(rng, 300, [0.2, 0.0])
        found = track(at_s, information, score, NAMES)
        assert found.model == "walk"
        assert found.walk_per_sqrt_s[1] == 0.0
        assert found.walk_per_sqrt_s[0] == pytest.approx(0.2, rel=4 * found.walk_relative_stderr[0])
        ideal = Posterior(CourseObservations(at_s, information, score), np.array([0.04, 1e-9]))
        mine.append(found.value[:, 0] - theta[:, 0])
        best.append(ideal.value[:, 0] - theta[:, 0])
        squared.append(mine[-1] ** 2 / found.covariance[:, 0, 0])
    assert np.std(mine) < 1.10 * np.std(best)
    assert np.mean(squared) == pytest.approx(1.0, abs=0.15)  # 20 courses of some 60 independent stretches
    assert found.held_out_log_likelihood["walk"] > 3.0
    assert found.log_likelihood["walk"] > 10.0


def test_a_walk_that_either_of_two_coefficients_may_have_made_is_found() -> None:
    """Of one reading in a row, gain and offset can take each other's place: neither is missed without the other."""
    rng = np.random.default_rng(11)
    light = 1 + 0.05 * rng.standard_normal(300)
    row = np.stack([light, np.ones(300)], axis=1)
    information = row[:, :, None] * row[:, None, :]

    def model(walk: float) -> str:
        read = light * np.cumsum(walk * rng.standard_normal(300)) + rng.standard_normal(300)
        return track(np.arange(300.0), information, row * read[:, None], NAMES).model

    assert model(0.3) == "walk"
    assert sum(model(0.0) != "still" for _ in range(30)) <= 1


def test_a_jump_is_not_taken_for_a_fast_walk() -> None:
    rng = np.random.default_rng(8)
    found = track(*course(rng, 200, [0.0, 0.0], (100, np.array([30.0, 0.0])))[:3], NAMES)
    assert found.model == "still with jumps"
    assert found.walk_per_sqrt_s[0] == 0.0


def test_coefficient_that_nothing_tells_of_is_refused() -> None:
    at_s, information, score, _ = course(np.random.default_rng(9), 20, [0.0, 0.0])
    information[:, 1, :] = information[:, :, 1] = 0.0
    with pytest.raises(FitError, match="do not determine the drift"):
        track(at_s, information, score, NAMES)
    with pytest.raises(FitError, match="reference epoch"):
        track(at_s, np.tile(np.eye(2), (20, 1, 1)), score, NAMES, reference_s=(100.0, 200.0))


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_a_course_is_the_same_in_other_units(unit: float) -> None:
    at_s, information, score, _ = course(np.random.default_rng(9), 60, [0.01, 0.0])
    size = np.array([1.0, unit])
    first = track(at_s, information, score, NAMES)
    other = track(at_s, information * np.outer(size, size), score * size, NAMES)
    assert other.model == first.model
    np.testing.assert_allclose(other.value * size, first.value, rtol=1e-3, atol=1e-4)


def test_observation_that_alone_knows_a_coefficient_cannot_be_left_out() -> None:
    at_s, information, score, _ = course(np.random.default_rng(10), 20, [0.0, 0.0])
    information[:, 1, :] = information[:, :, 1] = 0.0
    information[7] = np.eye(2)
    found = track(at_s, information, score, NAMES)
    assert np.isinf(found.left_out_covariance[7]).all()
    assert np.isfinite(found.left_out_covariance[8]).all()


def test_a_course_of_readings_that_tell_one_sum_each_is_followed() -> None:
    """Each information matrix has rank one, and the offset weighs next to nothing in the brightest readings."""
    rng = np.random.default_rng(35)  # one of the few that lead the search far up
    spacing_s = [0.65, 0.65, 0.617, 0.15, 1.517, 0.45, 0.95, 0.95, 0.95, 0.95, 0.517, 1.75, 1.75, 9.167, 2.3, 1.983,
                 2.333, 2.3]  # fmt: skip
    at_s = np.concatenate([[46.617], 46.617 + np.cumsum(spacing_s)])
    is_bright = np.arange(len(at_s)) < 2
    precision = np.where(is_bright, 1e6, 2e3)
    row = np.stack([np.ones(len(at_s)), np.where(is_bright, 3.7e-6, 3.6e-4)], axis=1)
    gain = np.concatenate([[0.0], np.cumsum(rng.normal(0.0, 0.002 * np.sqrt(spacing_s)))])
    read = gain + rng.standard_normal(len(at_s)) / np.sqrt(precision)
    information = precision[:, None, None] * row[:, :, None] * row[:, None, :]
    found = track(at_s, information, (precision * read)[:, None] * row, NAMES)
    known = (row * found.value).sum(axis=1) - gain
    assert np.sqrt(np.mean(known**2 * precision)) < 2.0


def test_a_walk_that_either_of_two_alike_coefficients_explains_is_followed() -> None:
    """Readings that are all bright: gain and offset are hard to tell apart, and neither is missed while the other is
    free. Without a walk, one of 25 such runs is called walking at most."""
    rng = np.random.default_rng(11)
    design = np.array([1.0, 0.95])
    lit = np.arange(18) % 6 != 5
    own = np.where(lit[:, None], design, [0.0, 0.35])
    information, models = np.einsum("ni,nj->nij", own, own), {0.0: 0, 1.5: 0}
    for walk in models:
        for _ in range(25):
            gain = np.cumsum(walk * rng.standard_normal(18))
            score = own * (own[:, 0] * gain + rng.standard_normal(18))[:, None]
            found = track(np.arange(18.0), information, score, NAMES)
            models[walk] += found.model != "still"
    assert models[0.0] <= 1
    assert models[1.5] >= 20
