"""Crosstalk and bleed from phase patterns, and the choice between common and per-output crosstalk."""

import numpy as np
import pytest
from cal_bench import bench, common_crosstalk

from calibration.crosstalk_fit import fit_crosstalk
from calibration.probes import ProbePlan, crosstalk_scan

SEEDS = 60
SCAN = crosstalk_scan((12, 15), ProbePlan(crosstalk_repeats=4))


def fitted(truth, rng=None):
    clean = truth.read_scan(SCAN)
    readings = truth.read_scan(SCAN, rng) if rng is not None else clean
    variance = truth.read**2 + truth.shot * (clean.dn - truth.offset)
    slm, display = truth.slm[SCAN.slm], truth.display[SCAN.display]
    return fit_crosstalk(truth.gain, truth.offset, slm, SCAN.slm_index, display, readings.dn, variance)


def edged(crosstalk):
    crosstalk = crosstalk.copy()
    crosstalk[0, 0] = crosstalk[-1, 1] = 0
    return crosstalk


COMMON = bench((12, 15), crosstalk=common_crosstalk(12, 0.02, 0.035))
ROUGH = bench((12, 15), crosstalk=np.random.default_rng(1).uniform(0.0, 0.05, (12, 2)))


def test_without_noise_all_four_numbers_are_exact():
    fit = fitted(COMMON)
    assert fit.crosstalk == pytest.approx(edged(COMMON.crosstalk), abs=1e-9)
    assert fit.bleed == pytest.approx(np.array(COMMON.bleed), abs=1e-9)


@pytest.fixture(scope="module")
def common():
    return [fitted(COMMON, np.random.default_rng(i)) for i in range(SEEDS)]


@pytest.fixture(scope="module")
def rough():
    return [fitted(ROUGH, np.random.default_rng(i)) for i in range(SEEDS)]


def test_common_crosstalk_is_recognised(common):
    """The F test works at 0.1 %: two false alarms of 60 have a probability of 0.2 %."""
    assert sum(f.structure == "common" for f in common) >= SEEDS - 1
    assert np.std([f.p_value for f in common]) == pytest.approx(1 / np.sqrt(12), abs=0.1)  # p is uniform


def test_common_values_have_the_errors_stated(common):
    """60 seeds of two numbers: the rms z has a standard error of 1/√240 = 6.5 %."""
    for name, true, at in (("bleed", COMMON.bleed, slice(None)), ("crosstalk", COMMON.crosstalk[5], 5)):
        value = np.array([getattr(f, name)[at] for f in common])
        error = np.array([getattr(f, f"{name}_stderr")[at] for f in common])
        z = (value - true) / error
        assert np.sqrt(np.mean(z**2)) == pytest.approx(1, abs=4 * 0.065)
        assert np.abs(z.mean(0)).max() < 4 / np.sqrt(SEEDS)
        assert np.abs(z).max() < 4  # 3.7 sigma is 1 in 40 of 120


def test_per_output_crosstalk_is_recognised_with_the_errors_stated(rough):
    assert all(f.structure == "per output" for f in rough)
    inner = np.ones((12, 2), bool)
    inner[0, 0] = inner[-1, 1] = False
    z = np.array([((f.crosstalk - ROUGH.crosstalk)[inner] / f.crosstalk_stderr[inner]) for f in rough])
    # 60 × 22 numbers: standard errors of 2 % for the rms and 0.6 % for the coverage
    assert np.sqrt(np.mean(z**2)) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(z) < 1.96) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("which", ["common", "rough"])
def test_the_edges_have_no_neighbour_beyond(which, request):
    for f in request.getfixturevalue(which):
        assert f.crosstalk[0, 0] == f.crosstalk[-1, 1] == 0
        assert f.crosstalk_stderr[0, 0] == f.crosstalk_stderr[-1, 1] == 0


def test_chi2_tells_when_the_noise_is_underestimated():
    """Half the σ of the truth: χ²/dof is 4 and the errors are scaled by 2; 432 × 12 readings know it to 2 %."""
    clean = COMMON.read_scan(SCAN)
    variance = (COMMON.read**2 + COMMON.shot * (clean.dn - COMMON.offset)) / 4
    dn = COMMON.read_scan(SCAN, np.random.default_rng(3)).dn
    slm, display = COMMON.slm[SCAN.slm], COMMON.display[SCAN.display]
    arguments = COMMON.gain, COMMON.offset, slm, SCAN.slm_index, display, dn
    low, right = fit_crosstalk(*arguments, variance), fit_crosstalk(*arguments, 4 * variance)
    assert low.chi2_per_dof == pytest.approx(4, rel=0.15)
    assert low.bleed_stderr == pytest.approx(right.bleed_stderr, rel=0.08)
