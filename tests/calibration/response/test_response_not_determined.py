"""Rows in directions that no row of a fit showed: their intervals hold, and they are counted and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from everyday import everyday

from calibration.errors import FitError, OutOfDomain
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from calibration.response.other_weights import with_weights
from calibration.response.predict import predict
from calibration.response.survey import refuse_unrelated, survey

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
INPUTS, OUTPUTS, ROWS, NOISE = 8, 3, 160, 2.0


class Truth:
    """A line per output with single gains 5 % off their weights, read with a noise of 2 DN."""

    def __init__(self, seed=0):
        rng = self.rng = np.random.default_rng(seed)
        self.weights = rng.random((OUTPUTS, INPUTS))
        self.gain = 2000 / INPUTS * self.weights * (1 + 0.05 * rng.normal(size=self.weights.shape))

    def light(self, inputs):
        return inputs @ self.gain.T

    def readings(self, inputs, rng=None):
        noise = (rng or self.rng).normal(0, NOISE, (len(inputs), OUTPUTS))
        return 60 + self.light(inputs) + noise

    def fitted(self, inputs):
        return fit_response(Observations(inputs, self.weights, self.readings(inputs))).response

    def predicted(self, response, inputs):
        """The prediction of rows, and which share of readings that nobody fitted are inside their intervals."""
        found = predict(response, Observations(inputs, self.weights))
        fresh = self.readings(inputs, np.random.default_rng(99))
        return found, float(((fresh >= found.low95) & (fresh <= found.high95)).mean())

    def dense(self, rows=300, seed=7):
        return np.random.default_rng(seed).random((rows, INPUTS))


def reasons(found):
    return {g.reason: g for g in found.outside_groups}


@pytest.fixture(scope="module")
def ordinary():
    truth = Truth()
    return truth, truth.fitted(truth.dense(ROWS, seed=1))


def test_rows_like_those_of_the_fit_are_inside_and_keep_their_intervals(ordinary):
    truth, response = ordinary
    found, inside = truth.predicted(response, truth.dense(1000))
    assert found.outside == 0
    assert found.outside_groups == ()
    assert not found.outside_reason.any()
    assert inside == pytest.approx(0.95, abs=0.02)  # 3000 readings: standard error 0.004
    before = predict(replace(response, shown=None), Observations(truth.dense(1000), truth.weights))
    assert found.sd.max() < 1.05 * before.sd.max()
    assert np.median(found.sd / before.sd) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("distinct", everyday([3, 6, 9], 1))
def test_few_distinct_rows_do_not_determine_others(distinct):
    truth = Truth(distinct)
    few = truth.dense(distinct, seed=2)
    response = truth.fitted(few[truth.rng.integers(0, distinct, ROWS)])
    same, inside = truth.predicted(response, few[np.random.default_rng(5).integers(0, distinct, 300)])
    assert same.outside == 0
    assert inside == pytest.approx(0.95, abs=0.03)
    found, inside = truth.predicted(response, truth.dense())
    assert found.outside > 200 if distinct < INPUTS else found.outside > 0
    assert inside > 0.93


def test_channels_that_were_always_alike_are_named_when_they_come_apart():
    truth = Truth(1)
    alike = truth.dense(ROWS, seed=3)
    alike[:, 1], alike[:, 5] = alike[:, 0], alike[:, 3]
    response = truth.fitted(alike)
    found, inside = truth.predicted(response, truth.dense())
    assert inside > 0.93
    assert found.outside > 200
    assert set(reasons(found)["combination"].inputs) == {0, 1, 3, 5}
    still_alike = truth.dense()
    still_alike[:, 1], still_alike[:, 5] = still_alike[:, 0], still_alike[:, 3]
    found, inside = truth.predicted(response, still_alike)
    assert found.outside == 0
    assert inside == pytest.approx(0.95, abs=0.03)


def test_rows_of_rank_4_determine_their_span_and_nothing_beyond():
    truth = Truth(2)
    basis = np.random.default_rng(4).random((4, INPUTS)) / 2
    response = truth.fitted(np.random.default_rng(5).random((ROWS, 4)) @ basis)
    found, inside = truth.predicted(response, np.random.default_rng(6).uniform(0.1, 0.9, (300, 4)) @ basis)
    assert found.outside == 0
    assert inside == pytest.approx(0.95, abs=0.03)
    found, inside = truth.predicted(response, truth.dense() / 2)
    assert found.outside > 250
    assert inside > 0.93


@pytest.mark.parametrize("seed", everyday([3, 7], 0))
def test_one_hot_rows_do_not_tell_what_dense_ones_read(seed):
    truth = Truth(seed)
    response = truth.fitted(np.eye(INPUTS)[truth.rng.integers(0, INPUTS, ROWS)])
    assert response.detector_curve.straight  # gains explain any curve of one-hot rows
    found = predict(response, Observations(truth.dense(), truth.weights))
    assert found.outside == 300
    light = truth.light(truth.dense())
    for saturating in (0, 0.3):  # neither of which the fit could see
        fresh = 60 + light / (1 + saturating * light / light.max())
        assert ((fresh >= found.low95) & (fresh <= found.high95)).mean() > 0.93


def test_a_channel_that_was_constant_is_named_when_it_moves():
    truth = Truth(4)
    still = truth.dense(ROWS, seed=8)
    still[:, 6] = 0.5
    response = truth.fitted(still)
    found, inside = truth.predicted(response, truth.dense())
    assert inside > 0.93
    group = reasons(found)["input"]
    assert group.inputs[0] == 6
    assert "always 0.5" in group.words
    assert found.outside > 200


def test_a_channel_that_was_never_lit_is_named_when_it_is():
    truth = Truth(5)
    dark = truth.dense(ROWS, seed=9)
    dark[:, 2] = 0
    response = truth.fitted(dark)
    found, inside = truth.predicted(response, truth.dense())
    assert inside > 0.93
    assert reasons(found)["input"].inputs == (2,)
    lit = truth.dense()
    lit[:, 2] = 0
    assert truth.predicted(response, lit)[0].outside == 0


def test_three_times_the_brightness_is_named_whatever_the_curve():
    truth = Truth(6)
    dim = truth.dense(400, seed=10) / 3

    def read(inputs, rng):
        light = truth.light(inputs)
        return 60 + light / (1 + light / 400) + rng.normal(0, 0.5, light.shape)

    response = fit_response(Observations(dim, truth.weights, read(dim, truth.rng))).response
    assert not response.detector_curve.straight
    # each input within its range, all of them at its end: the sum was never as bright
    bright = np.full((5, INPUTS), dim.max()) + 0.002 * truth.rng.random((5, INPUTS))
    found = predict(response, Observations(bright, truth.weights))
    assert reasons(found)["light"].rows == 5
    assert "through a fitted curve" in reasons(found)["light"].words
    for times in (1.5, 2, 3):
        found = predict(response, Observations(times * dim, truth.weights))
        fresh = read(times * dim, np.random.default_rng(98))
        assert ((fresh >= found.low95) & (fresh <= found.high95)).mean() > 0.93
        assert found.outside > 300


def test_black_and_white_rows_do_not_tell_a_curve_between():
    truth = Truth(7)
    response = truth.fitted((truth.dense(ROWS, seed=11) > 0.5).astype(float))
    gray = truth.dense()
    found = predict(response, Observations(gray, truth.weights))
    assert reasons(found)["curve"].rows > 200
    for power in (1.0, 1.5):  # the fit could not tell a panel with a gamma from one without
        fresh = 60 + truth.light(gray**power)
        assert ((fresh >= found.low95) & (fresh <= found.high95)).mean() > 0.9
    assert truth.predicted(response, (truth.dense() > 0.5).astype(float))[0].outside == 0


def test_an_input_shown_a_third_of_its_range_may_be_bent_beyond_as_the_others_are():
    truth = Truth(10)
    bends = np.array([0.3, -0.3, 0.15, 0, 0.3, 0, -0.15, 0.3])

    def read(inputs, rng):
        light = truth.light(inputs + bends * inputs**2)
        return 60 + light + rng.normal(0, 1, light.shape)

    inputs, fresh = truth.dense(400, seed=17), truth.dense()
    inputs[:, 2] *= 0.3
    response = fit_response(Observations(inputs, truth.weights, read(inputs, truth.rng))).response
    assert response.bend.powers
    found = predict(response, Observations(fresh, truth.weights))
    readings = read(fresh, np.random.default_rng(97))
    named = found.outside_reason > 0
    inside = (readings >= found.low95) & (readings <= found.high95)
    assert named.sum() > 100
    assert reasons(found)["input"].inputs == (2,)
    assert inside[named].mean() > 0.93
    assert inside[~named].mean() > 0.9


def test_a_ramp_of_brightness_determines_what_it_showed():
    truth = Truth(8)
    ramp = truth.dense(240, seed=12) * np.linspace(0.02, 1, 240)[:, None]
    found, inside = truth.predicted(truth.fitted(ramp), truth.dense())
    assert found.outside == 0
    assert inside > 0.93


def test_many_rows_hide_no_direction_that_none_of_them_showed():
    truth = Truth(9)
    many = truth.dense(3000, seed=13)  # so many that the parameters' variance is taken as a mean
    many[:, 1] = many[:, 0]
    response = truth.fitted(many)
    assert response.mean_variance is not None
    found, inside = truth.predicted(response, truth.dense())
    assert reasons(found)["combination"].inputs[:2] in ((0, 1), (1, 0))
    assert inside > 0.93


def test_fewer_rows_than_inputs_are_inside_where_the_hold_out_tested_as_much():
    rng = np.random.default_rng(14)
    weights = rng.random((6, 60))
    gain = 2000 / 60 * weights * (1 + 0.05 * rng.normal(size=60))
    inputs, fresh = rng.random((50, 60)), rng.random((200, 60))
    response = fit_response(Observations(inputs, weights, 60 + inputs @ gain.T + rng.normal(0, 2, (50, 6)))).response
    assert predict(response, Observations(fresh, weights)).outside <= 2


def test_one_detector_names_what_it_was_never_shown():
    rng = np.random.default_rng(15)
    weights, output = rng.random((4, INPUTS)), rng.integers(0, 4, 400)
    u = 250 * (1 + 0.05 * rng.normal(size=INPUTS))

    def read(inputs, of):
        return 60 + ((inputs * weights[of]) @ u) + rng.normal(0, NOISE, len(of))

    inputs = rng.random((400, INPUTS))
    inputs[:, 3] = 0
    response = fit_response(Observations(inputs, weights, read(inputs, output), output=output)).response
    fresh, of = rng.random((300, INPUTS)), rng.integers(0, 4, 300)
    found = predict(response, Observations(fresh, weights, output=of))
    readings = read(fresh, of)
    assert ((readings >= found.low95) & (readings <= found.high95)).mean() > 0.93
    assert reasons(found)["input"].inputs == (3,)
    every = predict(response, Observations(fresh, weights))  # all outputs of each row
    assert every.mean.shape == (300, 4)
    assert every.outside == found.outside
    fresh[:, 3] = 0
    assert predict(response, Observations(fresh, weights, output=of)).outside == 0


@pytest.mark.parametrize("kind", ["all alike", "of each input alike", "of each output alike"])
def test_weights_that_were_alike_do_not_tell_what_others_do(kind):
    truth = Truth(6)
    truth.weights = {
        "all alike": np.full((OUTPUTS, INPUTS), 0.5),
        "of each input alike": truth.weights[:1] * np.ones((OUTPUTS, 1)),
        "of each output alike": truth.weights[:, :1] * np.ones(INPUTS),
    }[kind]
    own = (1 + 0.1 * truth.rng.normal(size=n) for n in (OUTPUTS, INPUTS))
    truth.gain = 250 * truth.weights * np.outer(*own)
    response = truth.fitted(truth.dense(ROWS))
    with pytest.raises(OutOfDomain, match="does not tell what the bench does with other weights") as caught:
        with_weights(response, truth.rng.random((OUTPUTS, INPUTS)))
    assert "was not tested" in caught.value.seen
    with_weights(response, truth.weights)


def test_rows_that_are_all_equal_are_refused_or_predict_only_themselves():
    truth = Truth(7)
    equal = np.tile(truth.dense(1), (ROWS, 1))
    with pytest.raises(FitError, match="the inputs never change"):
        truth.fitted(equal)
    other = equal.copy()
    other[::2] *= 0.6  # one pattern at two brightnesses
    response = truth.fitted(other)
    found, inside = truth.predicted(response, other)
    assert found.outside == 0
    assert inside == pytest.approx(0.95, abs=0.03)
    found, inside = truth.predicted(response, truth.dense())
    assert found.outside > 290
    assert inside > 0.93


def test_other_weights_of_any_size_are_inside_in_the_directions_of_the_fit():
    rng = np.random.default_rng(16)
    weights = rng.random((4, 12))
    inputs, fresh = rng.random((300, 12)), rng.random((300, 12))

    def read(inputs, w):
        light = 1000 * inputs @ w.T
        return 60 + light * (1 + 0.002 * rng.normal(size=light.shape)) + rng.normal(size=light.shape)

    inputs[:, 1] = inputs[:, 0]
    response = fit_response(Observations(inputs, weights, read(inputs, weights))).response
    for other in (0.1 * weights, rng.random((4, 12))):
        moved = with_weights(response, other)
        found = predict(moved, Observations(fresh, other))
        assert found.outside > 100
        assert set(reasons(found)["combination"].inputs) >= {0, 1}
        alike = np.concatenate([fresh[:, :1], fresh[:, :1], fresh[:, 2:]], axis=1)
        assert predict(moved, Observations(alike, other)).outside == 0


@pytest.mark.parametrize("name", ["speckle", "quantised", "one detector"])
def test_ordinary_benches_have_nothing_outside_and_intervals_as_before(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from foreign_benches import BENCHES

    case = BENCHES[name](np.random.default_rng([0, list(BENCHES).index(name)]))
    train, test = (Observations(s.inputs, case.weights, s.readings, output=s.output) for s in (case.train, case.test))
    response = fit_response(train).response
    found, before = predict(response, test), predict(replace(response, shown=None), test)
    assert found.outside == 0
    assert before.outside is None
    assert 0.93 < np.nanmean(found.coverage95) < 0.97
    assert np.quantile(found.sd / before.sd, 0.99) == pytest.approx(1, abs=0.01)


def test_a_sum_of_inputs_that_is_always_one_hides_nothing_of_them():
    """One input lit at a time: their sum is constant but for rounding, which is no direction of its own."""
    for seed in (132, 134, 148, 203, 208):
        truth = Truth(seed)
        lit = np.eye(INPUTS)[truth.rng.integers(0, INPUTS, 100)]
        observations = Observations(lit, truth.weights, truth.readings(lit))
        refuse_unrelated(observations, survey(observations))
