"""Unchanged benches calibrated twice: no family may be called changed more often than its p-value says."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench
from scipy import stats

from calibration.bench.dark import fit_dark
from calibration.bench.lut_fit import fit_luts
from calibration.fit.channel import fit_channel
from calibration.fit.noise import fit_noise
from calibration.frames.probes import (
    ProbePlan,
    crosstalk_scan,
    display_ramp,
    gain_scan,
    holdout_scan,
    noise_scan,
    slm_ramp,
)
from calibration.machine.artefact import Calibration, Domain
from calibration.machine.channel import Channel
from calibration.machine.findings import DarkLevel, Findings
from calibration.machine.registration import Registration
from calibration.statistics.difference import combined_p_value, differences

SHAPE = (8, 11)
PLAN = ProbePlan()
FEW, MANY = 8, 24
"""Pairs of nights of each bench."""
MEASURED = ("gain", "offset", "crosstalk", "bleed", "read noise", "system gain", "flicker")


def calibrated(truth, rng) -> Calibration:
    """Scans with noise of their own, fitted; the findings as an export writes them."""
    scans = {"gain": gain_scan(SHAPE, PLAN), "crosstalk": crosstalk_scan(SHAPE, PLAN), "noise": noise_scan(SHAPE, PLAN)}
    readings = {name: truth.read_scan(scan, rng) for name, scan in scans.items()}
    holdout = truth.read_scan(holdout_scan(SHAPE, PLAN, np.random.default_rng(99)), rng)
    noise = fit_noise(readings["noise"], truth.display[0]).noise
    fit = fit_channel(*truth.luts, noise, readings, holdout)
    return of(truth, fit.channel, Findings(structure=fit.structure, gain_candidates=tuple(fit.candidates)))


def of(truth, channel: Channel, findings: Findings) -> Calibration:
    machine = replace(truth.machine(), channel=channel)
    domain = Domain(0.004, *truth.shape, 0.6, 532.0)
    stored = Findings.from_json(findings.as_json())
    return Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", stored, {})


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def unchanged(request):
    """p-values by family of pairs of calibrations of one bench, for maps of few and of many free numbers."""
    p: dict[str, list[float]] = {name: [] for name in MEASURED}
    moved = []
    for number, structure in enumerate(("smooth", "full", "separable")):
        truth = bench(SHAPE, structure, flicker=0.003)
        for seed in range(request.param):
            pair = [calibrated(truth, np.random.default_rng([number, seed, night])).families() for night in (0, 1)]
            for found in differences(*pair)[0]:
                if found.name in p:
                    p[found.name].append(found.p)
                    moved.append(found.changed)
    return {name: np.array(values) for name, values in p.items()}, np.array(moved)


def test_unchanged_calibrations_are_called_changed_as_seldom_as_they_should(unchanged):
    p, changed = unchanged
    every = np.concatenate(list(p.values()))
    # one in a million that a right test has more
    assert (every < 0.001).sum() <= stats.binom.isf(1e-6, len(every), 0.001)
    # a family is tested by its entries and by its common factor
    assert changed.sum() <= stats.binom.isf(1e-6, len(changed), 0.002)


@pytest.mark.parametrize("family", MEASURED)
def test_p_values_of_each_family_are_uniform(unchanged, family):
    p = unchanged[0][family]
    assert len(p) in (3 * FEW, 3 * MANY)
    for level in (0.05, 0.5):
        low, high = (stats.binom(len(p), level).ppf(tail) for tail in (1e-5, 1 - 1e-5))
        assert low <= (p < level).sum() <= high


def test_a_gain_map_that_has_moved_is_called_changed():
    truth = bench(SHAPE, "smooth", flicker=0.003)
    tilt = 1 + 0.06 * np.linspace(-1, 1, SHAPE[1])
    night, next_night = (
        calibrated(replace(truth, gain=gain), np.random.default_rng(seed)).families()
        for seed, gain in ((5, truth.gain), (6, truth.gain * tilt))
    )
    assert "gain" in [found.name for found in differences(night, next_night)[0] if found.changed]


POINTS_PX = np.stack(np.meshgrid(np.arange(9.0), np.arange(7.0)), axis=-1).reshape(-1, 2) * 20


def registered(rng) -> Registration:
    """An affine map by least squares to 63 fiducials that were found within 0.05 px."""
    design = np.column_stack([POINTS_PX, np.ones(len(POINTS_PX))])
    seen = design @ np.array([[1.1, 0.1], [-0.1, 1.1], [30.0, 20.0]]) + 0.05 * rng.standard_normal(POINTS_PX.shape)
    solution = np.linalg.lstsq(design, seen, rcond=None)[0]
    panel_to_camera = np.vstack([solution.T, [0.0, 0.0, 1.0]])
    return Registration("slm", panel_to_camera, POINTS_PX, seen, seen - design @ solution, "affine", 0.5)


def test_look_up_tables_dark_level_and_geometry_of_unchanged_benches_are_the_same():
    truth = bench((6, 8), offset=np.full(6, 500.0))
    ramps = display_ramp(truth.shape, 8), slm_ramp(truth.shape, 8)
    p: dict[str, list[float]] = {}
    for seed in range(60):
        pair = []
        for night in (0, 1):
            rng = np.random.default_rng([8, seed, night])
            luts = fit_luts(*(truth.read_scan(ramp, rng) for ramp in ramps))
            dark = fit_dark((64.5 + 3 * rng.standard_normal((8, 24, 24))).astype(np.uint16), 1023)
            findings = Findings(dark=DarkLevel(dark.level_dn, dark.level_stderr_dn))
            whole = of(truth, truth.channel, findings)
            machine = replace(whole.machine, display=luts.display, slm=luts.slm)
            pair.append(replace(whole, machine=machine, registrations={"slm": registered(rng)}).families())
        for found in differences(*pair)[0]:
            p.setdefault(found.name, []).append(found.p)
    for name in ("display LUT", "SLM LUT", "dark level", "SLM geometry"):
        # variances of a ramp come from eight repeats of its corners: its p-values may be right to a factor of two
        expected = 0.1 if "LUT" in name else 0.05
        assert (np.array(p[name]) < 0.001).sum() <= stats.binom.isf(1e-6, 60, 0.001), name
        assert (np.array(p[name]) < 0.05).sum() <= stats.binom.isf(1e-5, 60, expected), name


def test_p_values_that_depend_on_each_other_combine_to_a_p_value():
    """300 entries that share ten numbers: a χ² of 300 degrees of freedom would cry wolf in a third of all pairs."""
    rng = np.random.default_rng(7)
    basis = np.linalg.qr(rng.standard_normal((300, 10)))[0] * np.geomspace(1, 10, 10)
    stderr = np.sqrt((basis**2).sum(axis=1))
    z = rng.standard_normal((2000, 10)) @ basis.T / stderr
    p = np.array([combined_p_value(2 * stats.norm.sf(np.abs(row))) for row in z])
    for level in (0.001, 0.01, 0.05):
        low, high = (stats.binom(len(p), level).ppf(tail) for tail in (1e-5, 1 - 1e-5))
        assert low <= (p < level).sum() <= high
    # one entry twelve sigmas off is not hidden by entries that are exactly equal
    assert combined_p_value(np.array([2 * stats.norm.sf(12.0)] + [1.0] * 299)) < 1e-20


OLDEST = {
    "gain": {"structure": "smooth(4)", "candidates": [{"structure": "scalar", "parameters": 1},
                                                      {"structure": "smooth(4)", "parameters": 15}]},
    "crosstalk": {"structure": "common", "p_value": 1e-9},
    "registration_rms_px": {"slm": 0.02},
    "validation": {"nrmse": 0.01},
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        {},
        OLDEST,
        {
            "structure": {
                name: {"chosen": form, "statistic": "χ²(2)", "value": 1.5, "p_value": 0.4, "runner_up": "full",
                       "reason": "no evidence"}
                for name, form in (("gain", "smooth(4)"), ("crosstalk", "common"))
            },
            "gain_candidates": [
                {"structure": "smooth(4)", "parameters": 15, "chi2_per_dof": 1.0, "aic": 0.0, "chi2": 3.0,
                 "freedom": 9, "p_value": 0.9, "heldout_chi2_per_dof": 1.0}
            ],
            "dark": {"level_dn": 64.0, "level_stderr_dn": 0.01},
            "drift": None,
        },
    ],
    ids=["empty", "oldest", "today"],
)  # fmt: skip
def test_findings_of_every_age_are_read_and_written_as_they_were(document):
    found = Findings.from_json(document)
    assert found.as_json() == document
    assert found.gain_parameters == (15 if document else None)
    assert found.crosstalk_is_common is bool(document)
