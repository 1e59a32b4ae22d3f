"""Gain maps from multiplexed patterns, and the structure that held-out frames ask for."""

import numpy as np
import pytest
from cal_bench import Bench, bench

from calibration.channel_fit import fit_channel
from calibration.errors import BadScan, FitError
from calibration.gain_fit import FullGain, fit_full_gain, gain_structures, likeliest
from calibration.probes import ProbePlan, crosstalk_scan, gain_scan, holdout_scan
from calibration.scan import Readings

SHAPE = (24, 32)
PLAN = ProbePlan(gain_repeats=2, offset_repeats=32, crosstalk_repeats=6, holdout_frames=64)


def captured(truth, rng, plan=PLAN):
    scans = (gain_scan(SHAPE, plan), crosstalk_scan(SHAPE, plan), holdout_scan(SHAPE, plan, np.random.default_rng(99)))
    return [truth.read_scan(scan, rng) for scan in scans]


def fit(truth, rng, plan=PLAN):
    return fit_channel(*truth.luts, truth.noise, *captured(truth, rng, plan))


def full_fit(truth, rng):
    scan = gain_scan(SHAPE, PLAN)
    light = truth.read_scan(scan).dn - truth.offset
    dn = truth.read_scan(scan, rng).dn
    return fit_full_gain(
        truth.display[scan.display], dn, truth.noise, light, truth.channel.crosstalk, np.array(truth.bleed)
    )


def test_without_noise_every_macropixel_and_offset_is_exact():
    truth = bench(SHAPE, "full")
    full, offset, _ = full_fit(truth, None)
    assert full.gain_dn == pytest.approx(truth.gain, rel=1e-9)
    assert offset == pytest.approx(truth.offset, abs=1e-6)


@pytest.mark.parametrize("intensity", [0.0, 0.004])
def test_every_macropixel_and_offset_is_recovered_within_its_error(intensity):
    """30 scans of 32 columns: 2 % for an rms z even where the flicker moves whole columns; unmixing adds up to 5 %."""
    truth = bench(SHAPE, "full", intensity=intensity)
    gain_z, white_z, offset_z, total = [], [], [], 0.0
    for seed in range(30):
        full, offset, offset_error = full_fit(truth, np.random.default_rng(seed))
        total = full.as_map().stderr_dn
        gain_z.append((full.gain_dn - truth.gain) / total)
        white_z.append(full.whiten(full.gain_dn - truth.gain))
        offset_z.append((offset - truth.offset) / offset_error)
    for z in (gain_z, white_z):
        assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.1)
        assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.025)
    assert np.abs(np.mean(gain_z, axis=0)).max() * np.sqrt(30) < 5
    along = np.mean(white_z, axis=1) * np.sqrt(24)  # what is left of the flicker: (30, 32) of variance 1
    assert np.sqrt(np.mean(along**2)) == pytest.approx(1, abs=0.15)
    assert np.sqrt(np.mean(np.square(offset_z))) == pytest.approx(1, abs=0.15 if intensity else 0.12)


def test_whitening_is_the_inverse_root_of_the_stated_covariance():
    rng = np.random.default_rng(8)
    independent, flicker, profile = 1 + rng.random(5), 3.0, 0.5 + rng.random(5)
    columns = np.array([1.0, 2.0, 0.5])
    correlation = np.array([[1, -0.3, -0.2], [-0.3, 1, -0.4], [-0.2, -0.4, 1]])
    full = FullGain(rng.random((5, 3)), np.outer(independent, columns), flicker * columns, profile, correlation)
    root = full.whiten(np.eye(15).reshape(5, 3, 15)).reshape(15, 15)
    rows = np.diag(independent**2) + flicker**2 * np.outer(profile, profile)
    covariance = np.kron(rows, correlation * np.outer(columns, columns))
    assert root.T @ root == pytest.approx(np.linalg.inv(covariance), abs=1e-9)


def test_multiplexing_beats_one_column_at_a_time():
    """N frames with half of the columns lit know a column as well as N/4 frames of it alone (Harwit & Sloane 1979)."""
    truth = bench(SHAPE, "scalar", read=300.0, shot=0.01)
    full, _, _ = full_fit(truth, np.random.default_rng(1))
    frames = PLAN.gain_repeats * 64
    assert full.stderr_dn.mean() == pytest.approx(300 / np.sqrt(frames / 4), rel=0.05)


def test_patterns_that_miss_a_column_are_refused():
    display = np.random.default_rng(2).random((20, 32))
    with pytest.raises(FitError):
        fit_full_gain(display, np.zeros((20, 24)), bench().noise, np.zeros((20, 24)), np.zeros((24, 2)), np.zeros(2))


def noisy_map(truth, rng, sigma, common=0.0):
    """A full map with errors that nearly cancel over each row, and a common one for each column."""
    k = truth.shape[1]
    profile = truth.mean(1) / truth.mean()
    correlation = np.eye(k) * (1 + 0.9 / k) - 0.9 / k
    root = np.linalg.cholesky(correlation)
    error = sigma * (rng.standard_normal(truth.shape) @ root.T)
    error = error + np.outer(profile, common * (root @ rng.standard_normal(k)))
    return FullGain(truth + error, sigma, np.full(k, float(common)), profile, correlation)


@pytest.mark.parametrize(
    ("structure", "name"),
    [("scalar", "scalar"), ("per output", "per output"), ("separable", "separable"), ("smooth", "smooth(4)")],
)
@pytest.mark.parametrize("common", [0.0, 15.0])
def test_each_structure_fits_its_own_kind_with_the_errors_stated(structure, name, common):
    """50 maps; a scalar is one number in each, so that its rms z has a standard error of 10 %."""
    truth = bench(SHAPE, structure).gain
    rng = np.random.default_rng(3)
    sigma = 20 * (1 + rng.random(SHAPE))
    z, chi2 = [], []
    for _ in range(50):
        found = next(g for g in gain_structures(noisy_map(truth, rng, sigma, common)) if g.structure == name)
        z.append((found.gain_dn - truth) / found.stderr_dn)
        chi2.append(found.chi2 / (768 - found.parameters))
    shared = name == "scalar" or (name == "per output" and common)
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.4 if shared else 0.15)
    assert np.mean(z) == pytest.approx(0, abs=0.5)
    assert np.mean(chi2) == pytest.approx(1, abs=4.5 * np.sqrt(2 / 38400))


def test_smooth_maps_are_weighted_polynomials():
    """numpy's own least squares with weights on monomials spans the same space."""
    rng = np.random.default_rng(4)
    sigma = 10 * (1 + rng.random(SHAPE))
    noisy = FullGain(bench(SHAPE, "full").gain, sigma, np.zeros(32), np.ones(24), np.eye(32))
    y, x = np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 32), indexing="ij")
    for found in gain_structures(noisy):
        if found.structure.startswith("smooth"):
            p = int(found.structure[7:-1])
            terms = [(x**i * y**j / sigma).ravel() for i in range(p + 1) for j in range(p + 1 - i)]
            solution = np.linalg.lstsq(np.stack(terms, 1), (noisy.gain_dn / sigma).ravel())[0]
            expected = (np.stack(terms, 1) @ solution).reshape(SHAPE) * sigma
            assert found.parameters == len(terms) == (p + 1) * (p + 2) // 2
            assert found.gain_dn == pytest.approx(expected, rel=1e-9)


def test_parameters_are_counted():
    maps = gain_structures(noisy_map(np.ones(SHAPE), np.random.default_rng(5), np.ones(SHAPE)))
    counted = {g.structure: g.parameters for g in maps}
    assert counted["scalar"] == 1
    assert counted["per output"] == 24
    assert counted["separable"] == 24 + 32 - 1
    assert counted["full"] == 768


def test_a_uniform_bench_is_no_evidence_for_rows_or_columns():
    """Akaike's criterion takes five parameters too many with P(χ²₅ > 10) = 7.5 %, 23 too many with 0.3 %."""
    rng = np.random.default_rng(6)
    chosen = []
    for _ in range(60):
        maps = gain_structures(noisy_map(np.full(SHAPE, 1000.0), rng, np.full(SHAPE, 15.0), 10.0))
        chosen.append(likeliest(maps).structure)
    assert chosen.count("scalar") >= 46
    assert not {"per output", "separable", "full"} & set(chosen)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("intensity", [0.0, 0.004])
@pytest.mark.parametrize("structure", ["scalar", "per output", "separable", "smooth", "full"])
def test_the_structure_of_the_bench_is_chosen(structure, intensity, seed):
    truth = bench(SHAPE, structure, seed, intensity=intensity)
    found = fit(truth, np.random.default_rng(10 + seed))
    assert found.gain_structure == ("smooth(4)" if structure == "smooth" else structure)
    best = next(c for c in found.candidates if c.structure == found.gain_structure)
    assert best.aic == 0
    assert all(c.aic >= 0 for c in found.candidates)
    assert found.crosstalk.structure == "common"
    # 9 × 18 frames of 24 readings: √(2/3888) = 2.3 %, and the noise of the gain in single macropixels
    assert found.crosstalk.chi2_per_dof == pytest.approx(1, abs=0.15)
    # 64 × 24 held-out readings: χ²/dof is known to √(2/1536) = 3.6 %; flicker and the full map's errors add to it
    assert 0.84 < best.heldout_chi2_per_dof < (1.4 if intensity or structure == "full" else 1.16)
    if best.chi2_per_dof is not None:
        assert best.chi2_per_dof == pytest.approx(1, abs=4.5 * np.sqrt(2 / 700))


def test_the_whole_channel_is_recovered_with_the_errors_stated():
    """12 benches captured and fitted; gains of one capture share their errors through the smooth map."""
    truth = bench(SHAPE, "smooth")
    gain, offset, crosstalk, bleed = [], [], [], []
    for seed in range(12):
        c = fit(truth, np.random.default_rng(50 + seed)).channel
        gain.append((c.gain_dn - truth.gain) / c.gain_stderr_dn)
        offset.append((c.offset_dn - truth.offset) / c.offset_stderr_dn)
        crosstalk.append((c.crosstalk - truth.channel.crosstalk)[5] / c.crosstalk_stderr[5])
        bleed.append((c.bleed - truth.bleed) / c.bleed_stderr)
    assert np.sqrt(np.mean(np.square(gain))) == pytest.approx(1, abs=0.25)
    assert np.sqrt(np.mean(np.square(offset))) == pytest.approx(1, abs=4.5 / np.sqrt(2 * 288))
    for z in (crosstalk, bleed):  # 24 numbers each: a standard error of 14 %
        assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.5)


def test_without_noise_the_whole_channel_is_exact():
    truth = bench(SHAPE, "smooth")
    found = fit(truth, None).channel
    assert found.gain_dn == pytest.approx(truth.gain, rel=1e-5)  # gain and crosstalk settle to 1e-6
    assert found.crosstalk == pytest.approx(truth.channel.crosstalk, abs=1e-5)
    assert found.bleed == pytest.approx(np.array(truth.bleed), abs=1e-5)
    assert found.offset_dn == pytest.approx(truth.offset, abs=1e-3)


def test_the_error_of_the_dark_signal_is_part_of_the_offsets():
    truth = bench(SHAPE, "smooth")
    readings = captured(truth, np.random.default_rng(9))
    without = fit_channel(*truth.luts, truth.noise, *readings).channel
    with_dark = fit_channel(*truth.luts, truth.noise, *readings, dark_stderr_dn=np.full(24, 7.0)).channel
    assert with_dark.offset_stderr_dn == pytest.approx(np.hypot(without.offset_stderr_dn, 7.0))


def test_a_bench_without_light_is_a_bad_scan():
    truth = bench(SHAPE, "scalar")
    dark = [
        Readings(r.scan, 12 * np.random.default_rng(6).standard_normal(r.dn.shape), r.saturated)
        for r in captured(truth, None)
    ]
    with pytest.raises(BadScan, match="no light"):
        fit_channel(*truth.luts, truth.noise, *dark)


def test_a_bench_too_small_for_polynomials_is_still_fitted():
    truth = Bench(np.full((3, 4), 900.0), np.full(3, 50.0), np.zeros((3, 2)))
    full = noisy_map(truth.gain, np.random.default_rng(7), np.ones((3, 4)))
    names = {g.structure for g in gain_structures(full)}
    assert names == {"scalar", "per output", "separable", "full"}
