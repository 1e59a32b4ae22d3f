"""Two calibrations before the same readings, and parameter by parameter."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench, products

from calibration.frames.schedule import schedule
from calibration.judge.comparison import compare
from calibration.statistics.difference import Family, differences

TRUTH = bench((24, 32), "smooth", flicker=0.002)


def held_out(count=60, seed=3):
    machine = TRUTH.machine()
    (tile,) = schedule(machine, [products((24, 32), count, 7)])
    return machine, [TRUTH.read_scan(tile.scan, np.random.default_rng(seed))], [tile.product]


def off(machine, factor):
    return replace(machine, channel=replace(machine.channel, gain_dn=machine.channel.gain_dn * factor))


def test_the_truth_predicts_better_than_a_calibration_that_is_off():
    machine, scans, owners = held_out()
    rng = np.random.default_rng(1)
    found = compare(machine, off(machine, 1 + 0.02 * rng.standard_normal((24, 32))), scans, owners)
    assert found.pairs == 60
    # 240 frames of 24 outputs: the standard error of χ² per reading is √(2 / 5760) = 0.019
    assert found.new == pytest.approx(1, abs=0.06)
    assert found.before > 1.1
    assert found.difference > 5 * found.stderr > 0
    # both have one noise model: the difference of the log likelihoods is that of the χ²
    assert found.difference == pytest.approx(found.before - found.new, rel=0.05)
    back = compare(off(machine, 1.0), machine, scans, owners)
    assert (back.difference, back.stderr) == (0, 0)


def test_a_noise_model_that_is_too_large_has_the_better_chi_squared_and_loses():
    machine, scans, owners = held_out()
    noisy = replace(machine.channel.noise, read_dn=5 * TRUTH.read, shot_dn=3 * TRUTH.shot)
    found = compare(replace(machine, channel=replace(machine.channel, noise=noisy)), machine, scans, owners)
    assert found.new < found.before
    assert found.difference < -5 * found.stderr


def test_frames_left_out_do_not_count():
    machine, scans, owners = held_out()
    spoiled = replace(scans[0], dn=scans[0].dn.copy())
    spoiled.dn[5] += 1e6
    without = owners[0].copy()
    without[5] = -1
    found = compare(machine, machine, [spoiled], [without])
    assert found.new == pytest.approx(1, abs=0.06)


def test_error_of_the_difference_is_its_scatter_over_repeated_nights():
    machine, *_ = held_out()
    other = off(machine, 1 + 0.01 * np.random.default_rng(2).standard_normal((24, 32)))
    nights = [compare(machine, other, *held_out(seed=seed)[1:]) for seed in range(24)]
    scatter = np.std([night.difference for night in nights], ddof=1)
    # the stated error also holds the choice of products, which is the same here: it is the larger one
    # by no more than three, and the scatter over 24 nights is known to 1/√46 = 15 %
    assert 0.7 < np.mean([night.stderr for night in nights]) / scatter < 3


def family(values, stderr, free=None, **more):
    values = np.asarray(values, float)
    return Family("gain", "DN", values, np.broadcast_to(float(stderr), values.shape), free or values.size, **more)


def test_equal_benches_have_uniform_p_values():
    rng = np.random.default_rng(4)
    p = []
    for _ in range(300):
        a, b = (family(100 + rng.standard_normal(50), 1.0) for _ in range(2))
        p.append(differences([a], [b])[0][0].p)
    assert np.mean(p) == pytest.approx(0.5, abs=3 / np.sqrt(12 * 300))
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / 300))


def test_many_entries_of_few_free_numbers_are_not_many_tests():
    """A map with four free numbers and 400 entries: its χ² scatters like that of four."""
    rng = np.random.default_rng(5)
    basis = np.linalg.qr(rng.standard_normal((400, 4)))[0]
    stderr = np.sqrt((basis**2).sum(axis=1))
    p = []
    for _ in range(300):
        a, b = (Family("gain", "DN", 10 + basis @ rng.standard_normal(4), stderr, 4) for _ in range(2))
        p.append(differences([a], [b])[0][0].p)
    # leverages that are not quite even make the effective number a little less than four
    assert np.mean(np.array(p) < 0.01) < 0.04


def test_a_common_factor_is_found_with_its_error():
    rng = np.random.default_rng(6)
    a = family(1000 + 10 * rng.standard_normal(1000), 10.0, scaled=True, common_stderr=1e-4)
    b = replace(a, values=a.values * 0.99 + 10 * rng.standard_normal(1000))
    (found,), left = differences([a], [b])
    assert left == []
    assert found.factor == pytest.approx(-0.01, abs=4 * found.factor_stderr)
    assert found.factor_stderr == pytest.approx(np.hypot(10 * np.sqrt(2 / 1000) / 1000, 1e-4 * np.sqrt(2)), rel=0.01)
    assert found.changed
    assert found.words.endswith("%: changed")


def test_an_error_that_all_entries_share_is_one_error():
    """Entries that are known to 1, of a bench whose source is 1 % off at either time."""
    rng = np.random.default_rng(7)
    values, p, found = np.full(30, 1000.0), [], []
    for _ in range(300):
        a, b = (
            family(values * (1 + 0.01 * rng.standard_normal()) + rng.standard_normal(30), 1.0, common_stderr=0.01)
            for _ in range(2)
        )
        p.append(differences([a], [b])[0][0].p)
        other = replace(b, values=b.values + 12 * (np.arange(30) == 3))
        found.append(differences([a], [other])[0][0].changed)
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=3 * np.sqrt(0.09 / 300))
    assert np.mean(found) > 0.8  # an entry that is 8.5 standard errors off, of thirty: χ² of 102 where 60 is the bar


def test_families_of_one_side_only_are_named():
    other = replace(family([1.0], 1.0), name="offset")
    found, left = differences([family([1.0, 2.0], 1.0), other], [family([1.0], 1.0)])
    assert found == []
    assert left == ["gain: shape (2,) in the first, (1,) in the second", "offset: only in the first"]
