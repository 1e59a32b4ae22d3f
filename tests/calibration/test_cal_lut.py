"""Gray levels and transmissions against brute force and closed forms."""

import numpy as np
import pytest
from cal_bench import bench, display_curve, slm_curve

from calibration.bench.lut_fit import fit_lut, fit_luts, stray_light
from calibration.errors import BadScan, FitError
from calibration.frames.probes import display_ramp, slm_ramp
from calibration.frames.scan import Readings
from calibration.machine.lut import Lut


def stepped():
    """A panel with plateaus, a dead start and uneven steps."""
    rng = np.random.default_rng(5)
    rise = rng.exponential(1.0, 255) * (rng.random(255) < 0.7)
    rise[:20] = 0
    curve = np.concatenate([[0], np.cumsum(rise)])
    return 0.01 + 0.99 * curve / curve[-1]


@pytest.mark.parametrize("curve", [display_curve(), slm_curve(), stepped(), np.array([0.02, 0.5, 1.0])])
def test_encode_picks_the_nearest_available_transmission(curve):
    lut = Lut(curve, np.zeros_like(curve))
    operand = np.concatenate([np.random.default_rng(6).random(2000), [0.0, 1.0]])
    levels = lut.encode(operand)
    assert levels.dtype == np.uint8
    target = curve[0] + (1 - curve[0]) * operand
    nearest = np.abs(curve - target[:, None]).min(axis=1)
    assert np.abs(curve[levels] - target) == pytest.approx(nearest, abs=1e-15)  # a tie may round either way


def test_encode_keeps_shape_and_shows_the_nearest_end_outside():
    lut = Lut(display_curve(), np.zeros(256))
    assert lut.encode(np.array([[-0.5, 0.0], [1.0, 7.0]])).tolist() == [[0, 0], [255, 255]]


def test_realise_is_the_measured_transmission_floor_included():
    lut = Lut(slm_curve(1 / 80), np.zeros(256))
    levels = np.array([[0, 7], [128, 255]], np.uint8)
    assert np.array_equal(lut.realise(levels), slm_curve(1 / 80)[[[0, 7], [128, 255]]])
    assert lut.floor == pytest.approx(1 / 80)
    assert lut.extinction_ratio == pytest.approx(80)


@pytest.mark.parametrize(
    "transmission", [[0.0, 0.5, 0.4, 1.0], [0.0, np.nan, 1.0], [[0.0, 1.0]], [0.0, 0.2, 0.3, 0.4, 1.0]]
)
def test_a_lut_that_is_no_rising_curve_is_refused(transmission):
    t = np.array(transmission)
    with pytest.raises(FitError):
        Lut(t, np.zeros(t.shape if t.size == 4 else 3))


def test_a_noisy_ramp_becomes_monotone_and_far_better_than_its_points():
    rng = np.random.default_rng(7)
    truth = 5000 * display_curve()
    variance = 400 + 0.3 * truth
    light = truth + np.sqrt(variance) * rng.standard_normal(256)
    assert (np.diff(light) < 0).sum() > 20, "the ramp must be noisy enough to need the constraint"
    lut = fit_lut(light + 300, variance, 300.0, "slm")
    assert (np.diff(lut.transmission) >= 0).all()
    scatter = (light - truth).std() / truth[-1]
    assert (lut.transmission - truth / truth[-1]).std() < 0.35 * scatter  # a smooth curve of about ten parameters


def test_a_step_in_a_quiet_ramp_stays_a_step():
    truth = np.arange(256.0) + np.where(np.arange(256) >= 100, 60.0, 0.0)
    noise = np.random.default_rng(3).standard_normal(256)
    lut = fit_lut(10 * truth + noise, np.ones(256), 0.0, "slm")
    assert lut.transmission == pytest.approx(truth / truth[-1], abs=5 / 3150)


def test_errors_of_a_fitted_lut_are_as_large_as_stated():
    """Of 400 ramps the rms z of one level has a standard error of 1/√800 = 3.5 %; levels share their last frame."""
    rng = np.random.default_rng(8)
    truth = 2e6 * slm_curve()
    variance = 1e4 + 0.3 * truth
    levels = np.array([40, 90, 140, 190])  # steps there are many standard errors: the constraint rests
    z = []
    for _ in range(400):
        lut = fit_lut(truth + np.sqrt(variance) * rng.standard_normal(256), variance, 0.0, "slm")
        z.append((lut.transmission - slm_curve())[levels] / lut.stderr[levels])
    assert np.sqrt(np.mean(np.square(z), axis=0)) == pytest.approx(np.ones(4), abs=4.5 * 0.035)
    assert lut.stderr[-1] == 0


def ramps(truth, rng=None):
    return tuple(truth.read_scan(ramp(truth.shape, 8), rng) for ramp in (display_ramp, slm_ramp))


def test_both_curves_floors_and_the_stray_light_are_recovered_from_ramps():
    truth = bench((6, 8), offset=np.full(6, 500.0))
    fit = fit_luts(*ramps(truth))
    assert fit.display.transmission == pytest.approx(truth.display, abs=1e-11)
    assert fit.slm.transmission == pytest.approx(truth.slm, abs=1e-11)
    assert fit.stray_dn == pytest.approx(3000, rel=1e-9)


def test_floors_are_recovered_from_noisy_ramps_within_their_errors():
    truth = bench((24, 32), offset=np.full(24, 1000.0))
    z = []
    for seed in range(40):
        fit = fit_luts(*ramps(truth, np.random.default_rng(seed)))
        z.append([(fit.display.floor - 1 / 150) / fit.display.stderr[0], (fit.slm.floor - 1 / 200) / fit.slm.stderr[0]])
    # the noise is that of 8 to 16 repeats, so z is Student's: 1.15 for 8, and 80 of them have a standard error of 8 %
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.4
    assert abs(np.mean(z)) < 0.6


@pytest.mark.parametrize(("df", "ts", "stray"), [(0.01, 0.02, 120.0), (0.3, 0.0, 0.0), (0.0, 0.0, 7.0)])
def test_stray_light_follows_from_the_four_corners(df, ts, stray):
    corner = stray + 900 * np.outer([df, 1], [ts, 1])
    assert stray_light(corner) == pytest.approx(stray, abs=1e-9)


def test_panels_that_do_not_multiply_have_no_stray_light():
    with pytest.raises(BadScan):
        stray_light(np.array([[10.0, 20.0], [30.0, 40.0]]))


@pytest.mark.parametrize("seed", range(20))
def test_a_ramp_without_light_is_a_bad_scan(seed):
    rng = np.random.default_rng(seed)
    scans = (ramp((6, 8), 8) for ramp in (display_ramp, slm_ramp))
    with pytest.raises(BadScan):
        fit_luts(*(Readings(s, 100 + 12 * rng.standard_normal((len(s), 6)), np.zeros(len(s))) for s in scans))


def test_a_panel_that_does_not_follow_is_named():
    with pytest.raises(BadScan, match="slm") as caught:
        fit_lut(np.full(256, 1000.0), np.full(256, 4.0), 0.0, "slm")
    assert caught.value.device == "slm"
