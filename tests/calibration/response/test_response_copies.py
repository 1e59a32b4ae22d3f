"""Rows that are there twice count once, inputs made of readings are refused, and little noise is no fault."""

import numpy as np
import pytest

from calibration.errors import FitError
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict
from calibration.response.screening import screen


class Bench:
    """``y = 60 + 160 (w∘g) x`` with gains by input and output and normal noise of 4."""

    def __init__(self, inputs=6, outputs=3, seed=0):
        self.rng = np.random.default_rng(seed)
        self.weights = self.rng.random((outputs, inputs))
        self.gain = self.weights * np.outer(*(1 + 0.05 * self.rng.normal(size=n) for n in (outputs, inputs)))

    def record(self, rows):
        inputs = self.rng.random((rows, self.weights.shape[1]))
        mean = 60 + 160 * inputs @ self.gain.T
        return inputs, mean, mean + self.rng.normal(0, 4, mean.shape)


def _each_row_again(a):
    return np.repeat(a, 4, axis=0)


def _the_file_again(a):
    return np.tile(a, (8, 1))


@pytest.mark.parametrize("again", [_each_row_again, _the_file_again])
def test_rows_that_are_there_several_times_count_once(again):
    bench = Bench()
    inputs, _, readings = bench.record(60)
    once = fit_response(Observations(inputs, bench.weights, readings))
    found = fit_response(Observations(again(inputs), bench.weights, again(readings)))
    assert found.gate.applied
    assert found.rows == once.rows == 60
    assert any("inputs and readings of a row before once more" in note for note in found.notes)
    assert not any("cut off" in note or "missing" in note for note in found.notes)
    np.testing.assert_allclose(found.response.gain, once.response.gain, rtol=1e-9)
    shown, mean, fresh = bench.record(300)
    says = predict(found.response, Observations(shown, bench.weights))
    assert 0.9 < np.mean((fresh >= says.low95) & (fresh <= says.high95)) < 0.99
    assert np.sqrt(np.mean((says.mean - mean) ** 2)) < 2


def test_inputs_that_come_again_with_noise_of_their_own_stay():
    bench = Bench()
    inputs = np.tile(bench.rng.random((30, 6)), (6, 1))
    readings = 60 + 160 * inputs @ bench.gain.T + bench.rng.normal(0, 4, (180, 3))
    assert not screen(Observations(inputs, bench.weights, readings)).bad


def test_few_patterns_whose_noise_is_swallowed_by_rounding_stay():
    inputs = np.tile(np.eye(6), (20, 1))
    readings = np.round(60 + 100 * inputs @ np.random.default_rng(0).random((6, 3)))
    assert not screen(Observations(inputs, np.ones((3, 6)), readings)).bad


@pytest.mark.parametrize(
    ("leak", "outputs"),
    [(lambda y: y[:, :1] / 900, "1"), (lambda y: y.mean(axis=1, keepdims=True), "0, 1, 2"), (lambda y: 5 - y, "0")],
    ids=["one", "mean", "all"],
)
def test_an_input_that_was_computed_from_the_readings_is_refused_by_name(leak, outputs):
    bench = Bench()
    inputs, _, readings = bench.record(120)
    leaked = leak(readings[:, ::-1] if outputs == "1" else readings)
    weights = np.concatenate([bench.weights, bench.rng.random((3, leaked.shape[1]))], axis=1)
    with pytest.raises(FitError, match="input 6 was computed from the readings") as caught:
        fit_response(Observations(np.concatenate([inputs, leaked], axis=1), weights, readings))
    assert f"output {'2' if outputs == '1' else outputs} in its row" in caught.value.seen


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_rows_of_which_the_inputs_were_lost_are_left_out_and_dark_rows_are_not(value):
    bench = Bench()
    inputs, _, readings = bench.record(200)
    lost = np.array([20, 77, 78, 150, 199])
    kept = inputs.copy()
    kept[lost] = value
    found = screen(Observations(kept, bench.weights, readings))
    assert [b.index for b in found.bad] == lost.tolist()
    assert {b.reason for b in found.bad} == {"inputs lost"}
    dark = readings.copy()
    dark[lost] = bench.rng.normal(readings.min(), 1.0, dark[lost].shape)
    assert not screen(Observations(kept, bench.weights, dark)).bad


def test_one_output_for_each_input_is_no_leak():
    rng = np.random.default_rng(1)
    inputs = rng.integers(0, 2, (150, 4)).astype(float)
    readings = np.round(20 + 200 * inputs + rng.normal(0, [0.05, 0.3, 0.4, 0.5], inputs.shape))
    found = fit_response(Observations(inputs, np.eye(4), readings))
    assert found.gate.applied
    assert not found.bad_rows


def test_readings_without_noise_are_refused_as_such():
    bench = Bench()
    inputs, mean, _ = bench.record(80)
    with pytest.raises(FitError, match="the readings hold no noise"):
        fit_response(Observations(inputs, bench.weights, mean))
    found = fit_response(Observations(inputs, bench.weights, np.round(mean)))
    assert found.gate.applied


def test_readings_of_a_curve_without_noise_are_not_applied():
    rng = np.random.default_rng(0)
    weights, inputs = rng.random((3, 6)), rng.random((120, 6))
    mean = 2000 * np.tanh((60 + 200 * inputs @ weights.T) / 2000)
    gate = fit_response(Observations(inputs, weights, mean)).gate
    assert not gate.applied
    assert "the readings hold no noise" in gate.reason
    assert fit_response(Observations(inputs, weights, mean + rng.normal(0, 0.01, mean.shape))).gate.applied


def test_a_short_recording_is_not_called_saturated():
    bench = Bench()
    inputs, _, readings = bench.record(16)
    assert fit_response(Observations(inputs, bench.weights, readings)).rows == 16
