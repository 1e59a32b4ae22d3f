"""What is no measurement never enters a fit: rows, slips, clipped readings and dead outputs are found before it."""

from pathlib import Path

import faulty_recordings as recordings
import h5py
import numpy as np
import pytest
from everyday import everyday

from calibration.errors import Saturated
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.predict import predict
from calibration.response.rails import Rails
from calibration.response.screening import screen

SEEDS = (0, 1)


def observed(recording, **more):
    return Observations(recording.inputs, recording.weights, recording.readings, **more)


def one_output(recording, output=0):
    return Observations(recording.inputs, recording.weights[[output]], recording.readings[:, [output]])


def rows_of(screened, reason=None):
    return {b.index for b in screened.bad if reason is None or b.reason == reason}


COLLAPSED = {name: make for name, make in recordings.FAULTS.items() if make(0).bad}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", COLLAPSED)
def test_rows_of_a_camera_or_lamp_that_stopped_are_found_before_any_fit(name, seed):
    recording = COLLAPSED[name](seed)
    screened = screen(observed(recording))
    assert rows_of(screened) == recording.bad
    assert all(b.reason in ("dropped", "stopped", "duplicated", "dark") for b in screened.bad)
    assert not screened.slips


@pytest.mark.parametrize("name", [n for n in COLLAPSED if "repeat" not in n and "no inputs" not in n])
def test_a_single_output_that_stopped_is_found_too(name):
    recording = COLLAPSED[name](2)
    found = rows_of(screen(one_output(recording)))
    if len(recording.bad) == 2:  # left to the fit, which convicts single rows
        assert not found
    else:  # the first reading of a camera that stands still may be right
        assert recording.bad - {0} <= found <= recording.bad


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_recording_loses_no_row(seed):
    for rows, outputs in ((1200, 4), (300, 1), (150, 16), (40, 3)):
        screened = screen(observed(recordings.sound(seed, rows, outputs)))
        assert not screened.bad
        assert not screened.slips
        assert not screened.rails.any


def test_few_levels_and_equal_inputs_are_no_fault():
    rng = np.random.default_rng(0)
    weights = rng.random((4, 8))
    shown = np.repeat(np.eye(8), 40, axis=0)  # each input alone, held for 40 rows, read without noise
    held = screen(Observations(shown, weights, 20 + 100 * shown @ weights.T))
    assert not held.bad
    coarse = rng.random((900, 8))
    three_bits = screen(Observations(coarse, weights, np.round(coarse @ weights.T * 1.5)))
    assert not three_bits.bad
    assert not three_bits.rails.any
    photons = screen(Observations(coarse, weights[:2], rng.poisson(0.5 * coarse @ weights[:2].T).astype(float)))
    assert not photons.bad  # a count of zero is a measurement


def test_the_calibration_is_that_of_the_bench_before_the_camera_stopped():
    recording = recordings.stopped(0, 8)
    fit = fit_response(observed(recording))
    expected = fit.response.offset + recording.inputs @ fit.response.gain.T
    good = [row for row in range(len(expected)) if row not in recording.bad]
    error = np.sqrt(np.mean((expected - recording.mean)[good] ** 2))
    # 13 parameters an output by 1192 rows of 29 DN noise: √(13/1192) · 29 = 3 DN
    assert error < 6
    assert {b.index for b in fit.bad_rows} == recording.bad
    assert {b.reason for b in fit.bad_rows} == {"dropped"}
    assert fit.gate.applied
    assert fit.response.reading_range[0] > 100  # no zeros in the range


def test_rows_that_stopped_are_left_out_of_a_prediction():
    good = recordings.sound(0)
    response = fit_response(observed(good)).response
    recording = recordings.stopped(0, 12)
    found = predict(response, observed(recording))
    assert {b.index for b in found.bad_rows} == recording.bad
    assert found.drift.model == "still"
    assert np.isfinite(found.mean).all()
    np.testing.assert_allclose(found.mean[-12:], predict(response, observed(good)).mean[-12:], atol=5)


# --- starting up


@pytest.mark.parametrize("seed", range(4))
def test_a_start_up_is_left_out_under_its_own_name_and_nothing_that_follows_changes_that(seed):
    recording = recordings.started_up(seed)
    found = [
        [(b.index, b.reason) for b in screen(observed(recording).between(0, rows)).bad]
        for rows in (200, 300, 700, 1200)
    ]
    assert found[0] == found[1] == found[2] == found[3]
    # the gains settle by a factor of e in 12 rows
    assert 8 <= len(found[0]) <= 28
    assert found[0] == [(row, "transient") for row in range(len(found[0]))]


def test_a_start_up_is_told_in_a_fit_and_in_a_prediction():
    recording = recordings.started_up(1)
    fit = fit_response(observed(recording))
    starting = [b for b in fit.bad_rows if b.reason == "transient"]
    assert len(starting) >= 8
    assert "gains of the outputs are off by" in starting[0].evidence
    assert not [b for b in fit.bad_rows if b.index < 48 and b.reason != "transient"]
    sound = fit_response(observed(recordings.sound(1))).response
    again = predict(sound, observed(recordings.started_up(1, of=400)))
    assert [b.index for b in again.bad_rows if b.reason == "transient"] == list(range(len(again.bad_rows)))
    assert len(again.bad_rows) >= 8


def test_a_start_up_is_found_where_signals_have_both_signs():
    rng = np.random.default_rng(0)
    inputs, weights = rng.choice([-1.0, 1.0], (400, 12)), rng.normal(size=(4, 12))
    off = 0.1 * np.array([1, -1, 0.5, -0.5]) * np.exp(-np.arange(400) / 10)[:, None]
    readings = 2000 + 300 * inputs @ weights.T * (1 + off) + rng.normal(0, 15, (400, 4))
    found = screen(Observations(inputs, weights, readings)).bad
    assert 8 <= len(found) <= 28
    assert {b.reason for b in found} == {"transient"}


def test_a_warm_up_that_all_outputs_share_is_drift_and_no_start_up():
    recording = recordings.sound(0, 400)
    common = 1 + 0.1 * np.exp(-np.arange(400) / 12)[:, None]
    for noise in (30.0, 0.3):  # with little noise even errors of the offsets show, which are taken from the line
        added = np.array([100, 500, 50, 900]) + np.random.default_rng(0).normal(0, noise, recording.mean.shape)
        readings = added + (recording.mean - 60) * common
        assert not screen(Observations(recording.inputs, recording.weights, readings)).bad


def test_outputs_that_always_wander_by_themselves_do_not_start_up():
    recording = recordings.sound(0, 400)
    accused = 0
    for seed in range(40):
        steps = np.random.default_rng(seed).normal(0, 0.02, recording.mean.shape)
        readings = recording.readings + (recording.mean - 60) * np.cumsum(steps, axis=0)
        accused += len(rows_of(screen(Observations(recording.inputs, recording.weights, readings)), "transient"))
    assert accused <= 16  # of 16,000 rows


def test_first_rows_of_another_kind_do_not_start_up():
    recording = recordings.sound(0, 400)
    inputs = recording.inputs.copy()
    inputs[:12] = np.eye(12)  # every input alone, before the recording proper
    light = inputs @ recording.weights.T
    bent = light + np.array([-0.08, -0.03, 0.03, 0.08]) * light**2
    readings = 60 + 400 * bent + np.random.default_rng(0).normal(0, 20, bent.shape)
    assert not rows_of(screen(Observations(inputs, recording.weights, readings)), "transient")


def test_the_first_rows_of_a_measured_recording_are_its_start_up():
    path = Path(__file__).parents[4] / "shared/data/measured/lcd_camera_36x4_train.npz"
    if not path.is_file():
        pytest.skip("the measured file is not beside the project")
    measured = np.load(path)
    whole = Observations(measured["inputs"], measured["weights"], measured["readings"])
    for rows in (150, 300, 1000, 3000):
        assert rows_of(screen(whole.between(0, rows)), "transient") == set(range(13))


# --- slips


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("at", "by"), [(300, 1), (300, -1), (900, -2), (1190, 1), (20, 1)])
def test_a_slip_is_named_with_its_row_and_lag_and_the_rows_are_put_in_step(seed, at, by):
    recording = recordings.slipped(seed, at, by)
    screened = screen(observed(recording))
    (slip,) = screened.slips
    assert (slip.row, slip.lag) == (at, by)
    kept = screened.kept
    residual = kept.readings - recording.mean[screened.rows]
    assert np.std(residual) < 35  # the noise is 29 DN, the signal 400
    assert len(screened.bad) == abs(by) + max(by, 0)  # surplus frames, and rows without a reading
    assert any(f"row {at}" in note and f"{abs(by)} row" in note for note in screened.notes)


def test_a_slip_is_mended_in_fit_and_prediction_and_said():
    recording = recordings.slipped(3, 300, 1, rows=600)
    fit = fit_response(observed(recording))
    assert fit.gate.applied
    assert "from row 300 on the readings are 1 row late" in fit.notes[0]
    expected = fit.response.offset + recording.inputs @ fit.response.gain.T
    assert np.sqrt(np.mean((expected - recording.mean) ** 2)) < 8  # √(13/600) · 29 = 4 DN
    again = predict(fit.response, observed(recordings.slipped(3, 400, -1, rows=600)))
    assert "from row 400 on the readings are 1 row early" in again.notes[0]
    assert again.coverage95.mean() == pytest.approx(0.95, abs=0.02)


def test_two_slips_and_a_single_detector():
    good = recordings.sound(5)
    rows = len(good.inputs)
    source = np.arange(rows)
    source[400:] -= 1
    source[800:] += 2
    twice = Observations(good.inputs, good.weights, good.readings[np.minimum(source, rows - 1)])
    assert [(s.row, s.lag) for s in screen(twice).slips] == [(400, 1), (800, -1)]
    output = np.random.default_rng(0).integers(0, 4, rows)
    one = good.readings[np.arange(rows), output]
    shifted = one[np.maximum(np.arange(rows) - (np.arange(rows) >= 500), 0)]
    (slip,) = screen(Observations(good.inputs, good.weights, shifted, output=output)).slips
    assert (slip.row, slip.lag) == (500, 1)


# --- clipped readings


@pytest.mark.parametrize("seed", everyday(SEEDS, 0))
@pytest.mark.parametrize("below", [False, True])
def test_clipping_is_found_where_readings_pile_up_and_is_kept_out_of_the_fit(seed, below):
    recording = recordings.clipped(seed, 0.03, below=below)
    fit = fit_response(observed(recording))
    expected = fit.response.offset + recording.inputs @ fit.response.gain.T
    assert np.sqrt(np.mean((expected - recording.mean) ** 2)) < 7  # 3 DN with all rows
    assert fit.structure["nonlinearity"].chosen == "none"
    assert fit.structure["noise"].chosen.startswith("shot")
    assert any("readings that may be cut off are left out" in note for note in fit.notes)
    # rows of which most outputs are cut off are left out as a whole
    mostly = set(np.nonzero(recording.clipped.mean(axis=1) > 0.5)[0].tolist())
    assert mostly <= {b.index for b in fit.bad_rows if b.reason == "saturated"}
    found = predict(fit.response, Observations(recording.inputs, recording.weights))
    rail = recording.readings.min() if below else recording.readings.max()
    for values in (found.mean, found.low95, found.high95):
        assert (values.min() >= rail) if below else (values.max() <= rail)


def test_a_row_of_which_one_output_is_clipped_keeps_its_other_outputs():
    recording = recordings.sound(0)
    readings = recording.readings.copy()
    readings[:, 2] = np.minimum(readings[:, 2], np.quantile(readings[:, 2], 0.9).round())
    fit = fit_response(Observations(recording.inputs, recording.weights, readings))
    assert not [b for b in fit.bad_rows if b.reason == "saturated"]
    whole = fit_response(observed(recordings.sound(0))).response
    others = [0, 1, 3]
    moved = (fit.response.gain - whole.gain)[others] / whole.stderr["gain"][others]
    # without the tenth of the rows, and those close to it, the gains move by about a third of their errors
    assert np.sqrt(np.mean(moved**2)) < 0.12
    # the clipped output is fitted to what is below its ceiling, and knows less
    expected = fit.response.offset + recording.inputs @ fit.response.gain.T
    assert np.sqrt(np.mean((expected - recording.mean)[:, 2] ** 2)) < 9
    assert fit.noise.shot == pytest.approx(0.5, abs=0.04)


def test_clipping_is_told_apart_from_a_gain_that_drifts():
    recording = recordings.sound(2)
    drifting = 60 + (recording.mean - 60) * (1 - 0.2 * np.arange(1200) / 1200)[:, None]
    noisy = (drifting + np.random.default_rng(0).normal(0, 20, drifting.shape)).round()
    rail = np.quantile(noisy[:, 1], 0.95).round()
    readings = noisy.copy()
    readings[:, 1] = np.minimum(noisy[:, 1], rail)  # nearly all of them in the first half
    fit = fit_response(Observations(recording.inputs, recording.weights, readings))
    assert fit.gate.applied
    assert fit.structure["nonlinearity"].chosen == "none"
    expected = fit.response.offset + recording.inputs @ fit.response.gain.T
    at_end = 60 + (recording.mean - 60) * 0.8
    # a gain that walks is known to half a per cent at the end: 7 DN of 1500
    assert np.sqrt(np.mean((expected - at_end)[:, 1] ** 2)) < 15
    assert not [b for b in fit.bad_rows if b.reason == "garbage"]


def test_clipped_readings_are_left_out_of_a_recording_on_the_disk_that_slipped(tmp_path):
    recording = recordings.slipped(3, 200, 1, rows=400)
    readings = np.minimum(recording.readings, np.quantile(recording.readings, 0.97).round())
    with h5py.File(tmp_path / "x.h5", "w") as file:
        inputs, read = (file.create_dataset(n, data=v) for n, v in (("x", recording.inputs), ("y", readings)))
        fit = fit_response(Observations(inputs, recording.weights, read, at_s=np.arange(400) * 0.5))
        memory = fit_response(Observations(recording.inputs, recording.weights, readings, at_s=np.arange(400) * 0.5))
    assert fit.gate.applied
    assert {b.reason for b in fit.bad_rows} <= {"duplicated", "lost", "saturated"}
    assert any("cut off are left out" in note for note in fit.notes)
    assert fit.response.id == memory.response.id


def test_clipping_of_every_output_of_many_leaves_enough_to_fit():
    rng = np.random.default_rng(0)
    inputs, weights = rng.random((600, 12)), np.eye(12) + 0.05 * rng.random((12, 12))
    mean = 60 + 1000 * inputs @ weights.T
    whole = np.round(mean + rng.normal(0, 10, mean.shape))
    rail = np.quantile(whole, 0.92, axis=0).round()
    readings = np.minimum(whole, rail)
    assert (readings == rail).any(axis=1).mean() > 0.5  # of the rows
    fit = fit_response(Observations(inputs, weights, readings))
    assert fit.gate.applied
    assert fit.rows > 550
    expected = fit.response.offset + inputs @ fit.response.gain.T
    # 13 numbers by 520 rows of 10 DN of noise: 1.6 DN
    assert np.sqrt(np.mean((expected - mean)[readings < rail] ** 2)) < 2.4
    assert fit.gate.coverage95.mean() == pytest.approx(0.95, abs=0.02)
    found = predict(fit.response, Observations(inputs, weights))
    assert (found.high95 <= rail).all()


def test_a_reading_that_was_cut_off_does_not_matter_to_the_fit():
    good = recordings.sound(3, 600)
    rail = np.quantile(good.readings[:, 1], 0.95).round()
    above = good.readings[:, 1] > rail
    readings = good.readings.copy()
    readings[above, 1] = rail
    screened = screen(Observations(good.inputs, good.weights, readings))
    response = fit_response(Observations(good.inputs, good.weights, good.readings)).response
    left = screened.without_cut_off(response)
    kept = left.kept
    drawn = np.zeros(kept.readings.shape, bool)
    drawn[np.searchsorted(left.rows, left.filled.rows)] = left.filled.drawn
    assert set(np.nonzero(above)[0]) <= set(left.filled.rows)
    values = kept.rows(0, kept.count).readings
    np.testing.assert_array_equal(values[~drawn], readings[left.rows][~drawn])
    assert (values[drawn] > rail).mean() > 0.3  # a law with its upper half, not the ceiling
    deviation = (values - good.mean[left.rows])[drawn]
    assert abs(deviation.mean()) < 4 * deviation.std() / np.sqrt(drawn.sum())
    assert deviation.std() == pytest.approx(np.std((good.readings - good.mean)[:, 1]), rel=0.3)


def test_rails_belong_to_single_outputs():
    recording = recordings.sound(1)
    readings = recording.readings.copy()
    readings[:, 2] = np.minimum(readings[:, 2], np.quantile(readings[:, 2], 0.97))
    rails = screen(Observations(recording.inputs, recording.weights, readings)).rails
    assert rails.ceiling[2] == readings[:, 2].max()
    assert np.isinf(rails.ceiling[[0, 1, 3]]).all()
    assert np.isinf(rails.floor).all()


def test_a_censored_normal_reading_has_the_moments_of_many_draws():
    rng = np.random.default_rng(0)
    mean, sd = np.array([[3.0, 10.0, 9.0]]), np.array([[1.0, 2.0, 2.0]])
    rails = Rails(np.array([2.5, -np.inf, -np.inf]), np.array([4.0, 9.0, np.inf]))
    drawn = np.clip(rng.normal(mean, sd, (400_000, 3)), rails.floor, rails.ceiling)
    found = rails.censored(mean, sd)
    np.testing.assert_allclose(found[0][0], drawn.mean(axis=0), atol=0.01)  # 5 standard errors
    np.testing.assert_allclose(found[1][0], drawn.std(axis=0), atol=0.01)


def test_a_capture_that_is_mostly_saturated_is_refused_with_the_output():
    recording = recordings.sound(0, 400)
    readings = recording.readings.copy()
    readings[:, 1] = np.minimum(readings[:, 1], np.quantile(readings[:, 1], 0.6))
    with pytest.raises(Saturated) as caught:
        fit_response(Observations(recording.inputs, recording.weights, readings))
    assert "output 1: 40 %" in caught.value.seen


# --- outputs and inputs that are out of order


@pytest.mark.parametrize("value", [0.0, 4095.0])
def test_a_dead_output_is_named_and_left_out_and_the_rest_is_fitted(value):
    recording = recordings.sound(0, 600)
    readings = recording.readings.copy()
    readings[:, 1] = value
    observations = Observations(recording.inputs, recording.weights, readings)
    fit = fit_response(observations)
    assert fit.gate.applied
    assert f"output 1 reads {value:g} DN in every row: left out" in fit.notes
    assert np.isnan(fit.gate.rms_percent_of_range[1])
    assert (fit.gate.rms_percent_of_range[[0, 2, 3]] < 2).all()
    assert not fit.bad_rows
    found = predict(fit.response, observations)
    assert (found.mean[:, 1] == value).all()
    assert found.coverage95[[0, 2, 3]].mean() == pytest.approx(0.95, abs=0.02)
    assert np.isnan(found.coverage95[1])
    alone, sd = fit.response.predict(recording.weights, recording.inputs)
    assert alone.shape == sd.shape == readings.shape


def test_a_constant_input_is_named_and_the_rest_is_fitted():
    recording = recordings.sound(0, 600)
    for value in (0.0, 0.7):
        inputs = recording.inputs.copy()
        readings = recording.readings - (inputs[:, [5]] - value) * recording.weights[:, 5] * 600
        inputs[:, 5] = value
        fit = fit_response(Observations(inputs, recording.weights, readings))
        assert any("input 5 never changes" in note for note in fit.notes)
        assert fit.gate.applied


# --- numbers as files have them


@pytest.mark.parametrize("dtype", everyday([np.uint8, np.int8, np.uint16, np.float16, np.int32], 1, 3))
def test_no_arithmetic_is_done_in_the_type_of_the_file(dtype):
    rng = np.random.default_rng(0)
    inputs, weights = rng.integers(0, 100, (200, 6)), rng.integers(0, 100, (3, 6))
    readings = np.round(inputs @ weights.T / 400 + rng.normal(0, 1, (200, 3)))
    readings = np.clip(readings, 0, 127)
    plain = fit_response(Observations(inputs.astype(float), weights.astype(float), readings))
    narrow = fit_response(Observations(inputs.astype(dtype), weights.astype(dtype), readings.astype(dtype)))
    assert narrow.response.id == plain.response.id


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_a_clock_that_wraps_or_restarts_is_refused_whatever_its_type(dtype):
    from calibration.errors import BadObservations

    recording = recordings.sound(0, 300)
    wraps = (np.arange(300) % 251).astype(dtype)
    with pytest.raises(BadObservations, match="time goes backwards"):
        observed(recording, at_s=wraps)
