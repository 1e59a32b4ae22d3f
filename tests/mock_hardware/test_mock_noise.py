"""Noise against scipy's distributions and closed forms. Seeds are fixed; p > 1e-4 is the level of each test."""

import numpy as np
import pytest
from scipy import stats

from drivers.protocols import Roi
from groundwork.compiled import kernel
from groundwork.random_numbers import normal_pair, threefry
from groundwork.threads import Threads
from mock_hardware.config import CameraConfig
from mock_hardware.sensor import Sensor

SHAPE = 500, 800
N = SHAPE[0] * SHAPE[1]
COUNTER = CameraConfig(  # DN are electrons
    rows=SHAPE[0],
    cols=SHAPE[1],
    bit_depth=16,
    gain_dn_per_e=1.0,
    read_noise_e=0.0,
    full_well_e=1e6,
    black_level_dn=0.0,
    dark_current_e_per_s=0.0,
)


@kernel
def words(first, last, out):
    for i in range(first, last):
        c0, c1, k0, k1 = out[i, 0], out[i, 1], out[i, 2], out[i, 3]
        out[i, 0], out[i, 1] = threefry(k0, k1, c0, c1)


@kernel
def pairs(first, last, random, out):
    for i in range(first, last):
        out[i, 0], out[i, 1] = normal_pair(random[i, 0], random[i, 1])


def frame(config, electrons, sequence=0, seed=7, threads=2):
    sensor = Sensor(config, seed, Threads(threads))
    light = np.broadcast_to(np.float32(1), (config.rows, config.cols)).copy()
    rows = np.broadcast_to(electrons, config.rows)
    return sensor.expose(light, rows, 0.0, 0.010, Roi(0, 0, config.cols, config.rows), sequence)


def counts(mean, sequence=0, **kwargs):
    return frame(COUNTER, mean, sequence, **kwargs).astype(int).ravel()


def test_random_words_are_those_of_the_published_generator():
    """Known answers of Random123 for Threefry-2x32 with 13 rounds (D. E. Shaw Research, file kat_vectors)."""
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    out = np.array([[0] * 4, [0xFFFFFFFF] * 4, pi], np.uint32)
    words(0, 3, out)
    assert [f"{a:08x} {b:08x}" for a, b in out[:, :2]] == [
        "9d1c5ec6 8bd50731",
        "fd36d048 2d17272c",
        "ba3e4725 f27d669e",
    ]


@pytest.mark.parametrize("mean", [0.1, 0.3, 1.0, 5.03, 9.99, 15.97, 16.0, 17.3, 40.0, 250.0, 900.0, 1e4, 6e4])
def test_counts_are_poisson(mean):
    seen = counts(mean)
    edges = np.unique(stats.poisson.ppf(np.linspace(0, 1, 101)[1:-1], np.float32(mean)))
    cells = np.diff(np.r_[0.0, stats.poisson.cdf(edges, np.float32(mean)), 1.0])
    kept = np.searchsorted(edges, seen, side="left")
    expected = N * cells
    cell = np.bincount(kept, minlength=cells.size)
    assert stats.chisquare(cell[expected > 0], expected[expected > 0]).pvalue > 1e-4


def test_counts_of_a_hundred_thousand_electrons_are_poisson():
    """Above the 16 bits of the converter: read with a gain of 1/2, in cells of two counts."""
    config = CameraConfig(**{**vars(COUNTER), "gain_dn_per_e": 0.5, "black_level_dn": 0.25})
    seen = frame(config, 1e5).astype(int).ravel()
    edges = np.unique(np.floor(stats.norm.ppf(np.linspace(0, 1, 51)[1:-1], 5e4, np.sqrt(1e5) / 2)))
    cells = np.diff(np.r_[0.0, stats.poisson.cdf(2 * edges + 0, 1e5), 1.0])
    cell = np.bincount(np.searchsorted(edges, seen, side="left"), minlength=cells.size)
    assert stats.chisquare(cell, N * cells).pvalue > 1e-4


@pytest.mark.parametrize("mean", [0.05, 2.0, 12.7, 16.0, 25.0, 250.0])
def test_mean_and_variance_of_counts_equal_their_mean(mean):
    seen = counts(mean, sequence=2).astype(float)
    assert seen.mean() == pytest.approx(mean, abs=4.5 * np.sqrt(mean / N))
    fourth = mean + 3 * mean**2  # fourth central moment
    assert seen.var() == pytest.approx(mean, abs=4.5 * np.sqrt((fourth - mean**2) / N))


def test_counts_of_mixed_means_stay_with_their_pixels():
    rows = np.tile(np.array([0.0, 3.0, 100.0, 0.0]), SHAPE[0] // 4)
    seen = frame(COUNTER, rows)
    assert not seen[::4].any()
    assert seen[1::4].mean() == pytest.approx(3, abs=4.5 * np.sqrt(3 / (N / 4)))
    assert seen[2::4].mean() == pytest.approx(100, abs=4.5 * np.sqrt(100 / (N / 4)))


@pytest.mark.parametrize("mean", [2.0, 200.0])
def test_frames_pixels_and_seeds_are_independent(mean):
    first, second, other = counts(mean, 0), counts(mean, 1), counts(mean, 0, seed=8)
    limit = 4.5 / np.sqrt(N)
    for a, b in ((first, second), (first, other), (first[1:], first[:-1]), (first[:-800], first[800:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < limit
        assert abs(np.corrcoef((a - mean) ** 2, (b - mean) ** 2)[0, 1]) < 2 * limit


def test_normal_pair_is_normal_and_independent():
    random = np.random.default_rng(4).integers(0, 2**32, (N, 2), dtype=np.uint32)
    out = np.empty((N, 2), np.float32)
    pairs(0, N, random, out)
    first, second = out.T
    for sample in (first, second, (first + second) / np.sqrt(2)):
        assert stats.kstest(sample, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4.5 / np.sqrt(N)
    angle, radius = (
        2 * np.pi * random[:, 1].view(np.int32) / 2.0**32,
        np.sqrt(-2 * np.log((random[:, 0] + 0.5) / 2.0**32)),
    )
    np.testing.assert_allclose(first, radius * np.cos(angle), rtol=0, atol=2e-5)
    np.testing.assert_allclose(second, radius * np.sin(angle), rtol=0, atol=2e-5)


@pytest.mark.parametrize("electrons", [3.0, 300.0])
def test_frame_is_the_same_whatever_the_threads_and_the_region(electrons):
    config = CameraConfig(
        rows=200, cols=300, prnu=0.01, dsnu_e=1.0, row_noise_e=1.0, hot_fraction=0.01, hot_e_per_s=1e4
    )
    one, three = (frame(config, electrons, threads=threads) for threads in (1, 3))
    assert np.array_equal(one, three)
    roi = Roi(37, 71, 113, 60)
    part = Sensor(config, 7, Threads(2)).expose(
        np.ones(roi.shape, np.float32), np.full(roi.height, electrons), 0.0, 0.010, roi, 0
    )
    assert np.array_equal(part, one[71:131, 37:150])


@pytest.mark.parametrize("black_level_dn", [100.0, 100.25, 100.5])
def test_dark_frame_is_black_level_read_noise_and_quantisation(black_level_dn):
    config = CameraConfig(gain_dn_per_e=0.5, read_noise_e=2.0, black_level_dn=black_level_dn, dark_current_e_per_s=0.0)
    dark = frame(config, 0.0).astype(float)
    variance = (0.5 * 2.0) ** 2 + 1 / 12  # Sheppard; its error is exp(−2π²) at 1 DN rms
    assert dark.mean() == pytest.approx(black_level_dn, abs=4.5 * np.sqrt(variance / dark.size))
    assert dark.var() == pytest.approx(variance, rel=4.5 * np.sqrt(2 / dark.size))


@pytest.mark.parametrize("electrons", [0.8, 6.0, 50.0, 250.0])
def test_photon_transfer_has_gain_k(electrons):
    config = CameraConfig(dark_current_e_per_s=0.0)
    seen = frame(config, electrons).astype(float)
    k = config.gain_dn_per_e
    variance = k**2 * (electrons + config.read_noise_e**2) + 1 / 12
    assert seen.mean() == pytest.approx(config.black_level_dn + k * electrons, abs=4.5 * np.sqrt(variance / seen.size))
    assert seen.var() == pytest.approx(variance, rel=0.01)


def test_converter_saturates_at_full_scale():
    assert np.all(frame(CameraConfig(full_well_e=1e5, rows=64, cols=64), 3000.0) == 4095)


def test_full_well_saturates_before_the_converter():
    assert np.all(frame(CameraConfig(full_well_e=500, read_noise_e=0, rows=64, cols=64), 3000.0) == 100 + 4 * 500)


def test_dark_current_doubles_with_temperature():
    config = {"dark_current_e_per_s": 5000.0, "doubling_c": 7.0, "rows": 300, "cols": 300}
    means = [frame(CameraConfig(temperature_c=t, **config), 0.0).mean() - 100 for t in (20.0, 27.0, 34.0)]
    assert means == pytest.approx([200, 400, 800], rel=0.01)


def test_row_noise_is_one_offset_per_row_new_in_each_frame():
    config = CameraConfig(row_noise_e=3.0, read_noise_e=1.0, dark_current_e_per_s=0.0)
    first, second = (frame(config, 0.0, sequence).astype(float).mean(axis=1) - 100 for sequence in (0, 1))
    assert first.std() == pytest.approx(12.0, rel=4.5 / np.sqrt(2 * 1100))
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(1100)


def test_hot_pixels_stay_where_they_are():
    config = CameraConfig(hot_fraction=1e-3, hot_e_per_s=2e4, rows=400, cols=500, full_well_e=1e4, gain_dn_per_e=0.4)
    frames = np.stack([frame(config, 0.0, sequence) for sequence in range(4)]).astype(float)
    hot = frames.min(axis=0) > 100 + 0.4 * 50
    assert hot.mean() == pytest.approx(1e-3 * np.exp(-50 / 200), rel=0.3)


def test_nonlinearity_takes_its_part_at_full_well():
    config = CameraConfig(nonlinearity=0.05, full_well_e=900, rows=100, cols=100, black_level_dn=0.0, read_noise_e=0.0)
    assert frame(config, 5e4).max() == pytest.approx(4 * 900 * 0.95, abs=1)
    assert frame(config, 90.0).mean() == pytest.approx(4 * 90, abs=4.5 * 4 * np.sqrt(90 / 1e4))
