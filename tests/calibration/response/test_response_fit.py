import re
from dataclasses import replace

import numpy as np
import pytest
from somebodys_bench import bench

from calibration.errors import FitError, NoResponse, Saturated
from calibration.response.fit import fit_response
from calibration.response.observations import Observations


def chosen(fit):
    return {subject: choice.chosen for subject, choice in fit.structure.items()}


def test_one_gain_and_shot_noise_come_out_as_exactly_that():
    rng = np.random.default_rng(1)
    fit = fit_response(bench(rng).observe(rng, 600))
    assert chosen(fit) == {
        "gain": "scalar",
        "crosstalk": "none",
        "nonlinearity": "none",
        "noise": "shot",
        "common noise": "none",
        "drift": "still",
        "misfit": "none",
    }
    reason = fit.structure["gain"].reason
    assert reason.startswith("no evidence for per-output gains (F(3, ")
    assert "p = " in reason
    assert not fit.bad_rows
    assert fit.noise.shot == pytest.approx(0.5, abs=4 * fit.noise.stderr["shot"])


@pytest.mark.parametrize(
    ("spreads", "gain", "crosstalk"),
    [
        ({"per_output": 0.05}, "per output", "none"),
        ({"per_input": 0.05}, "per input", "none"),
        ({"per_output": 0.05, "per_input": 0.05}, "separable", "none"),
        ({"single": 0.05}, "full", "in the full gain"),
        ({"per_output": 0.05, "neighbours": 0.02}, "per output", "neighbours"),
    ],
)
def test_the_structure_of_the_bench_is_found(spreads, gain, crosstalk):
    rng = np.random.default_rng(2)
    b = bench(rng, 5, 12, **spreads, photons=1e5)
    fit = fit_response(b.observe(rng, 500))
    assert (chosen(fit)["gain"], chosen(fit)["crosstalk"]) == (gain, crosstalk)
    truth = (np.eye(5) + b.crosstalk) @ (b.gain * b.weights) * b.k * b.photons / (0.25 * 12)
    pull = (fit.response.gain - truth) / fit.response.stderr["gain"]
    assert 0.2 < np.sqrt(np.mean(pull**2)) < 2.0  # errors of one fit have few independent directions
    assert fit.gate.applied


def test_a_smooth_profile_over_the_inputs_is_smooth():
    rng = np.random.default_rng(3)
    b = bench(rng, 3, 20)
    b = replace(b, gain=b.gain * (1 + 0.1 * np.cos(np.pi * (np.arange(20) + 0.5) / 20)))
    fit = fit_response(b.observe(rng, 400))
    assert chosen(fit)["gain"] == "smooth"


def test_curvature_of_the_inputs_is_found_with_its_size():
    rng = np.random.default_rng(4)
    fit = fit_response(bench(rng, 3, 8, photons=1e6).observe(rng, 800, bend=-0.1))
    assert chosen(fit)["nonlinearity"] == "input curve"
    x = np.linspace(0, 1, 11)[:, None]
    curve = fit.response.input_curve.value(x)
    assert curve / curve[-1] == pytest.approx((x - 0.1 * x**2) / 0.9, abs=0.005)


def test_flicker_of_the_source_is_common_to_the_outputs_and_not_their_noise():
    rng = np.random.default_rng(5)
    fit = fit_response(bench(rng).observe(rng, 800, flicker=0.01))
    assert chosen(fit)["common noise"] == "gain"
    assert fit.noise.common_gain == pytest.approx(0.01, rel=0.1)  # 800 rows: 2.5 % standard error
    assert chosen(fit)["noise"] == "shot"


def test_drift_and_jump_are_followed_and_told_apart():
    rng = np.random.default_rng(6)
    b, rows = bench(rng), 800
    jumped = fit_response(b.observe(rng, rows, drift=0.03 * (np.arange(rows) >= 500)))
    assert chosen(jumped)["drift"] == "still with jumps"
    (row,) = re.findall(r"gain jumps by \+0\.0\d+ at row (\d+) ", jumped.structure["drift"].reason)
    assert abs(int(row) - 500) < 30
    walk = np.cumsum(1e-3 * rng.normal(size=rows))
    walked = fit_response(b.observe(rng, rows, drift=walk))
    assert chosen(walked)["drift"] == "walk"
    assert "/√row" in walked.structure["drift"].reason  # a file without a clock


def test_one_detector_looks_through_one_map_whatever_the_weights():
    rng = np.random.default_rng(7)
    weights, u = rng.random((10, 40)), 1 + 0.05 * rng.normal(size=40)
    x, output = rng.random((1500, 40)), rng.integers(0, 10, 1500)
    light = 1000 * ((weights[output] * x) @ u)
    y = 20 + 0.5 * rng.poisson(light)
    fit = fit_response(Observations(x, weights, y, output=output))
    assert chosen(fit)["gain"] == "per input"
    assert chosen(fit)["crosstalk"] == "none"
    scale = fit.response.input_map.mean() / u.mean()
    assert np.std(fit.response.input_map / scale - u) < 0.3 * 0.05


def test_fewer_rows_than_inputs_are_held_by_the_prior():
    rng = np.random.default_rng(8)
    weights, u = rng.random((1, 80)), 1 + 0.05 * rng.normal(size=80)
    x = rng.random((70, 80)) * rng.random((70, 1))
    y = 20 + 0.5 * rng.poisson(1000 * ((weights[0] * x) @ u))
    fit = fit_response(Observations(x, weights, y))
    assert np.std(fit.response.input_map / fit.response.input_map.mean() - 1) < 0.1
    assert np.nanmean(fit.gate.rms_percent_of_range) < 2


def test_a_bench_without_light_is_refused():
    rng = np.random.default_rng(9)
    observed = bench(rng).observe(rng, 300)
    dark = 50 + 2 * rng.normal(size=(300, 4))
    with pytest.raises(NoResponse, match="no light reaches the detector"):
        fit_response(Observations(observed.inputs, observed.weights, dark))


def test_shuffled_rows_are_refused():
    rng = np.random.default_rng(10)
    observed = bench(rng).observe(rng, 300)
    with pytest.raises(NoResponse, match="the readings do not follow the inputs") as caught:
        fit_response(Observations(observed.inputs, observed.weights, rng.permutation(observed.readings)))
    assert "R² = 0.0" in caught.value.seen


def test_readings_shifted_by_a_row_are_refused_with_the_shift():
    rng = np.random.default_rng(11)
    observed = bench(rng).observe(rng, 300)
    with pytest.raises(NoResponse, match="shifted by 1 rows"):
        fit_response(Observations(observed.inputs[1:], observed.weights, observed.readings[:-1]))


def test_a_saturated_capture_is_refused():
    rng = np.random.default_rng(12)
    observed = bench(rng).observe(rng, 300)
    clipped = np.minimum(observed.readings, np.quantile(observed.readings, 0.7))
    with pytest.raises(Saturated) as caught:
        fit_response(Observations(observed.inputs, observed.weights, clipped))
    assert "%" in caught.value.seen


def test_a_handful_of_rows_is_refused():
    rng = np.random.default_rng(13)
    with pytest.raises(FitError, match="too little to fit"):
        fit_response(bench(rng).observe(rng, 5))


@pytest.mark.slow
def test_the_gate_keeps_a_better_response():
    rng = np.random.default_rng(14)
    b = bench(rng, single=0.1, photons=1e6)
    good = fit_response(b.observe(rng, 500)).response
    assert not fit_response(b.observe(rng, 20), previous=good).gate.applied
    blurred = replace(good, gain=good.gain[::-1])
    assert fit_response(b.observe(rng, 300), previous=blurred).gate.applied


@pytest.mark.parametrize("kind", ["black or white", "every seventh row in other units"])
def test_noise_is_not_that_of_a_fit_on_the_way(kind: str) -> None:
    """Independent noise of 2 DN comes out as that, and with no correlation of the outputs."""
    rng = np.random.default_rng(0)
    weights = rng.random((5, 12))
    gain = weights * (1 + 0.05 * rng.normal(size=weights.shape))
    inputs = rng.random((400, 12))
    rng.normal(size=(400, 5))
    if kind == "black or white":
        inputs = (inputs > 0.5) * 1.0
    readings = 60 + 2000 * inputs @ gain.T / 12 + rng.normal(0, 2, (400, 5))
    if kind != "black or white":
        readings[::7] /= 1000
    found = fit_response(Observations(inputs, weights, readings))
    assert found.gate.chi2_per_dof == pytest.approx(1, abs=0.1)
    assert found.noise.read == pytest.approx(2, rel=0.05)
