"""Noise, drift, jumps, curves and crosstalk are told apart, and what cannot be told is said so."""

import dataclasses

import numpy as np
import pytest
from everyday import everyday
from somebodys_bench import bench

from calibration.response.fit import fit_response
from calibration.response.joint import Sample, State, shared_noise
from calibration.response.noise_law import LEVEL, Squares, fit_noise_law
from calibration.response.observations import Observations
from calibration.response.power_curve import PowerCurve
from calibration.response.predict import predict


def chosen(fit):
    return {subject: choice.chosen for subject, choice in fit.structure.items()}


def sound(rng, rows, *, outputs=4, inputs=10, noise=6.0, drift=0.0, weights=None, level=800.0):
    """Weights, inputs and readings of a bench with gains of each output and input; ``drift`` by row."""
    w = rng.random((outputs, inputs)) if weights is None else weights
    x = rng.random((rows, w.shape[1]))
    light = level * x @ w.T * (1 + np.broadcast_to(drift, rows))[:, None]
    return w, x, 100 + light + noise * rng.normal(size=light.shape)


@pytest.fixture(scope="module")
def walked():
    """A bench whose source walks by 5e-4 a row, and its fit."""
    rng = np.random.default_rng(40)
    w, x, y = sound(rng, 700, drift=np.cumsum(5e-4 * rng.normal(size=700)))
    return w, fit_response(Observations(x, w, y))


def test_what_other_rows_do_not_know_of_a_walk_is_no_noise_of_the_outputs(walked):
    _, fit = walked
    assert fit.noise.read == pytest.approx(6.0, rel=0.05)  # 2800 readings: 1.3 % standard error
    assert fit.noise.correlation is None
    assert chosen(fit)["common noise"] == "none"
    assert chosen(fit)["drift"] == "walk"
    assert fit.response.drift.walk[0] == pytest.approx(5e-4, rel=0.25)


@pytest.mark.parametrize("beside", [-1, 0], ids=["before it", "after it"])
def test_a_good_row_between_a_wrong_one_and_a_jump_is_not_accused(walked, beside):
    w, fit = walked
    rng = np.random.default_rng(41)
    x, y = sound(rng, 300, weights=w, drift=0.05 * (np.arange(300) >= 180))[1:]
    wrong = {180 + beside - 1, 180 + beside + 1}
    y[sorted(wrong)] = rng.uniform(y.min(), y.max(), (2, 4))
    found = predict(fit.response, Observations(x, w, y))
    assert {row.index for row in found.bad_rows} == wrong
    assert found.coverage95.mean() > 0.93


@pytest.mark.parametrize("course", ["walk", "moved", "jump"])
def test_intervals_of_another_session_hold_what_they_say(walked, course):
    w, fit = walked
    rng = np.random.default_rng(42)
    n = 600
    drifts = {
        "walk": np.cumsum(5e-4 * rng.normal(size=n)),
        "moved": np.full(n, 0.04),
        "jump": 0.04 * (np.arange(n) > 250) + np.cumsum(2e-4 * rng.normal(size=n)),
    }
    x, y = sound(rng, n, weights=w, drift=drifts[course])[1:]
    found = predict(fit.response, Observations(x, w, y))
    assert 0.93 <= found.coverage95.mean() <= 0.97
    assert not found.bad_rows


def test_a_flicker_that_is_no_white_noise_leaves_the_noise_of_the_outputs_as_it_is():
    rng = np.random.default_rng(43)
    course = np.cumsum(2e-3 * rng.normal(size=600))
    w, x, y = sound(rng, 600, outputs=6, noise=3.0, drift=course - course.mean() + 5e-3 * rng.normal(size=600))
    fit = fit_response(Observations(x, w, y))
    assert chosen(fit)["common noise"] == "gain"
    assert chosen(fit)["noise"] == "read"
    assert fit.noise.read == pytest.approx(3.0, rel=0.1)
    assert fit.noise.common_gain == pytest.approx(5e-3, rel=0.25)
    assert chosen(fit)["nonlinearity"] == "none"


def test_outputs_that_flicker_together_are_as_many_witnesses_as_they_are():
    rng = np.random.default_rng(44)
    n, m = 400, 5
    x = rng.random((n, 3))
    gain = np.ones((m, 3))
    one = np.ones((n, m))
    state = State(gain, np.zeros(m), PowerCurve(), PowerCurve(), np.zeros((1, 2)))

    def seen(noise):
        sample = Sample(
            x, x @ gain.T + noise, None, np.zeros((n, 2)), one, np.arange(n) // 50, True, np.zeros(n, np.intp)
        )
        return shared_noise(state, sample)

    assert seen(rng.normal(size=(n, m))) == pytest.approx(1.0, abs=0.25)  # standard error √(2/n) each
    assert seen(np.repeat(rng.normal(size=(n, 1)), m, axis=1)) == pytest.approx(m)


def test_a_saturating_detector_is_followed_to_its_brightest_readings():
    rng = np.random.default_rng(45)
    w, x = rng.random((8, 16)), rng.random((1100, 16))
    light = 1000 * x @ w.T
    truth = 100 + light / (1 + light / (1000 * w.sum(1).max()))
    y = truth + 6 * rng.normal(size=truth.shape)
    fit = fit_response(Observations(x[:600], w, y[:600]))
    found = predict(fit.response, Observations(x[600:], w, y[600:]))
    bright = truth[600:] > np.quantile(truth, 0.98)
    assert np.sqrt(np.mean((found.mean - truth[600:])[bright] ** 2)) < 0.5 * 6
    assert not found.bad_rows
    assert chosen(fit)["misfit"] == "none"


@pytest.mark.parametrize("law", ["read", "shot", "intensity"])
def test_errors_of_a_noise_law_are_those_of_cramer_and_rao(law):
    rng = np.random.default_rng(46)
    n, m = 3000, 2
    light = rng.uniform(500, 5000, (n, m))
    value = {"read": 9.0, "shot": 0.5, "intensity": 0.02}[law]
    variance = {"read": value**2 + 0 * light, "shot": value * light, "intensity": (value * light) ** 2}[law]
    squares = Squares(m, 5000.0, correlated=False)
    squares.add(
        light, light, variance, np.sqrt(variance) * rng.normal(size=light.shape), None, np.zeros((n, 2, 2)), light > -1
    )
    found, choice = fit_noise_law(squares, 0.0, "DN")
    # relative error of a variance by n m squares is √(2/(n m)), of its root half of that
    bound = value * np.sqrt(2 / (n * m)) * (1 if law == "shot" else 0.5)
    assert choice.chosen == law
    assert found.stderr[law] == pytest.approx(bound, rel=0.1)
    assert getattr(found, law) == pytest.approx(value, abs=4 * bound)


def test_the_words_of_a_noise_law_follow_from_its_test():
    rng = np.random.default_rng(47)
    laws = [(9.0, 0.0, 0.0), (0.0, 0.5, 0.0), (5.0, 0.1, 0.0), (5.0, 0.0, 0.01), (3.0, 0.2, 0.01), (8.0, 0.02, 0.004)]
    words = []
    for read, shot, intensity in laws * 3:
        light = rng.uniform(0, 3000, (700, 3))
        variance = read**2 + shot * light + (intensity * light) ** 2
        squares = Squares(3, 3000.0, correlated=False)
        left = np.sqrt(variance) * rng.normal(size=light.shape)
        squares.add(light, light, variance, left, None, np.zeros((700, 2, 2)), light > -1)
        choice = fit_noise_law(squares, 0.0, "DN")[1]
        words.append("no better" in choice.reason)
        assert words[-1] == (choice.p_value >= LEVEL), choice.reason
    assert True in words


def crossed(rng):
    return bench(rng, 5, 8, single=0.1, neighbours=0.15, photons=1e5).observe(rng, 400)


def uncrossed(rng):
    return bench(rng, 5, 8, single=0.1, photons=1e5).observe(rng, 400)


def one_detector(rng):
    whole = bench(rng, 5, 8, per_input=0.1, photons=1e5).observe(rng, 400)
    output = rng.integers(0, 5, 400)
    return Observations(whole.inputs, whole.weights, whole.readings[np.arange(400), output], output=output)


def one_input(rng):
    return bench(rng, 8, 1, per_output=0.3, photons=1e5).observe(rng, 400)


def in_proportion(rng):
    made = bench(rng, 5, 6, per_output=0.3, photons=1e5)
    return dataclasses.replace(made, weights=np.outer(rng.uniform(0.2, 1, 5), rng.uniform(0.2, 1, 6))).observe(rng, 400)


def test_outputs_without_weights_show_the_crosstalk_of_one_input():
    rng = np.random.default_rng(47)
    made = bench(rng, 6, 1, neighbours=0.15, photons=1e5)
    fit = fit_response(dataclasses.replace(made, weights=np.eye(6)[:, 2:3]).observe(rng, 400))
    assert chosen(fit)["crosstalk"] != "none"


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (one_input, "in proportion cannot tell crosstalk from gain"),
        (in_proportion, "in proportion cannot tell crosstalk from gain"),
        (crossed, "cannot be told from the full gain"),
        (uncrossed, "cannot be told from the full gain"),
        (one_detector, "one detector cannot tell crosstalk from gain"),
    ],
)
def test_crosstalk_that_nothing_tells_from_gains_is_said_to_be_so(observed, words):
    fit = fit_response(observed(np.random.default_rng(48)))
    assert words in fit.structure["crosstalk"].reason
    assert "no evidence" not in fit.structure["crosstalk"].reason


def test_sixty_rows_of_many_channels_show_the_crosstalk_of_each():
    rng = np.random.default_rng(49)
    m = 32
    w, mix, near = rng.random((m, m)), np.eye(m), np.arange(m - 1)
    mix[near, near + 1], mix[near + 1, near] = rng.uniform(0.08, 0.23, m - 1), rng.uniform(0.08, 0.23, m - 1)
    x = rng.random((360, m))
    truth = 100 + 100 * x @ (mix @ w).T
    y = truth + 6 * rng.normal(size=truth.shape)
    fit = fit_response(Observations(x[:60], w, y[:60]))
    found = predict(fit.response, Observations(x[60:], w, y[60:]))
    assert np.sqrt(np.mean((y[60:] - found.mean) ** 2)) < 1.15 * 6
    assert 0.93 < found.coverage95.mean() < 0.97


@pytest.mark.parametrize("noise", everyday(["speckle", "laplace", "shot"], 0, 1))
def test_noise_of_another_law_makes_no_row_wrong(noise):
    rng = np.random.default_rng(50)
    w, x = rng.random((4, 10)), rng.random((800, 10))
    light = 800 * x @ w.T
    y = {
        "speckle": light * rng.gamma(16, 1 / 16, light.shape),
        "laplace": light + rng.laplace(0, 15, light.shape),
        "shot": 40.0 * rng.poisson(light / 40),
    }[noise]
    assert len(fit_response(Observations(x, w, 100 + y)).bad_rows) <= 1


@pytest.mark.parametrize("which", ["all", "one"])
def test_a_ceiling_of_the_camera_is_no_curve_of_a_detector(which):
    rng = np.random.default_rng(51)
    w, x, y = sound(rng, 700)
    top = np.quantile(y, 0.96, axis=0)
    y = np.minimum(y, top if which == "all" else np.where(np.arange(4) == 2, top, np.inf))
    fit = fit_response(Observations(x, w, y))
    assert chosen(fit)["nonlinearity"] == "none"
    assert fit.noise.read == pytest.approx(6.0, rel=0.06)


@pytest.mark.parametrize("seed", everyday(range(3), 0))
def test_identity_weights_are_fitted(seed):
    rng = np.random.default_rng(52 + seed)
    w, x, y = sound(rng, 300, weights=np.eye(8))
    assert fit_response(Observations(x, w, y)).gate.applied


@pytest.mark.parametrize("single", [False, True], ids=["all outputs", "one detector"])
def test_a_fit_that_says_no_more_than_the_mean_is_not_applied(single):
    rng = np.random.default_rng(54)
    w, x, y = sound(rng, 4000, noise=0.0)
    y = y + 9 * y.std(0) * rng.normal(size=y.shape)
    output = rng.integers(0, 4, 4000)
    seen = Observations(x, w, y[np.arange(4000), output], output=output) if single else Observations(x, w, y)
    gate = fit_response(seen).gate
    assert not gate.applied
    assert "no better than predicting the mean" in gate.reason


def test_a_gate_after_a_large_change_speaks():
    rng = np.random.default_rng(55)
    w, x, y = sound(rng, 300)
    before = fit_response(Observations(x, w, y)).response
    x, y = sound(rng, 300, weights=w, drift=-0.55)[1:]
    gate = fit_response(Observations(x, w, y), previous=dataclasses.replace(before)).gate
    assert gate.applied
    assert before.id in gate.reason
