"""The noise of a channel from photon transfer captures of known noise."""

import numpy as np
import pytest
from cal_bench import bench, display_curve

from calibration.errors import FitError
from calibration.fit.noise import Residuals, fit_noise, fit_residuals
from calibration.frames.probes import ProbePlan, noise_scan
from calibration.frames.scan import Readings, Scan

CAPTURES = 100
PLAN = ProbePlan(noise_repeats=16)
TRUTH = bench((24, 16), read=20.0, shot=0.5, flicker=0.006)
WANTED = np.array([20.0, 0.5, 0.006])


def fits(truth, count, first=0):
    scan = noise_scan(truth.shape, PLAN)
    rngs = (np.random.default_rng(first + i) for i in range(count))
    found = [fit_noise(truth.read_scan(scan, rng), truth.display[0]).noise for rng in rngs]
    values = np.array([[n.read_dn, n.shot_dn, n.flicker] for n in found])
    return values, np.array([n.stderr for n in found])


@pytest.fixture(scope="module")
def captured():
    return fits(TRUTH, CAPTURES)


def test_estimates_are_unbiased(captured):
    values, stderr = captured
    bias = (values.mean(0) - WANTED) / (stderr.mean(0) / np.sqrt(CAPTURES))
    assert np.abs(bias).max() < 4


def test_errors_are_as_large_as_stated(captured):
    """Of 100 captures an rms z has a standard error of 1/√200 = 7 %, a coverage of 95 % one of 2.2 %."""
    values, stderr = captured
    z = (values - WANTED) / stderr
    assert (np.abs(np.sqrt((z**2).mean(0)) - 1) < 0.15).all()
    assert ((np.abs(z) < 1.96).mean(0) > 0.95 - 3 * 0.022).all()


def test_errors_reach_the_cramer_rao_bound(captured):
    """Own Fisher information ½ tr(C⁻¹ ∂C C⁻¹ ∂C) with dense matrices, for 15 contrasts at each of eight levels."""
    information = np.zeros((3, 3))
    for level in (0, 32, 64, 96, 128, 160, 200, 255):
        mu = TRUTH.light(np.full((24, 16), 255), np.full(16, level))
        c = np.diag(400 + 0.5 * mu) + 0.006**2 * np.outer(mu, mu)
        parts = [np.linalg.solve(c, d) for d in (np.eye(24), np.diag(mu), np.outer(mu, mu))]
        information += 0.5 * 15 * np.array([[np.trace(a @ b) for b in parts] for a in parts])
    bound = np.sqrt(np.diag(np.linalg.inv(information))) / np.array([2 * 20.0, 1, 2 * 0.006])
    values, stderr = captured
    assert stderr.mean(0) == pytest.approx(bound, rel=0.03)
    assert values.std(0) == pytest.approx(bound, rel=0.3)  # 100 captures: 7 % standard error, 4 of them


def test_a_source_without_flicker_is_found_to_have_none():
    quiet = bench((24, 16), read=20.0, shot=0.5, flicker=0.0)
    values, stderr = fits(quiet, 20, 500)
    assert np.isfinite(values).all()
    assert np.isfinite(stderr).all()
    assert not values[:, 2].any()
    # what it could still be: the shot noise of a bright frame's light, 24 × 16 kDN, is √(0.5 / 384e3) = 1.1e-3 of it
    assert (stderr[:, 2] < 1.1e-3).all()
    z = (values - [20.0, 0.5, 0])[:, :2] / stderr[:, :2]
    assert np.sqrt((z**2).mean()) == pytest.approx(1, abs=4.5 / np.sqrt(80))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"read": 0.0, "shot": 0.5}, "shot"),
        ({"read": 20.0, "shot": 0.5}, "read + shot"),
        ({"read": 20.0, "shot": 1e-5}, "read"),
        ({"read": 0.0, "shot": 0.5, "flicker": 0.006}, "shot + intensity"),
        ({"read": 20.0, "shot": 0.5, "flicker": 0.006}, "read + shot + intensity"),
    ],
)
def test_parts_that_are_there_are_found_and_no_others(parts, expected):
    truth = bench((24, 16), **parts)
    for seed in range(10):
        readings = truth.read_scan(noise_scan(truth.shape, PLAN), np.random.default_rng(seed))
        fit = fit_noise(readings, truth.display[0])
        assert fit.choice.chosen == expected
        found = (fit.noise.read_dn, fit.noise.shot_dn, fit.noise.flicker)
        assert [value > 0 for value in found] == [name in expected for name in ("read", "shot", "intensity")]
        assert (fit.noise.stderr > 0).all()


def test_flicker_is_not_mistaken_for_shot_noise():
    values, stderr = fits(bench((24, 16), read=20.0, shot=0.5, flicker=0.03), 10, 900)
    assert np.abs(values[:, 1].mean() - 0.5) < 4 * stderr[:, 1].mean() / np.sqrt(10)


@pytest.mark.parametrize("read", [0.0, 83.0])
def test_dark_frames_of_a_display_without_floor_do_not_bend_the_shot_noise(read):
    """The light of a bright frame is 10⁷ DN, so that even a ten-thousandth of it scatters by more than reading does."""
    truth = bench((24, 16), read=read, shot=2.0, display=display_curve(floor=0.0))
    truth.gain = 600 * truth.gain
    scan = noise_scan(truth.shape, PLAN)
    found = [fit_noise(truth.read_scan(scan, np.random.default_rng(seed)), 0.0) for seed in range(20)]
    assert {fit.choice.chosen for fit in found} == {"read + shot" if read else "shot"}
    values = np.array([[fit.noise.read_dn, fit.noise.shot_dn] for fit in found])
    stderr = np.array([fit.noise.stderr[:2] for fit in found])
    assert (np.abs(values - [read, 2.0]).max(axis=0) < 4 * stderr.mean(axis=0)).all()
    assert (np.abs(values.mean(axis=0) - [read, 2.0]) < 4 * stderr.mean(axis=0) / np.sqrt(len(found))).all()


def test_read_noise_of_a_single_pixel_includes_rounding():
    rng, light = np.random.default_rng(1), np.repeat([0.0, 400.0], 200)[:, None] * np.ones(24)
    ones = np.ones(len(light))
    noise = np.rint(0.5 * rng.standard_normal(light.shape) + rng.poisson(light)) - light
    found = fit_residuals([Residuals(noise, light, light, ones, ones)]).noise
    assert abs(found.read_dn - np.sqrt(0.5**2 + 1 / 12)) < 4 * found.stderr[0]
    assert found.stderr[0] < 0.01


@pytest.mark.parametrize("seed", [8, 9, 10])
def test_law_that_does_not_fit_is_tried_without_swinging_about_its_best(seed):
    """Many dim frames with read noise: of shot noise and flicker alone, whole steps never came to rest at seed 9."""
    rng, offset = np.random.default_rng(seed), 8400.0
    level = np.repeat([50.0, 200, 2400, 29000, 150e3, 250e3], [10, 60, 90, 50, 15, 15])
    light = level[:, None] * np.linspace(0.8, 1.2, 24)
    noise = np.sqrt(200.0**2 + 1.5 * light) * rng.standard_normal(light.shape)
    noise += 7e-4 * (light + offset) * rng.standard_normal((len(light), 1))
    ones = np.ones(len(light))
    fit = fit_residuals([Residuals(noise, light, light + offset, ones, ones)])
    assert fit.choice.chosen.startswith("read + shot")
    found = np.array([fit.noise.read_dn, fit.noise.shot_dn])
    assert (np.abs(found - [200.0, 1.5]) < 4.5 * fit.noise.stderr[:2]).all()


@pytest.mark.parametrize("levels", [[], [0, 255], [0, 0, 0]])
def test_too_few_repeats_are_refused(levels):
    scan = Scan(np.full((1, 24, 16), 255, np.uint8), np.zeros(len(levels), np.int64), np.zeros((len(levels), 16)))
    scan.display[:] = np.reshape(levels, (-1, 1))
    readings = Readings(scan, np.ones((len(levels), 24)), np.zeros(len(levels)))
    with pytest.raises(FitError, match="repeated"):
        fit_noise(readings, 0.01)
