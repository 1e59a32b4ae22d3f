"""A number that stands for "no value" is told as such, counted, and kept out of the fit."""

from __future__ import annotations

import numpy as np
import pytest
from everyday import everyday

from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.screening import screen

ROWS, OUTPUTS, INPUTS, NOISE = 400, 5, 10, 2.0


def recorded(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    w = rng.random((OUTPUTS, INPUTS))
    x = rng.random((rows, INPUTS))
    light = 200 * x @ (w * (1 + 0.05 * rng.normal(size=w.shape))).T
    return rng, x, w, light + 60, light + 60 + rng.normal(0, NOISE, light.shape)


@pytest.mark.parametrize("value", everyday([-999.0, 9999.0, 1e30, -1.0, 0.0], 0, 4))
def test_readings_that_stand_for_none_are_counted_and_left_out(value):
    rng, x, w, truth, y = recorded()
    gaps = rng.random(y.shape) < 0.03
    y[gaps] = value
    fit = fit_response(Observations(x, w, y))
    assert fit.gate.applied
    said = next(note for note in fit.notes if "missing values" in note)
    assert said.startswith(f"{value:g} stands {gaps.sum()} times in {gaps.any(axis=1).sum()} rows (output ")
    mean, sd = fit.response.predict(w, x)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.5 * NOISE
    assert np.mean(sd) == pytest.approx(NOISE, rel=0.1)
    assert not [b for b in fit.bad_rows if not gaps[b.index].any()]


@pytest.mark.parametrize("value", everyday([-999.0, 1e30, -1.0], 1))
def test_inputs_that_stand_for_none_are_counted_and_their_rows_left_out(value):
    rng, x, w, truth, y = recorded(1)
    whole, gaps = x.copy(), rng.random(x.shape) < 0.02
    x[gaps] = value
    fit = fit_response(Observations(x, w, y))
    assert fit.gate.applied
    assert any(note.startswith(f"{value:g} stands {gaps.sum()} times") and "(input " in note for note in fit.notes)
    assert {b.index for b in fit.bad_rows if b.reason == "missing input"} == set(np.nonzero(gaps.any(axis=1))[0])
    assert np.sqrt(np.mean((fit.response.predict(w, whole)[0] - truth) ** 2)) < 0.5 * NOISE


def test_dark_rows_and_clipped_readings_are_no_missing_values():
    _, x, w, _, y = recorded(2)
    x[::20] = 0
    y[::20] = 60.0  # of no noise: exactly the offset, far below all others
    assert not screen(Observations(x, w, y)).sentinels
    _, x, w, _, y = recorded(3)
    assert not screen(Observations(x, w, np.minimum(np.round(y), np.quantile(y, 0.97).round()))).sentinels


def test_a_flat_field_far_brighter_than_the_rest_has_its_values():
    rng, x, w, _, y = recorded(4)
    x[::40] = 3.0
    y[::40] += rng.normal(600, NOISE, y[::40].shape)
    assert not screen(Observations(x, w, y)).sentinels
