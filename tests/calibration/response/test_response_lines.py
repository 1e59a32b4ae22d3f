"""Gain and offset of each output, as somebody who wrote reading = offset + gain · Σ w x knows them."""

import numpy as np
import pytest
from somebodys_bench import bench

from calibration.response.fit import fit_response
from calibration.response.lines import output_lines
from calibration.response.observations import Observations

GAINS, OFFSETS = np.array([100.0, 110.0, 95.0, 105.0]), np.array([20.0, 22.0, 18.0, 25.0])


def test_gains_and_offsets_are_those_that_made_the_readings_within_their_errors():
    rng = np.random.default_rng(11)
    w, x = rng.random((4, 12)), rng.random((800, 12))
    readings = OFFSETS + GAINS * (x @ w.T) + rng.normal(scale=2.0, size=(800, 4))
    found = output_lines(fit_response(Observations(x, w, readings)).response)
    assert [line.output for line in found] == [0, 1, 2, 3]
    for line, gain, offset in zip(found, GAINS, OFFSETS, strict=True):
        light = x @ w[line.output]
        error = 2.0 / np.sqrt(((light - light.mean()) ** 2).sum())  # of a straight line by least squares
        assert line.gain == pytest.approx(gain, abs=4 * line.gain_stderr)
        assert line.offset == pytest.approx(offset, abs=4 * line.offset_stderr)
        assert 0.5 * error < line.gain_stderr < 2 * error


def test_light_of_the_neighbours_is_no_gain():
    rng = np.random.default_rng(12)
    b = bench(rng, 5, 12, per_output=0.05, neighbours=0.02, photons=1e5)
    truth = b.gain[:, 0] * b.k * b.photons / (0.25 * 12)
    for line in output_lines(fit_response(b.observe(rng, 500)).response):
        assert line.gain == pytest.approx(truth[line.output], abs=4 * line.gain_stderr)
        assert line.gain_stderr < 0.01 * line.gain
