"""A fit is the same in any unit: fit(a·y + b) = a·fit(y) + b, and so for inputs and weights."""

from __future__ import annotations

import numpy as np
import pytest
from everyday import everyday

from calibration.errors import FitError
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.survey import refuse_unrelated, survey

ROWS, OUTPUTS, INPUTS = 200, 3, 6


def recorded():
    rng = np.random.default_rng(7)
    w, x = rng.random((OUTPUTS, INPUTS)), rng.random((ROWS, INPUTS))
    light = 400 * x @ (w * (1 + 0.05 * rng.normal(size=w.shape))).T
    return x, w, 60 + light + rng.normal(size=light.shape) * np.sqrt(0.5 * light + 4)


@pytest.fixture(scope="module")
def usual():
    x, w, y = recorded()
    return fit_response(Observations(x, w, y))


def same(fit, usual, *, of=1.0, offset=0.0, inputs=1.0, weights=1.0, rtol=1e-6):
    assert {k: c.chosen for k, c in fit.structure.items()} == {k: c.chosen for k, c in usual.structure.items()}
    x, w, _ = recorded()
    expected, sd = usual.response.predict(w, x)
    found, found_sd = fit.response.predict(w * weights, x * inputs)
    assert np.max(np.abs((found - offset) / of - expected)) < rtol * np.ptp(expected)
    assert found_sd / of == pytest.approx(sd, rel=rtol)
    assert fit.noise.read / of == pytest.approx(usual.noise.read, rel=100 * rtol)
    assert fit.noise.shot / of == pytest.approx(usual.noise.shot, rel=100 * rtol)
    assert fit.gate.applied
    assert fit.gate.chi2_per_dof == pytest.approx(usual.gate.chi2_per_dof, rel=rtol)


@pytest.mark.parametrize("of", everyday([1e-15, 1e-9, 3e-5, 7e4, 1e15], 0, 4))
def test_the_unit_of_the_readings_does_not_matter(usual, of):
    x, w, y = recorded()
    same(fit_response(Observations(x, w, of * y)), usual, of=of)


@pytest.mark.parametrize(("of", "spreads"), everyday([(1.0, 1e3), (1.0, -1e6), (1e-9, 1e6)], 1))
def test_an_offset_of_the_readings_does_not_matter(usual, of, spreads):
    x, w, y = recorded()
    offset = of * spreads * y.std()
    # eps of float64 times a million spreads is what is left of the digits
    same(fit_response(Observations(x, w, of * y + offset)), usual, of=of, offset=offset, rtol=1e-5)


@pytest.mark.parametrize("unit", everyday([1e-12, 1e12], 1))
def test_the_units_of_inputs_and_of_weights_do_not_matter(usual, unit):
    x, w, y = recorded()
    same(fit_response(Observations(x * unit, w, y)), usual, inputs=unit)
    same(fit_response(Observations(x, w * unit, y)), usual, weights=unit)


def test_one_output_in_another_unit_is_named():
    x, w, y = recorded()
    y[:, 2] *= 1e12
    with pytest.raises(FitError, match="output 2 is in another unit") as refused:
        fit_response(Observations(x, w, y))
    assert "divide the readings of output 2 by about 1e+12" in refused.value.hint


def test_an_output_whose_weights_are_small_is_in_no_other_unit():
    x, w, y = recorded()
    faint = w.copy()
    faint[2] /= 1000
    y[:, 2] = 60 + (y[:, 2] - 60) / 1000
    observations = Observations(x, faint, y)
    assert refuse_unrelated(observations, survey(observations)).slope > 0


def test_inputs_that_hardly_vary_beside_their_offset_are_named():
    x, w, y = recorded()
    with pytest.raises(FitError, match="the inputs hardly vary beside their offset") as refused:
        fit_response(Observations(x + 1e6, w, y))
    assert "inputs - 1e+06" in refused.value.hint
