from dataclasses import replace

import numpy as np
import pytest
from somebodys_bench import bench

from calibration.errors import OutOfDomain
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.other_weights import with_weights
from calibration.response.predict import predict

ROWS = 600


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    b = bench(rng, 4, 12, per_output=0.05, photons=1e5)
    return b, fit_response(b.observe(rng, 800)).response


def test_intervals_cover_what_was_not_seen(fitted):
    b, response = fitted
    rng = np.random.default_rng(1)
    found = predict(response, b.observe(rng, 2000))
    assert found.mean.shape == found.low95.shape == (2000, 4)
    assert found.coverage95.mean() == pytest.approx(0.95, abs=0.01)  # 8000 readings: standard error 0.0024
    assert found.chi2_per_dof == pytest.approx(1.0, abs=0.06)
    assert not found.bad_rows
    assert found.drift.model == "still"


def test_without_readings_only_means_and_intervals_come(fitted):
    b, response = fitted
    rng = np.random.default_rng(2)
    observed = b.observe(rng, 100)
    alone = predict(response, Observations(observed.inputs, observed.weights))
    assert alone.rms_percent_of_range is None
    assert alone.drift is None
    inside = (observed.readings > alone.low95) & (observed.readings < alone.high95)
    assert 0.9 < inside.mean() < 0.99


def test_drift_is_followed_from_the_other_rows_and_the_jump_named(fitted):
    b, response = fitted
    rng = np.random.default_rng(3)
    course = 0.02 * np.sin(np.arange(ROWS) / 100) + 0.04 * (np.arange(ROWS) >= 400)
    found = predict(response, b.observe(rng, ROWS, drift=course))
    assert (found.rms_percent_of_range < 0.4 * found.rms_percent_of_range_frozen).all()
    assert found.coverage95.mean() == pytest.approx(0.95, abs=0.02)
    (jump,) = found.drift.jumps
    assert abs(jump.index - 400) <= 1
    assert jump.size[0] == pytest.approx(0.04, abs=4 * jump.stderr[0])
    assert np.abs(found.drift.gain - course).max() < 0.02
    assert "jump at row" in found.drift.in_words


def stale(y, i, rng):
    y[i] = y[i - 1] + rng.normal(size=4)


def duplicated(y, i, rng):
    y[i] = y[i - 1]


def swapped_rows(y, i, rng):
    y[[i, i + 1]] = y[[i + 1, i]]


def swapped_outputs(y, i, rng):
    y[i] = y[i][[1, 0, 3, 2]]


def dropped(y, i, rng):
    y[i] = 0


def flickering(y, i, rng):
    y[i] = 50 + (y[i] - 50) * 1.1


def garbage(y, i, rng):
    y[i] = rng.uniform(y.min(), y.max(), 4)


@pytest.mark.parametrize("fault", [stale, duplicated, swapped_rows, swapped_outputs, dropped, flickering, garbage])
def test_bad_rows_are_found_by_index_with_their_reason(fitted, fault):
    b, response = fitted
    rng = np.random.default_rng(4)
    observed = b.observe(rng, ROWS, drift=0.01 * np.sin(np.arange(ROWS) / 100))
    good, bad = observed.readings.copy(), observed.readings.copy()
    for i in rng.choice(np.arange(2, ROWS - 2, 4), ROWS // 100, replace=False):
        fault(bad, i, rng)
    changed = set(np.nonzero((bad != good).any(1))[0].tolist())
    found = predict(response, Observations(observed.inputs, observed.weights, bad))
    assert {row.index for row in found.bad_rows} == changed
    named = [row for row in found.bad_rows if row.reason.startswith(fault.__name__.replace("_", " "))]
    assert len(named) >= 0.8 * len(changed)  # a stale row next to a like one may pass for another
    assert found.coverage95.mean() == pytest.approx(0.95, abs=0.02)


def test_saturated_rows_are_named(fitted):
    b, response = fitted
    rng = np.random.default_rng(5)
    observed = b.observe(rng, ROWS)
    top = np.sort(observed.readings[:, 0])[-8] * 0.97
    y = observed.readings.copy()
    y[:, 0] = np.minimum(y[:, 0], top)
    found = predict(response, Observations(observed.inputs, observed.weights, y))
    assert found.bad_rows
    assert all(row.in_words.startswith("saturated: output 0") for row in found.bad_rows)


def test_other_weights_are_refused(fitted):
    b, response = fitted
    with pytest.raises(OutOfDomain, match="other weights"):
        predict(response, Observations(np.ones((3, 12)), b.weights[::-1]))


@pytest.mark.parametrize("crosstalk", [0.0, 0.1])
def test_other_weights_are_predicted_where_gains_are_in_proportion_to_them(crosstalk):
    rng = np.random.default_rng(3)
    b = bench(rng, 4, 12, per_output=0.1, per_input=0.1, neighbours=crosstalk, photons=1e5)
    response = with_weights(fit_response(b.observe(rng, 1500)).response, weights := rng.random((4, 12)))
    other = replace(b, weights=weights).observe(rng, 1500)
    found = predict(response, other)
    assert found.coverage95.mean() == pytest.approx(0.95, abs=0.02)
    # shot noise alone leaves K·√(2 · light); the fit's errors add a per cent
    floor = np.sqrt(b.k * (other.readings.mean(axis=0) - b.offset)) / np.ptp(other.readings, axis=0) * 100
    assert (found.rms_percent_of_range < 1.1 * floor).all()


def test_a_single_detector_is_predicted_behind_other_weights():
    rng = np.random.default_rng(4)
    b = bench(rng, 5, 10, per_input=0.2, photons=1e5)

    def looked(bench, rows):
        whole = bench.observe(rng, rows)
        output = rng.integers(0, 5, rows)
        return Observations(whole.inputs, bench.weights, whole.readings[np.arange(rows), output], output=output)

    response = fit_response(looked(b, 1500)).response
    other = replace(b, weights=rng.random((5, 10)))
    found = predict(with_weights(response, other.weights), looked(other, 1000))
    assert found.coverage95.mean() == pytest.approx(0.95, abs=0.02)


def test_other_weights_are_refused_with_what_the_fit_does_not_know():
    rng = np.random.default_rng(5)
    b = bench(rng, 4, 8, single=0.2, photons=1e5)
    full = fit_response(b.observe(rng, 800)).response
    assert full.structure["gain"].chosen == "full"
    with pytest.raises(OutOfDomain, match="other weights") as caught:
        with_weights(full, b.weights[::-1])
    assert "one weight only" in caught.value.seen
    with pytest.raises(OutOfDomain, match="other weights"):
        with_weights(full, b.weights[:, :-1])


def test_inputs_beyond_the_fit_are_counted(fitted):
    b, response = fitted
    assert predict(response, Observations(np.full((3, 12), 1.5), b.weights)).outside == 3
