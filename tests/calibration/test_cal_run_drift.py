"""The drift of a run from its reference frames, on a bench whose course is known."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench

from calibration.bench.lut_fit import fit_luts
from calibration.fit.run_drift import RunDrift, drift_of_probes, drift_of_run, steady
from calibration.frames.probes import ProbePlan, display_ramp, gain_scan, holdout_scan, noise_scan, slm_ramp
from calibration.frames.references import References
from calibration.frames.scan import EIGHT_BIT

SHAPE = (12, 16)
PERIOD_S = 0.1
EPOCH, PRODUCTS = ("noise", "gain"), "products"
TRUTH = bench(SHAPE, "smooth", flicker=0.001, offset=np.full(SHAPE[0], 400.0))
DARK_DN = np.full(SHAPE[0], 35.0)


def run(power, seed=0):
    """Raw references and scans by name; the light at time t is ``power(t)`` times that of the calibration."""
    rng = np.random.default_rng(seed)
    plan = ProbePlan()
    asked = {"noise": noise_scan(SHAPE, plan), "gain": gain_scan(SHAPE, plan)}
    asked[PRODUCTS] = holdout_scan(SHAPE, replace(plan, holdout_frames=400), rng)
    return shown(asked, power, rng, References(8))


def shown(asked, power, rng, references):
    """As `run`, for these scans."""
    seen, scans, start = {}, {}, 0
    for name, scan in asked.items():
        whole, mask = references.into(scan, around=True)
        at_s = (start + np.arange(len(whole))) * PERIOD_S
        start += len(whole)
        light = power(at_s)[:, None]
        readings = TRUTH.read_scan(whole, rng)
        readings = replace(readings, dn=light * readings.dn + DARK_DN, at_s=at_s)
        seen[name], scans[name] = [readings.where(mask)], readings.where(~mask)
    return seen, scans


def test_few_references_change_by_chance_as_often_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misfits of references in which nothing has moved: χ² per output."""
    monkeypatch.setattr("calibration.fit.run_drift.BY_CHANCE", 0.05)
    rng = np.random.default_rng(3)
    for count, outputs in ((3, 16), (12, 16), (45, 48)):
        found = [
            RunDrift(None, np.empty(0), rng.chisquare(outputs, count) / outputs, outputs)  # type: ignore[arg-type]
            for _ in range(2000)
        ]
        share = np.mean([drift.change_of_misfit > drift.change_by_chance for drift in found])
        assert 0.01 < share < 0.06  # a median of few is worth more than 2/π of its values


def drift_of(references, names=(*EPOCH, PRODUCTS)):
    return drift_of_run(references, TRUTH.machine(), DARK_DN, names, EPOCH)


def walking(at_s):
    return 1 + 0.02 * np.sin(at_s / 12.0)


def test_course_is_that_of_the_source_and_zero_over_the_epoch():
    references, _ = run(walking)
    drift = drift_of(references)
    at_s = np.concatenate([readings.at_s for name in EPOCH for readings in references[name]])
    true = walking(drift.track.at_s) / walking(at_s).mean() - 1
    left = drift.track.value[:, 0] - true
    # one flickering reference knows the light to 0.1 %; the smoother's own error says how well the course is known
    assert np.sqrt(np.mean(left**2)) < 2 * np.sqrt(drift.track.covariance[:, 0, 0].mean())
    assert np.ptp(true) > 0.03
    assert drift.gain_left < 0.002
    assert drift.change_of_misfit < 1.5


def test_steadied_readings_are_those_of_a_source_at_rest():
    references, scans = run(walking, seed=1)
    drift = drift_of(references)
    products = scans[PRODUCTS].minus(DARK_DN)
    steady = drift.steady(products)
    at_rest = TRUTH.read_scan(products.scan).dn
    epoch = walking(np.concatenate([r.at_s for name in EPOCH for r in references[name]])).mean()
    before, after = (np.abs(r.dn.mean(axis=1) / at_rest.mean(axis=1) / epoch - 1).mean() for r in (products, steady))
    assert after < before / 4
    assert steady.drift_covariance is not None


def test_a_stray_reference_is_no_drift():
    references, _ = run(np.ones_like)
    spoiled = replace(references["gain"][0], dn=references["gain"][0].dn.copy())
    spoiled.dn[2] = DARK_DN
    drift = drift_of({**references, "gain": [spoiled]})
    assert drift.track.model == "still"
    assert np.isnan(drift.alone).any()


def test_an_image_that_moves_shows_in_the_misfit_and_not_only_as_a_gain():
    references, _ = run(np.ones_like)
    late = references[PRODUCTS][0]
    tilt = np.linspace(0.9, 1.1, SHAPE[0])
    moved = replace(late, dn=np.where((np.arange(len(late)) > len(late) // 3)[:, None], late.dn * tilt, late.dn))
    assert drift_of({**references, PRODUCTS: [moved]}).change_of_misfit > 3


def test_probes_alone_tell_the_course_without_a_model():
    references, scans = run(walking, seed=2)
    track = drift_of_probes(references, scans, EPOCH, DARK_DN, ("noise",), EIGHT_BIT)
    true = walking(track.at_s)
    assert track.names == ("gain", "offset")
    assert track.value[:, 0] == pytest.approx(true / true.mean() - 1, abs=0.006)  # six standard errors of a reference


def look_up_table_z(walk_per_sqrt_s, seed):
    """Errors of five levels of both panels over those stated, from ramps under a source that walks."""
    rng, names = np.random.default_rng(seed), ("slm_ramp", "display_ramp")
    course = 1 + walk_per_sqrt_s * np.sqrt(PERIOD_S) * rng.standard_normal(1000).cumsum()
    asked = dict(zip(names, (slm_ramp(SHAPE, 16), display_ramp(SHAPE, 16)), strict=True))
    references, scans = shown(asked, lambda at_s: course[np.rint(at_s / PERIOD_S).astype(int)], rng, References(16))
    track = drift_of_probes(references, scans, names, DARK_DN, names, EIGHT_BIT)
    luts = fit_luts(*(steady(track, scans[name].minus(DARK_DN)) for name in reversed(names)))
    at = [60, 100, 140, 180, 220]
    pairs = ((luts.display, TRUTH.display), (luts.slm, TRUTH.slm))
    return [(lut.transmission[at] - curve[at]) / lut.stderr[at] for lut, curve in pairs]


@pytest.mark.parametrize("walk_per_sqrt_s", [0.001, 0.0])
def test_look_up_tables_know_what_the_drift_has_left_in_their_ramps(walk_per_sqrt_s):
    """They said half of it where the light walked, and whole benches of bright light were then out of spec."""
    z = np.array([look_up_table_z(walk_per_sqrt_s, seed) for seed in range(16)])
    # levels of one ramp share a walk: 32 ramps tell an rms to 1/√64 = 13 %
    assert 0.6 < np.sqrt((z**2).mean()) < 1.5


def test_few_references_tell_nothing():
    references, scans = run(np.ones_like)
    one = {"gain": [references["gain"][0].where(np.arange(len(references["gain"][0])) < 2)]}
    assert drift_of(one) is None
    assert drift_of({}) is None
    assert drift_of_probes({}, scans, EPOCH, DARK_DN, ("noise",), EIGHT_BIT) is None
