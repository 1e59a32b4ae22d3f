"""Readings that are missing, NaN: left out one by one, and what is fitted is what the others say."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.errors import FitError
from calibration.response.artefact import load_response, save_response
from calibration.response.collapse import Patterns
from calibration.response.cut_off import fill
from calibration.response.fit import fit_response
from calibration.response.missing import missing_in_words
from calibration.response.observations import Observations
from calibration.response.predict import predict
from calibration.response.screening import screen

ROWS, OUTPUTS, INPUTS, NOISE = 260, 4, 6, 2.0


def recording(seed=1, rows=ROWS):
    """Inputs, weights, readings, and the gain (M, N) that they were made with."""
    rng = np.random.default_rng(seed)
    x, w = rng.random((rows, INPUTS)), rng.random((OUTPUTS, INPUTS))
    gain = 100 * w * (1 + 0.05 * rng.normal(size=w.shape))
    drift = 1 + 0.06 * np.sin(np.arange(rows) / rows * 3)[:, None]
    return x, w, 50 + drift * (x @ gain.T) + rng.normal(0, NOISE, (rows, OUTPUTS)), gain


def without(y, share, seed=2):
    return np.where(np.random.default_rng(seed).random(y.shape) < share, np.nan, y)


@pytest.fixture(scope="module")
def made():
    return recording()


@pytest.fixture(scope="module")
def whole(made):
    x, w, y, _ = made
    return fit_response(Observations(x, w, y))


@pytest.fixture(scope="module")
def lacking(made):
    """Of which an eighth of all readings is missing, so that hardly a row in two is whole."""
    x, w, y, _ = made
    return fit_response(Observations(x, w, without(y, 0.12)))


def test_a_fit_without_an_eighth_of_the_readings_predicts_as_well(made, whole, lacking):
    x, w, y, _ = made
    assert lacking.gate.applied, lacking.gate.reason
    # of 7 numbers per output from 260 rows, an eighth fewer readings make the error about 0.4 % larger
    full = predict(whole.response, Observations(x, w, y)).rms_percent_of_range
    found = predict(lacking.response, Observations(x, w, y)).rms_percent_of_range
    assert found.mean() < 1.02 * full.mean()
    assert {b.reason for b in lacking.bad_rows} <= {"missing"}  # no good row is accused


def test_its_noise_and_intervals_are_those_of_the_readings_that_there_are(made, lacking):
    x, w, y, _ = made
    level = np.array(150.0)
    # √(2 · 0.88 · 260 · 4) readings: 3.3 % of the variance, one standard error
    assert lacking.noise.variance(level) == pytest.approx(NOISE**2, rel=0.12)
    assert 0.93 <= lacking.gate.coverage95.mean() <= 0.97
    assert lacking.gate.chi2_per_dof == pytest.approx(1, abs=0.1)
    later = predict(lacking.response, Observations(x, w, without(y, 0.12, seed=3)))
    assert 0.93 <= later.coverage95.mean() <= 0.975
    assert np.isfinite(later.mean).all()  # a reading that is missing is predicted, too


def test_what_is_drawn_in_their_place_does_not_count_as_noise(made, monkeypatch):
    x, w, y, _ = made

    def wild(response, observations, course, rows, cut):
        found = fill(response, observations, course, rows, cut)
        far = 4 * NOISE * np.random.default_rng(5).normal(size=found.readings.shape)
        return replace(found, readings=found.readings + np.where(cut, far, 0.0))

    monkeypatch.setattr("calibration.response.screening.fill", wild)
    noise = fit_response(Observations(x, w, without(y, 0.12))).noise
    # gains from such readings are worse, by 4² · 0.12 · 7 / 260 = 5 % of the variance; counted, it would be 2.8 times
    assert NOISE**2 * 0.88 < noise.variance(np.array(150.0)) < NOISE**2 * 1.3


def test_how_many_are_missing_is_said_by_output(made, lacking):
    gone = np.isnan(without(made[2], 0.12))
    note = next(n for n in lacking.notes if "missing" in n)
    assert note.startswith(f"{gone.sum()} readings are missing (output ")
    for m in range(OUTPUTS):
        assert f"output {m} {gone[:, m].sum()}" in note
    assert f"first in row {np.argmax(gone.any(axis=1))}:" in note


def test_an_output_that_was_never_read_is_named_and_the_others_are_fitted(made, tmp_path):
    x, w, y, _ = made
    y = y.copy()
    y[:, 2] = np.nan
    y[:, 1] = 7.0
    fit = fit_response(Observations(x, w, y))
    assert "output 2 has no reading: left out" in fit.notes
    assert "output 1 reads 7 DN in every row: left out" in fit.notes
    assert fit.gate.applied
    loaded = load_response(save_response(fit.response, tmp_path)[0])
    assert loaded.id == fit.response.id
    found = predict(loaded, Observations(x, w, y))
    assert np.isnan(found.mean[:, 2]).all()  # nothing is known of it
    assert (found.mean[:, 1] == 7).all()
    assert np.isfinite(found.mean[:, [0, 3]]).all()
    # and an output that only this file lacks is predicted all the same
    y[:, 3] = np.nan
    y[:, 2] = made[2][:, 2]  # which was not read when the fit was made
    found = predict(loaded, Observations(x, w, y))
    assert "output 2 was left out of the fit: nothing is known of it" in found.notes
    assert np.isnan(found.rms_percent_of_range[3])
    assert np.isfinite(found.mean[:, 3]).all()


def test_too_many_missing_readings_are_refused_with_the_number(made):
    x, w, y, _ = made
    y = y.copy()
    y[10:80, 1] = np.nan
    with pytest.raises(FitError) as caught:
        fit_response(Observations(x, w, y))
    assert caught.value.seen == "output 1 lacks 70 of 260 (27%)"


def test_rows_that_lack_more_than_half_are_listed(made):
    x, w, y, _ = made
    y = y.copy()
    y[40], y[41, :3], y[42, :2] = np.nan, np.nan, np.nan
    found = screen(Observations(x, w, y))
    assert [(b.index, b.in_words) for b in found.bad] == [
        (40, "missing: no reading"), (41, "missing: 3 of 4 readings are"),
    ]  # fmt: skip
    assert 42 in found.rows


def test_a_stopped_camera_is_found_beside_missing_readings(made):
    x, w, y, _ = made
    y = without(y, 0.1)
    y[-8:] = np.where(np.isnan(y[-8:]), np.nan, 0.0)
    y[100] = np.where(np.isnan(y[99]) | np.isnan(y[100]), np.nan, y[99])
    found = screen(Observations(x, w, y))
    reasons = {b.index: b.reason for b in found.bad}
    dropped = {i for i in range(ROWS - 8, ROWS) if np.isfinite(y[i]).sum() > 2}
    assert {i for i, reason in reasons.items() if reason == "dropped"} == dropped
    assert reasons[100] in ("duplicated", "missing")
    assert {i for i in reasons if i < ROWS - 8} - {100} == set(np.nonzero(np.isnan(y).sum(axis=1) > 2)[0].tolist()) - {
        *range(ROWS - 8, ROWS), 100,
    }  # fmt: skip


def test_a_frame_lost_in_the_middle_is_found_beside_missing_readings(made):
    x, w, y, _ = made
    late = without(y, 0.1)[np.arange(ROWS) - (np.arange(ROWS) >= 130)]
    found = screen(Observations(x, w, late))
    assert [(abs(s.row - 130) <= 1, s.lag) for s in found.slips] == [(True, 1)]


def test_missing_readings_prove_no_pattern():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4000, (200, 3)).astype(float)
    y[50:60, :2] = np.nan  # one reading each: alike with itself, and no proof of anything
    y[60, :] = np.nan
    found = Patterns.of(y, ~np.isnan(y))
    assert not found.any[45:65].any()
    y[80] = [5, np.nan, 5]
    y[90], y[91] = [1, 2, np.nan], [1, 2, 3]
    found = Patterns.of(y, ~np.isnan(y))
    assert found.alike[80]
    assert found.repeated[91]


def test_a_single_detector_misses_a_row(made):
    x, w, y, _ = made
    output = np.arange(ROWS) % OUTPUTS
    single = y[np.arange(ROWS), output].copy()
    single[[5, 77]] = np.nan
    fit = fit_response(Observations(x, w, single, output))
    assert [(b.index, b.reason) for b in fit.bad_rows if b.reason == "missing"] == [(5, "missing"), (77, "missing")]
    assert any(n.startswith("2 readings are missing, first in row 5") for n in fit.notes)


def test_infinity_is_still_refused_and_a_missing_input_too(made):
    x, w, y, _ = made
    for inputs, readings in ((np.where(x > 0.99, np.nan, x), y), (x, np.where(y > 200, np.inf, y))):
        with pytest.raises(Exception, match="not finite"):
            Observations(inputs, w, readings)


def test_nothing_missing_changes_nothing(made, whole):
    x, w, y, _ = made
    again = fit_response(replace(Observations(x, w, y)))
    assert again.response.id == whole.response.id
    assert missing_in_words(np.zeros((9, 2), bool), set(), single=False) == ""
