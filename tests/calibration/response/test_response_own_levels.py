"""What goes wrong with single outputs is named with the output and the rows, and such a fit is not applied."""

from __future__ import annotations

import numpy as np
import pytest
from everyday import everyday

from calibration.errors import FitError
from calibration.response.fit import fit_response
from calibration.response.leftover import Leftover
from calibration.response.normalised import refuse_normalised
from calibration.response.observations import Observations
from calibration.response.screening import Screened
from calibration.response.steady import at_an_end
from calibration.statistics.bad_frame import BadFrame

ROWS, OUTPUTS, INPUTS, NOISE = 400, 5, 8, 2.0


class Bench:
    """``y = 60 + 250·(w∘g) x`` with gains of its own for every pair, and normal noise."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.weights = self.rng.random((OUTPUTS, INPUTS))
        self.gain = 250 * self.weights * (1 + 0.05 * self.rng.normal(size=self.weights.shape))
        self.inputs = self.rng.random((ROWS, INPUTS))
        self.light = self.inputs @ self.gain.T
        self.readings = 60 + self.light + self.rng.normal(0, NOISE, self.light.shape)


def black_level_late(b):
    b.readings[370:, 3] += 8


def black_level_halfway(b):
    b.readings[200:, 2] -= 4


def black_level_for_a_while(b):
    b.readings[150:220, 0] += 6


def gain_of_one_output(b):
    b.readings[250:, 1] += 0.06 * b.light[250:, 1]


def one_output_a_row_late(b):
    b.readings[1:, 2] = b.readings[:-1, 2].copy()


def garbage_in_one_output(b):
    b.readings[300:, 4] = b.rng.uniform(200, 1500, 100)


def sparks_in_one_output(b):
    b.readings[:, 1] += 150 * (b.rng.random(ROWS) < 0.1)


def a_stuck_bit(b):
    b.readings = np.round(b.readings)
    b.readings[:, 3] = b.readings[:, 3].astype(np.int64) & ~32


NAMED = {
    black_level_late: "black level of output 3 is off by +",
    black_level_halfway: "black level of output 2 is off by -",
    black_level_for_a_while: "black level of output 0 is off by +",
    gain_of_one_output: "the gain of output 1 is +",
    one_output_a_row_late: "the readings of output 2 are those of the row before",
    garbage_in_one_output: "output 4 scatters",
    sparks_in_one_output: "readings of output 1 lie far from the fit",
    a_stuck_bit: "the bit of value 32 never changes in the readings of output 3",
}


@pytest.mark.parametrize("fault", everyday(NAMED, 0, 3, 4, 7))
def test_a_fault_of_one_output_is_named_and_the_fit_is_not_applied(fault):
    b = Bench()
    fault(b)
    gate = fit_response(Observations(b.inputs, b.weights, b.readings)).gate
    assert not gate.applied
    assert NAMED[fault] in gate.reason


@pytest.mark.parametrize("seed", everyday(range(3), 0))
def test_outputs_that_are_steady_are_not_accused(seed):
    b = Bench(seed)
    walk = np.cumsum(b.rng.normal(0, 5e-4, ROWS))[:, None]  # of all outputs: it is drift, and followed
    gate = fit_response(Observations(b.inputs, b.weights, b.readings + b.light * walk)).gate
    assert gate.applied, gate.reason


def test_the_row_of_a_step_is_found():
    b = Bench()
    black_level_halfway(b)
    reason = fit_response(Observations(b.inputs, b.weights, b.readings)).gate.reason
    row = int(reason.split("from row ")[1].split(" ")[0])
    assert abs(row - 200) <= 8  # a step of two standard deviations, a row either way for each


def test_an_output_that_does_not_follow_its_inputs_is_said_and_the_rest_is_fitted():
    b = Bench()
    b.readings[:, 2] = b.rng.permutation(b.readings[:, 2])
    fit = fit_response(Observations(b.inputs, b.weights, b.readings))
    assert any("output 2 does not follow the inputs" in note for note in fit.notes)
    assert fit.response.evidence["notes"] == list(fit.notes)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_an_output_that_repeats_another_is_named(scale):
    b = Bench()
    b.readings[:, 4] = scale * b.readings[:, 1]
    with pytest.raises(FitError, match="output 4 holds the readings of output 1 once more"):
        fit_response(Observations(b.inputs, b.weights, b.readings))


def test_readings_that_were_normalised_row_by_row_are_named():
    b = Bench()
    gate = fit_response(
        Observations(
            b.inputs, b.weights, 2000 * b.light / b.light.sum(1, keepdims=True) + b.rng.normal(0, 0.8, b.light.shape)
        )
    ).gate
    assert not gate.applied
    assert "the outputs of every row add up to the same" in gate.reason
    with pytest.raises(FitError, match="outputs of every row add up to the same"):
        fit_response(Observations(b.inputs, b.weights, b.readings / b.readings.sum(1, keepdims=True)))


def test_readings_over_the_largest_of_their_row_are_refused_and_not_called_saturated():
    b = Bench()
    with pytest.raises(FitError, match="the largest output of every row reads the same"):
        fit_response(Observations(b.inputs, b.weights, b.readings / b.readings.max(1, keepdims=True)))


def test_an_output_that_is_stuck_below_all_others_is_no_figure_of_the_rows():
    b = Bench()
    b.readings[:, 2] = 7.0
    b.readings[-8:] = 0.0  # as a camera that stops
    refuse_normalised(Observations(b.inputs, b.weights, b.readings))


@pytest.mark.parametrize("largest", everyday([True, False], 0))
def test_readings_over_an_output_that_then_reads_one_are_not_applied(largest):
    b = Bench()
    light = b.light.copy()
    if largest:
        light[:, 2] *= 4
    readings = light + b.rng.normal(0, NOISE, light.shape)
    gate = fit_response(Observations(b.inputs, b.weights, readings / readings[:, 2:3])).gate
    assert not gate.applied
    assert "each row was divided by a number of its own that follows the inputs" in gate.reason


def test_a_recording_of_which_most_rows_are_no_measurement_is_not_applied():
    b = Bench()
    every = np.arange(ROWS)
    dropped = tuple(BadFrame(row, "dropped", np.nan, "all readings are 0") for row in range(210))
    whole = Observations(b.inputs, b.weights, b.readings)
    assert "52 % of the rows are no measurement (210 dropped)" in Screened(whole, every[210:], every, dropped).why_not
    assert not Screened(whole, every[150:], every, dropped[:150]).why_not


def test_a_number_that_stands_wherever_little_is_expected_is_a_threshold_and_not_applied():
    b = Bench()
    fit = fit_response(
        Observations(b.inputs, b.weights, np.where(b.light < np.quantile(b.light, 0.1, axis=0), 0.0, b.readings))
    )
    assert not fit.gate.applied
    assert "a threshold, and what lies below is not known" in fit.gate.reason


def test_bad_rows_that_are_all_the_brightest_are_a_bend_of_the_bench_and_others_are_not():
    b = Bench()
    brightest = np.argsort(b.light[:, 0])[-6:]

    def left(bad):
        good = np.ones(ROWS, bool)
        good[bad] = False
        sd = np.full_like(b.light, NOISE)
        return Leftover(np.arange(ROWS), b.inputs, b.readings, 60 + b.light, sd, good, np.arange(OUTPUTS), b.gain)

    assert "6 of the 6 rows that were called bad are among the brightest of output 0" in at_an_end(left(brightest))
    assert not at_an_end(left(b.rng.choice(ROWS, 20, replace=False)))
