"""Readings of a type without signs that went round are put right, said, and no row is left out for them."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict
from calibration.response.rollover import turned_over

ROWS, OUTPUTS, INPUTS, NOISE = 300, 4, 8, 4.0


class Dark:
    """A bench with a black level a little above zero, of which one row in five shows nothing."""

    def __init__(self, *, offset=5.0, gain=60.0, seed=1):
        self.rng = np.random.default_rng(seed)
        self.weights = self.rng.random((OUTPUTS, INPUTS))
        self.gain = gain * self.weights * (1 + 0.05 * self.rng.normal(size=self.weights.shape))
        self.offset = offset

    def record(self, rows=ROWS):
        inputs = self.rng.random((rows, INPUTS)) * (self.rng.random((rows, 1)) < 0.8)
        mean = self.offset + inputs @ self.gain.T
        return inputs, np.round(mean + self.rng.normal(0, NOISE, mean.shape)).astype(np.int64)


def stored(readings, bits):
    return (readings % 2**bits).astype(np.float64)


@pytest.mark.parametrize("bits", [10, 16])
def test_a_dark_level_that_wraps_is_put_right_and_its_noise_is_not_bent(bits):
    bench = Dark()
    inputs, readings = bench.record()
    assert (readings < 0).sum() > 5
    fit = fit_response(Observations(inputs, bench.weights, stored(readings, bits)))
    assert fit.gate.applied, fit.gate.reason
    assert not fit.bad_rows
    words = next(note for note in fit.notes if "wrapped" in note)
    assert f"{(readings < 0).sum()} readings wrapped" in words
    assert f"put right by {2**bits}" in words
    # rounding adds 1/12 of a step; 300 · 4 readings tell a standard deviation to 2 %
    assert fit.noise.read == pytest.approx(np.sqrt(NOISE**2 + 1 / 12), rel=0.08)
    assert fit.response.offset == pytest.approx(np.full(OUTPUTS, bench.offset), abs=5 * NOISE / np.sqrt(60))


def test_readings_that_go_over_the_top_are_put_right():
    bench = Dark(offset=100.0, gain=1400.0)
    inputs, readings = bench.record()
    over = readings > 4095
    assert over.any(axis=1).mean() > 0.02
    found = turned_over(Observations(inputs, bench.weights, stored(readings, 12)), stored(readings, 12), None)
    assert np.array_equal(found.readings, readings)
    assert "over the top" in found.in_words(single=False)


def test_a_session_that_wraps_is_predicted_as_one_that_does_not():
    bench = Dark()
    inputs, readings = bench.record()
    fit = fit_response(Observations(inputs, bench.weights, readings.astype(float)))
    inputs, readings = bench.record(80)
    assert (readings < 0).any()
    plain, wrapped = (
        predict(fit.response, Observations(inputs, bench.weights, y))
        for y in (readings.astype(float), stored(readings, 16))
    )
    assert not wrapped.bad_rows
    assert wrapped.rms_percent_of_range == pytest.approx(plain.rms_percent_of_range)
    assert any("wrapped" in note for note in wrapped.notes)


def test_a_camera_that_reads_its_largest_number_has_not_wrapped():
    bench = Dark(offset=300.0)
    inputs, readings = bench.record()
    y = readings.astype(float)
    y[40:60:4, 1] = 65535.0
    found = turned_over(Observations(inputs, bench.weights, y), y, None)
    assert not found.bits


def test_numbers_with_fractions_or_signs_have_not_wrapped():
    bench = Dark()
    inputs, readings = bench.record()
    for y in (readings + 0.5, readings.astype(float)):
        assert not turned_over(Observations(inputs, bench.weights, y), y, None).bits
