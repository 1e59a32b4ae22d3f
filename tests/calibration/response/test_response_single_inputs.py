"""A recording that begins with single inputs, as a start-up does, is one bench, curved or not."""

from __future__ import annotations

import numpy as np
import pytest
from everyday import everyday

from calibration.response.fit import fit_response
from calibration.response.observations import Observations

ROWS, OUTPUTS, INPUTS, NOISE = 400, 4, 8, 3.0


def straight(light):
    return light


def saturating(light):
    return light / (1 + 0.3 * light / 1200)


@pytest.mark.parametrize(
    ("begins", "power", "detector"),
    everyday(
        [(begins, *bench) for begins in (0, 350) for bench in ((1.0, straight), (1.8, straight), (1.0, saturating))],
        0,
        5,
    ),
)
def test_single_inputs_among_dense_rows_are_the_same_bench(begins, power, detector):
    rng = np.random.default_rng(3)
    weights = rng.random((OUTPUTS, INPUTS))
    gain = 250 * weights * (1 + 0.05 * rng.normal(size=weights.shape))
    inputs = rng.random((ROWS, INPUTS))
    probe = np.arange(ROWS // 8)
    inputs[begins + probe] = np.eye(INPUTS)[probe % INPUTS]
    mean = 60 + detector(inputs**power @ gain.T)
    fit = fit_response(Observations(inputs, weights, mean + rng.normal(0, NOISE, mean.shape)))
    assert fit.gate.applied, fit.gate.reason
    assert fit.structure["drift"].chosen == "still"
    expected, _ = fit.response.predict(weights, inputs)
    # gains, offsets and a few numbers of the curves, fitted to 400 rows: a fifth of the noise at most
    assert np.sqrt(np.mean((expected - mean) ** 2)) < 0.3 * NOISE
