"""The dark signal of synthetic sensors."""

import statistics

import numpy as np
import pytest

from calibration.bench.dark import fit_dark, grouped_median
from calibration.errors import BadScan


def frames(n=32, shape=(60, 80), noise=3.0, seed=1, level=100.0):
    """Dark frames with a fixed pattern of 2 DN and temporal noise, rounded to whole DN."""
    rng = np.random.default_rng(seed)
    pattern = level + 2 * rng.standard_normal(shape)
    stack = np.round(pattern + noise * rng.standard_normal((n, *shape)))
    return pattern, np.clip(stack, 0, 4095).astype(np.uint16)


def test_mean_noise_and_level_are_recovered():
    pattern, stack = frames()
    dark = fit_dark(stack, 4095)
    total = np.sqrt(9 + 1 / 12)  # rounding adds 1/12 DN²
    z = (dark.mean_dn - pattern) / (total / np.sqrt(32))
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1, abs=4.5 / np.sqrt(2 * 4800))
    assert np.abs(z).max() < 5
    assert dark.noise_dn == pytest.approx(total, rel=4.5 / np.sqrt(2 * 4800 * 31))
    assert dark.level_dn == pytest.approx(100, abs=5 * 1.25 * 2 / np.sqrt(4800))  # a median, a fixed pattern of 2 DN
    assert dark.frames == 32


def test_the_noise_is_temporal_and_not_the_fixed_pattern():
    still = np.repeat(np.random.default_rng(2).integers(90, 110, (1, 20, 20)), 8, axis=0).astype(np.uint16)
    dark = fit_dark(still, 4095)
    assert dark.noise_dn == 0
    assert np.array_equal(dark.mean_dn, still[0])


def test_the_error_of_the_level_is_as_large_as_stated():
    """200 sensors: the rms z has a standard error of 5 %."""
    z = []
    for seed in range(200):
        dark = fit_dark(frames(40, (20, 50), seed=seed)[1], 4095)
        z.append((dark.level_dn - 100) / dark.level_stderr_dn)
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=4 * 0.05)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_level_of_a_few_frames_follows_a_drift_that_is_smaller_than_their_steps(seed):
    """Means of four frames come in steps of 0.25 DN; a sensor of 0.5 DN noise has its plain median on one of them."""
    rng = np.random.default_rng(seed)
    true = 101.2 + np.arange(0, 0.3, 0.02)
    hot = rng.random((200, 300)) < 0.01
    found, errors = [], []
    for level in true:
        stack = level + 0.5 * rng.standard_normal((4, 200, 300)) + 30 * hot
        dark = fit_dark(np.rint(stack).astype(np.uint16), 4095)
        found.append(dark.level_dn)
        errors.append(dark.level_stderr_dn)
    moved = np.asarray(found) - np.polyval([1.0, np.mean(found - true)], true)
    assert np.abs(moved).max() < 5 * max(errors) + 0.003  # and what rounding by 0.5 DN noise leaves
    assert np.polyfit(true, found, 1)[0] == pytest.approx(1, abs=0.05)


def test_the_median_of_whole_numbers_is_that_of_the_standard_library():
    rng = np.random.default_rng(5)
    for size in (1, 2, 7, 100, 999):
        counts = rng.integers(400, 410, size)
        assert grouped_median(counts) == pytest.approx(statistics.median_grouped(counts.tolist(), 1), abs=1e-9)


def test_hot_pixels_are_counted():
    _, stack = frames(noise=3.0)
    stack = np.round(100 + 3 * np.random.default_rng(4).standard_normal(stack.shape)).astype(np.uint16)
    assert fit_dark(stack, 4095).hot_pixels == 0
    for i in range(7):
        stack[:, 5 * i, 3 * i + 1] += 20
    assert fit_dark(stack, 4095).hot_pixels == 7


def test_a_sensor_that_is_bright_with_the_light_off_is_a_bad_scan():
    with pytest.raises(BadScan, match="bright"):
        fit_dark(frames(level=2200.0)[1], 4095)
    fit_dark(frames(level=1900.0)[1], 4095)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_frames_are_a_bad_scan(n):
    with pytest.raises(BadScan, match="two frames") as caught:
        fit_dark(frames()[1][:n], 4095)
    assert caught.value.seen == str(n)
