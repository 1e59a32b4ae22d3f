"""Noise against scipy's distributions and closed forms. Seeds are fixed; p > 1e-4 is the level of each test."""

import numpy as np
import pytest
from scipy import stats

from mock_hardware import noise
from mock_hardware.config import CameraConfig
from mock_hardware.sensor import Sensor

N = 400_000


def draw(mean, count=N, seed=1):
    rng = noise.generator(seed)
    w, _ = noise.normal_pair((count,), rng)
    return noise.poisson(np.broadcast_to(np.float32(mean), (count,)).copy(), w, rng)


@pytest.mark.parametrize("mean", [0.01, 0.3, 1.0, 5.03, 9.99, 15.97, 16.0, 17.3, 40.0, 250.0, 900.0])
def test_counts_are_poisson(mean):
    counts = draw(mean).astype(int)
    k = np.arange(counts.max() + 2)
    expected = N * stats.poisson.pmf(k, np.float32(mean))
    seen = np.bincount(counts, minlength=k.size)
    kept = expected >= 10
    seen = [*seen[kept], N - seen[kept].sum()]
    expected = [*expected[kept], N - expected[kept].sum()]
    assert stats.chisquare(seen, expected).pvalue > 1e-4


@pytest.mark.parametrize("mean", [0.05, 2.0, 12.7, 16.0, 25.0, 250.0])
def test_mean_and_variance_of_counts_equal_their_mean(mean):
    counts = draw(mean, seed=2).astype(float)
    assert counts.mean() == pytest.approx(mean, abs=4.5 * np.sqrt(mean / N))
    fourth = mean + 3 * mean**2  # fourth central moment
    assert counts.var() == pytest.approx(mean, abs=4.5 * np.sqrt((fourth - mean**2) / N))


def test_counts_of_mixed_means_stay_with_their_pixels():
    mean = np.tile(np.array([0.0, 3.0, 100.0], np.float32), N // 3)
    rng = noise.generator(3)
    counts = noise.poisson(mean, noise.normal_pair(mean.shape, rng)[0], rng)
    assert not counts[::3].any()
    assert counts[1::3].mean() == pytest.approx(3, abs=0.025)
    assert counts[2::3].mean() == pytest.approx(100, abs=0.15)


def test_counts_are_whole_and_never_negative():
    counts = draw(16.0, count=4_000_000)
    assert counts.min() >= 0
    assert np.array_equal(counts, np.rint(counts))


def test_normal_pair_is_normal_and_independent():
    first, second = noise.normal_pair((N,), noise.generator(4))
    assert stats.kstest(first, "norm").pvalue > 1e-4
    assert stats.kstest(second, "norm").pvalue > 1e-4
    assert stats.kstest((first + second) / np.sqrt(2), "norm").pvalue > 1e-4
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4.5 / np.sqrt(N)


def expose(config, electrons, shape=(800, 1000), sequence=0):
    sensor = Sensor(config, seed=7, threads=2)
    return sensor.expose(np.ones(shape, np.float32), electrons, 0.0, sequence).astype(float)


@pytest.mark.parametrize("black_level_dn", [100.0, 100.25, 100.5])
def test_dark_frame_is_black_level_read_noise_and_quantisation(black_level_dn):
    config = CameraConfig(gain_dn_per_e=0.5, read_noise_e=2.0, black_level_dn=black_level_dn)
    frame = expose(config, 0.0)
    variance = (0.5 * 2.0) ** 2 + 1 / 12  # Sheppard; its error is exp(−2π²) at 1 DN rms
    assert frame.mean() == pytest.approx(black_level_dn, abs=4.5 * np.sqrt(variance / frame.size))
    assert frame.var() == pytest.approx(variance, rel=4.5 * np.sqrt(2 / frame.size))


@pytest.mark.parametrize("electrons", [0.8, 6.0, 50.0, 250.0])
def test_photon_transfer_has_gain_k(electrons):
    config = CameraConfig()
    frame = expose(config, electrons)
    k = config.gain_dn_per_e
    variance = k**2 * (electrons + config.read_noise_e**2) + 1 / 12
    assert frame.mean() == pytest.approx(
        config.black_level_dn + k * electrons, abs=4.5 * np.sqrt(variance / frame.size)
    )
    assert frame.var() == pytest.approx(variance, rel=0.01)


def test_converter_saturates_at_full_scale():
    frame = expose(CameraConfig(full_well_e=1e5), 3000.0, (64, 64))
    assert np.all(frame == 4095)


def test_full_well_saturates_before_the_converter():
    frame = expose(CameraConfig(full_well_e=500, read_noise_e=0), 3000.0, (64, 64))
    assert np.all(frame == 100 + 4 * 500)
