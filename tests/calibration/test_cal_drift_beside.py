"""A monitor beside the reference frames, on a bench whose course is known: used where it helps, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from cal_bench import bench

from calibration.fit.run_drift import drift_of_probes, drift_of_run
from calibration.frames.probes import ProbePlan, gain_scan, holdout_scan, noise_scan
from calibration.frames.references import References
from calibration.frames.scan import EIGHT_BIT
from calibration.statistics.drift_beside import MonitorReadings

SHAPE = (12, 16)
PERIOD_S = 0.1
EPOCH, PRODUCTS = ("noise", "gain"), "products"
TRUTH = bench(SHAPE, "smooth", flicker=0.001, offset=np.full(SHAPE[0], 400.0))
DARK_DN = np.full(SHAPE[0], 35.0)
SPACING = 40
"""Frames between references: 4 s, in which the source walks by several times what a reference knows."""
WALK = 0.004
READ_S = 0.5
Float = np.ndarray


def source(seed: int, length_s: float = 400.0) -> tuple[Float, Float]:
    """A random walk of the light: times and power."""
    at_s = np.arange(0, length_s, PERIOD_S)
    steps = np.random.default_rng(seed).standard_normal(len(at_s)) * WALK * np.sqrt(PERIOD_S)
    return at_s, 1 + steps.cumsum()


def run(seed: int):
    """Raw references and scans by name under a source that walks, and its power at any time."""
    grid_s, power = source(seed)
    rng = np.random.default_rng(seed)
    plan = ProbePlan()
    asked = {"noise": noise_scan(SHAPE, plan), "gain": gain_scan(SHAPE, plan)}
    asked[PRODUCTS] = holdout_scan(SHAPE, replace(plan, holdout_frames=1200), rng)
    references, start, seen, scans = References(SPACING), 0, {}, {}
    for name, scan in asked.items():
        shown, mask = references.into(scan, around=True)
        at_s = (start + np.arange(len(shown))) * PERIOD_S
        start += len(shown)
        readings = TRUTH.read_scan(shown, rng)
        light = np.interp(at_s, grid_s, power)[:, None]
        readings = replace(readings, dn=light * readings.dn + DARK_DN, at_s=at_s)
        seen[name], scans[name] = [readings.where(mask)], readings.where(~mask)
    return seen, scans, lambda at: np.interp(at, grid_s, power)


def meter(power, end_s: float, noise: float = 3e-4, slope: float = 1.0, seed: int = 9) -> MonitorReadings:
    at_s = np.arange(0, end_s, READ_S)
    seen = 1e-3 * (1 + slope * (power(at_s) - 1))
    return MonitorReadings("meter", at_s, seen * (1 + noise * np.random.default_rng(seed).standard_normal(len(at_s))))


def drift_of(references, monitor=None):
    return drift_of_run(references, TRUTH.machine(), DARK_DN, (*EPOCH, PRODUCTS), EPOCH, monitor)


def left(drift, power, at_s) -> float:
    """rms by which the course misses the source, the mean aside [1]."""
    missed = drift.track.at(at_s)[0][:, 0] - power(at_s)
    return float(np.std(missed))


@pytest.mark.parametrize("slope", [1.0, 0.4])
def test_meter_that_sees_the_source_is_applied_and_the_course_is_better(slope):
    references, scans, power = run(1)
    at_s = np.concatenate([scan.at_s for scan in scans.values()])
    alone = drift_of(references)
    beside = drift_of(references, meter(power, at_s.max(), slope=slope))
    choice = beside.track.beside
    assert choice.chosen == "with meter"
    assert "explains the drift: applied" in choice.reason
    assert choice.p_value < 0.001
    # between two readings the source walks by 0.16 % rms, which flattens the slope on them
    assert beside.track.known.slope == pytest.approx(1 / slope, rel=0.15)
    assert left(beside, power, at_s) < 0.55 * left(alone, power, at_s)
    assert beside.track.model.endswith("beside a monitor")
    # the error that it states is the error that it has, to a factor of two, and less than that of the references alone
    assert 0.5 < left(beside, power, at_s) / beside.gain_left < 2
    assert beside.gain_left < 0.6 * alone.gain_left
    assert beside.summary()["monitor"] == choice.reason
    # the source walks as before, with or without a meter
    assert beside.track.walk_per_sqrt_s[0] == pytest.approx(WALK, rel=0.4)


def test_course_beside_a_meter_is_zero_over_the_epoch_and_steadies_what_is_read():
    references, scans, power = run(2)
    beside = drift_of(references, meter(power, 400.0))
    epoch = [readings for name in EPOCH for readings in references[name]]
    at_s = np.unique(np.concatenate([readings.at_s for readings in epoch]))
    assert beside.track.at(at_s)[0][:, 0].mean() == pytest.approx(0, abs=1e-6)
    products = scans[PRODUCTS].minus(DARK_DN)
    at_rest = TRUTH.read_scan(products.scan).dn
    drifting, steady = (np.std(r.dn.mean(axis=1) / at_rest.mean(axis=1)) for r in (products, beside.steady(products)))
    assert steady < drifting / 4


NONSENSE = {
    "noise": lambda at_s, rng: 1 + 0.01 * rng.standard_normal(len(at_s)),
    "another walk": lambda at_s, rng: 1 + (0.01 * rng.standard_normal(len(at_s))).cumsum(),
    "a ramp": lambda at_s, rng: 1 + at_s / 100 + 1e-4 * rng.standard_normal(len(at_s)),
    "a thermostat": lambda at_s, rng: 20 + np.sin(at_s / 15) + 0.01 * rng.standard_normal(len(at_s)),
    "stuck": lambda at_s, rng: np.ones(len(at_s)),
    "dark": lambda at_s, rng: 1e-9 * rng.standard_normal(len(at_s)) - 1e-9,
    "silent": lambda at_s, rng: np.full(len(at_s), np.nan),
}


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("seed", range(3))
def test_monitor_that_reads_nonsense_is_not_applied_and_changes_nothing(kind, seed):
    references, _, _ = run(seed)
    at_s = np.arange(0, 150, READ_S)
    monitor = MonitorReadings("meter", at_s, NONSENSE[kind](at_s, np.random.default_rng(seed + 100)))
    alone, beside = drift_of(references), drift_of(references, monitor)
    assert "is not applied to the drift" in beside.track.beside.reason
    assert beside.track.known is None
    assert beside.track.model == alone.track.model
    np.testing.assert_array_equal(beside.track.value, alone.track.value)
    np.testing.assert_array_equal(beside.track.covariance, alone.track.covariance)
    assert alone.track.beside is None
    assert "monitor" not in alone.summary()


def test_meter_serves_the_probes_too():
    references, scans, power = run(3)
    at_s = np.concatenate([scans[name].at_s for name in EPOCH])
    course = drift_of_probes(references, scans, EPOCH, DARK_DN, ("noise",), EIGHT_BIT, meter(power, 400.0))
    alone = drift_of_probes(references, scans, EPOCH, DARK_DN, ("noise",), EIGHT_BIT)
    assert course.beside.chosen in ("with meter", "reference frames alone")
    misses = [np.std(track.at(at_s)[0][:, 0] - power(at_s)) for track in (course, alone)]
    assert misses[0] <= misses[1]


def test_noisy_meter_is_weighed_by_its_noise():
    """Noisier than the references know the light: its own smoothing keeps it from doing harm."""
    references, scans, power = run(4)
    at_s = np.concatenate([scan.at_s for scan in scans.values()])
    alone, beside = drift_of(references), drift_of(references, meter(power, at_s.max(), noise=0.005))
    assert left(beside, power, at_s) < 1.05 * left(alone, power, at_s)
