"""Bad frames by index and reason; clean ones raise no alarm, also with a handful of photons."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench, products
from scipy import stats

from calibration.fit.bad_frames import deviance, find_bad_frames, score
from calibration.frames.schedule import predicted, schedule
from calibration.machine.noise import Noise

TRUTH = bench((24, 32), "smooth")


def frames(rng, count=400, flicker=0.0):
    """Readings and expectations of a workload's frames, and their channel; the source flickers by ``flicker``."""
    truth = replace(TRUTH, flicker=flicker)
    machine, group = truth.machine(), products((24, 32), count // 4, 7)
    (tile,) = schedule(machine, [group])
    mean, _ = predicted(machine, tile.scan)
    return truth.read_scan(tile.scan, rng).dn, mean, machine.channel


def bad(dn, mean, channel, saturated=False):
    """Index and reason of every bad frame."""
    found = find_bad_frames(dn, mean, channel.offset_dn, channel.noise, np.broadcast_to(saturated, len(dn)))
    return [(frame.index, frame.reason) for frame in found]


def indices(residual, light, noise):
    """Of the bad frames among readings ``light + residual`` without an offset."""
    m = residual.shape[1]
    light = np.broadcast_to(light, residual.shape)
    none = np.zeros(len(residual), bool)
    return [frame.index for frame in find_bad_frames(light + residual, light, np.zeros(m), noise, none)]


def quiet(flicker=0.0):
    """Unit noise."""
    return Noise(1.0, 0.0, flicker, np.zeros(3))


@pytest.mark.parametrize("flicker", [0.0, 0.05])
def test_clean_frames_raise_no_alarm(flicker):
    assert bad(*frames(np.random.default_rng(1), 4000, flicker)) == []


@pytest.mark.parametrize("photons", [0.1, 1.0, 5.0, 1000.0])
def test_clean_frames_with_few_photons_raise_no_alarm(photons):
    """A normal χ² would: five photons where 0.1 are expected are 15 standard deviations, and come every day."""
    rng = np.random.default_rng(2)
    light = photons * rng.random((5000, 32))
    dn = rng.poisson(light) + 0.1 * rng.standard_normal(light.shape)
    assert find_bad_frames(dn, light, np.zeros(32), Noise(0.1, 1.0, 0.0, np.zeros(3)), np.zeros(5000, bool)) == []


@pytest.mark.parametrize(("mu", "read"), [(1.0, 0.3), (5.0, 0.5), (50.0, 1.0), (3.0, 40.0)])
def test_score_has_the_tail_of_a_normal_variable(mu, read):
    """Against the exact tail of counts with read noise, at the reading that three standard deviations stand for."""
    n = np.arange(0, 400)
    weight = stats.poisson.pmf(n, mu)
    x = np.linspace(mu, mu + 9 * np.sqrt(mu + read**2), 2000)
    exact = np.array([(weight * stats.norm.sf(value, n, read)).sum() for value in x])
    found = stats.norm.sf(score(x[:, None], np.full((2000, 1), mu), Noise(read, 1.0, 0.0, np.zeros(3)))[:, 0])
    at = np.argmin(np.abs(exact - stats.norm.sf(3)))
    assert found[at] == pytest.approx(exact[at], rel=0.55)  # Daniels: the error of the tail falls as 1/√µ


def test_swapped_stale_duplicated_and_saturated_frames_are_found_by_index_and_name():
    dn, mean, channel = frames(np.random.default_rng(2))
    dn[[50, 51]] = dn[[51, 50]]
    dn[120] = dn[119]
    dn[300] = dn[10]
    again = TRUTH.read * np.random.default_rng(3).standard_normal(24)
    dn[200] = mean[199] + again
    saturated = np.zeros(len(dn), bool)
    saturated[222] = True
    assert bad(dn, mean, channel, saturated) == [
        (50, "swapped"), (51, "swapped"), (120, "stale"), (200, "stale"), (222, "saturated"), (300, "duplicated"),
    ]  # fmt: skip


def test_frames_without_light_flickering_torn_and_random_ones_are_named():
    rng = np.random.default_rng(4)
    dn, mean, channel = frames(rng, flicker=0.002)
    dn[30] = channel.offset_dn + TRUTH.read * rng.standard_normal(24)
    dn[60] = channel.offset_dn + 1.1 * (dn[60] - channel.offset_dn)
    dn[90, 15:] = dn[89, 15:]
    dn[130, 3] += 1500
    dn[160] = rng.uniform(0, dn.max(), 24)
    found = find_bad_frames(dn, mean, channel.offset_dn, replace(channel.noise, flicker=0.002), np.zeros(len(dn), bool))
    assert [(frame.index, frame.reason) for frame in found] == [
        (30, "blank"), (60, "flickering"), (90, "partial"), (130, "partial"), (160, "garbage"),
    ]  # fmt: skip
    assert "the frame before" in found[2].evidence
    assert "outputs 3–3" in found[3].evidence


def test_a_factor_beyond_the_source_is_flickering_and_slow_drift_is_not():
    """χ² over 24 outputs does not see six standard deviations of one pattern; a test of its own does."""
    rng = np.random.default_rng(5)
    light, noise = np.full((629, 24), 1e6), Noise(1000.0, 0.0, 0.001, np.zeros(3))
    drift = 1 + 0.004 * np.sin(np.arange(629) / 100)[:, None]  # four standard deviations of the source
    dn = light * drift * (1 + 0.001 * rng.standard_normal((629, 1))) + 1000 * rng.standard_normal(light.shape)
    dn[314] = 1.0065e6 + 1000 * rng.standard_normal(24)
    found = find_bad_frames(dn, light, np.zeros(24), noise, np.zeros(629, bool))
    assert [(frame.index, frame.reason) for frame in found] == [(314, "flickering")]
    assert found[0].chi2_per_dof < stats.chi2.isf(1e-7, 24) / 24


@pytest.mark.parametrize(("factor", "found"), [(1.001, [7]), (0.999, [])])
def test_the_alarm_is_set_off_once_in_ten_million_frames(factor, found):
    residual = np.zeros((20, 24))
    residual[7] = np.sqrt(factor * stats.chi2.isf(1e-7, 24) / 24) * (-1.0) ** np.arange(24)
    assert indices(residual, 0.0, quiet()) == found


def test_the_chi_squared_is_that_of_the_full_covariance():
    """rᵀ C⁻¹ r where the counts are many, so that the deviance is quadratic."""
    rng = np.random.default_rng(4)
    light, noise = rng.uniform(0, 900, (30, 24)), Noise(30.0, 1e-4, 0.03, np.zeros(3))
    residual = 30 * rng.standard_normal((30, 24)) + 0.03 * rng.standard_normal((30, 1)) * light
    found = deviance(light + residual, light, np.zeros(24), noise)
    for r, s, chi2, log_det in zip(residual, light, found.chi2, found.log_det, strict=True):
        covariance = np.diag(900.0 + 1e-4 * s) + 0.03**2 * np.outer(s, s)
        assert chi2 == pytest.approx(r @ np.linalg.solve(covariance, r), rel=1e-3)
        assert log_det == pytest.approx(np.linalg.slogdet(covariance)[1], rel=1e-9)


def test_flicker_of_the_source_is_not_a_bad_frame_and_does_not_hide_one():
    """A common factor is what the source does; the same size of error with alternating sign is not."""
    residual = np.zeros((40, 24))
    residual[3] = 3 * 0.05 * 1000  # three standard deviations of the source, 150 of the outputs
    residual[9] = 8 * (-1.0) ** np.arange(24)
    assert indices(residual, 1000.0, quiet(0.05)) == [9]


def test_a_misfit_of_all_frames_is_not_a_bad_frame():
    rng = np.random.default_rng(3)
    dn = 2 * rng.standard_normal((2000, 24))  # twice the noise that was predicted, everywhere
    dn[77] += 15 * (-1.0) ** np.arange(24)
    assert indices(dn, 0.0, quiet()) == [77]


@pytest.mark.parametrize("read", [0.0, 1e-200, 1e-9])
def test_a_law_without_read_noise_scores_readings_at_and_below_zero(read):
    signal = np.array([[-50.0, -1.0, 0.0, 0.0, 3.0, 1e6]])
    light = np.array([[2.0, 0.0, 2.0, 0.0, 0.0, 1e6]])
    with np.errstate(all="raise", under="ignore"):
        found = score(signal, light, Noise(read, 1.0, 0.0, np.zeros(3)))[0]
    assert np.isfinite(found).all()
    assert found[0] < -38  # what such a law calls impossible is alarming
    assert found[1] < -38
    assert found[2] == pytest.approx(-2.0, abs=0.05)  # √(2 s): no photon of s = 2
    assert found[3] == 0
    assert found[4] > 38
    assert found[5] == pytest.approx(0, abs=1e-6)


def test_light_where_none_was_asked_for_is_no_share_of_what_was():
    """Most outputs of a frame are to be dark, and all are bright: what they read overflowed as a share of nothing."""
    rng = np.random.default_rng(9)
    light = np.tile(np.where(np.arange(32) < 20, 0.0, 1e6), (50, 1))
    dn = light + rng.standard_normal(light.shape)
    dn[30] = rng.uniform(1e5, 1e7, 32)
    (found,) = find_bad_frames(dn, light, np.zeros(32), quiet(), np.zeros(50, bool))
    assert (found.index, found.reason) == (30, "garbage")
