"""Are products on a bench that drifts as good as its noise allows, and is the error that is left predicted?

The 48-channel preset, whose source walks by 0.1 % per √s and flickers by 0.2 %, once for each seed: calibrated, real
Transformer products measured, validated with and without the correction in one run. The noise floor is what read, shot
and intensity noise give, as the mock bench's own truth has them. The tracker is compared with a smoother that is told
the walk's rate.

    python benchmarks/bench_drift.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from calibration.frames.schedule import ProductResult, assemble
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from calibration.statistics.drift import track
from calibration.statistics.random_walk import CourseObservations, Posterior
from labctl.__main__ import main as labctl
from labctl.archive import RunReader, find_run
from labctl.engine.analyst import Here
from labctl.engine.ledger import Ledger
from labctl.engine.walk import Walk
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import Evidence, load_evidence
from labctl.nodes.node import Setting
from labctl.nodes.registration import Geometry
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.validation import validation_of
from labctl.station.loading import find_station, load_station
from labctl.workload import WORKLOAD, read_workload
from mock_hardware import MockBench, parse
from mock_hardware.effective import effective

PRESET = "channels-48"
SEEDS = (1, 2, 3, 4, 5)
PER_LAYER = 24

Figure = dict[str, Any]


def figures(quick: bool) -> list[Figure]:
    """All figures; ``quick`` takes one seed."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_one_seed(seed, Path(folder)) for seed in SEEDS[: 1 if quick else None]]
    return [*_products(runs), *_tracker(20 if quick else 100), *_speed()]


def _products(runs: list[dict[str, float]]) -> list[Figure]:
    mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    ratio, chi2, coverage, share = (mean[name] for name in ("ratio", "chi2", "coverage", "share"))
    return [
        _figure("products: rms / noise floor", ratio, "1", "≤ 1.15", ratio <= 1.15),
        _figure("products: rms / noise floor, worst seed", max(r["ratio"] for r in runs), "1"),
        _figure("products: rms / noise floor, uncorrected", mean["ratio_uncorrected"], "1"),
        _figure("products: chi2 per dof", chi2, "1", "0.97 … 1.03", 0.97 <= chi2 <= 1.03),
        _figure("products: chi2 per dof, noise as it truly is", mean["chi2_true_noise"], "1"),
        _figure("products: chi2 per dof, uncorrected", mean["chi2_uncorrected"], "1"),
        _figure("products: coverage of the 95 % interval", coverage, "1", "0.93 … 0.97", 0.93 <= coverage <= 0.97),
        _figure("products: coverage, uncorrected", mean["coverage_uncorrected"], "1"),
        _figure("gain drift over a run", mean["gain_drift"], "1"),
        _figure("reference frames", share, "1", "≤ 0.03", share <= 0.03),
    ]


def _one_seed(seed: int, folder: Path) -> dict[str, float]:
    """One run of the preset, analysed with and without its reference frames among the products."""
    products, runs = folder / "products.h5", folder / f"runs{seed}"
    with contextlib.redirect_stdout(io.StringIO()):
        if not products.exists():
            labctl(["sample", "--per-layer", str(PER_LAYER), "-o", str(products), "--quiet"])
        command = ["measure", str(products), "--bench", PRESET, "--runs", str(runs), "--quiet"]
        labctl([*command, "--set", f"mock.seed={seed}"])
    run = RunReader(find_run(runs, "latest"))
    station, evidence = run.station().station, load_evidence(run)
    groups = read_workload(run.path / WORKLOAD).groups
    setting = Setting.on(station)
    walk = Walk(setting, Ledger(), analyst=Here(setting, evidence))
    walk.go(with_parents([MACHINE]))
    analysis = analysis_of(walk.results)
    machine, geometry = analysis.machine, analysis.geometry
    references = sum(len(readings) for parts in evidence.references.values() for readings in parts)
    frames = sum(map(len, evidence.scans.values())) + sum(len(readings) for _, readings in evidence.tiles)
    with_drift = validation_of(machine, geometry, groups, evidence, station.limits, [])
    evidence.references.clear()
    without = validation_of(machine, geometry, groups, evidence, station.limits, [])
    true = _true_noise(machine, seed)
    floor = _rms([assemble(true, group, g, _parts(evidence, geometry, g)) for g, group in enumerate(groups)])
    drift = with_drift.drift
    assert drift is not None
    parts = {g: [(t, drift.steady(r)) for t, r in _parts(evidence, geometry, g)] for g in range(len(groups))}
    z = np.concatenate([assemble(true, group, g, parts[g]).z for g, group in enumerate(groups)])
    return {
        "ratio": with_drift.validation.nrmse / floor,
        "ratio_uncorrected": without.validation.nrmse / floor,
        "chi2": with_drift.validation.chi2_per_dof,
        "chi2_true_noise": float(np.mean(z**2)),
        "chi2_uncorrected": without.validation.chi2_per_dof,
        "coverage": with_drift.validation.coverage95,
        "coverage_uncorrected": without.validation.coverage95,
        "gain_drift": float(np.ptp(drift.track.value[:, 0])),
        "share": references / (references + frames),
    }


def _parts(evidence: Evidence, geometry: Geometry, group: int) -> list[Any]:
    return [(tile, readings.minus(geometry.dark_dn)) for tile, readings in evidence.tiles if tile.group == group]


def _true_noise(machine: Machine, seed: int) -> Machine:
    """The machine with the noise that the mock bench says it has."""
    station = load_station(find_station(PRESET), [f"mock.seed={seed}"]).station
    truth = effective(MockBench(parse(station.mock)), station.layout.model_dump())
    noise = Noise(truth["read_dn"], truth["shot_dn"], truth["intensity_noise"], np.zeros(3))
    return dataclasses.replace(machine, channel=dataclasses.replace(machine.channel, noise=noise))


def _rms(results: list[ProductResult]) -> float:
    """What the predicted variance gives for the normalised rms error."""
    return float(np.sqrt(np.concatenate([(r.variance / np.ptp(r.exact) ** 2).ravel() for r in results]).mean()))


def _tracker(courses: int) -> list[Figure]:
    """Error against the smoother that knows the rate; false alarms; jumps of 8 standard deviations."""
    rng = np.random.default_rng(0)
    mine, best, alarms, found = [], [], 0, 0
    for _ in range(courses):
        at_s, information, score, theta = _course(rng, 300, 0.2)
        mine.append(track(at_s, information, score, ("gain",)).value - theta)
        best.append(Posterior(CourseObservations(at_s, information, score), np.array([0.04])).value - theta)
        at_s, information, score, _ = _course(rng, 300, 0.0)
        alarms += track(at_s, information, score, ("gain",)).model != "still"
        index = int(rng.integers(20, 280))
        score[index:] += 8.0
        found += [jump.index for jump in track(at_s, information, score, ("gain",)).jumps] == [index]
    error = float(np.std(mine) / np.std(best))
    return [
        _figure("tracker: rms / that of the optimal smoother", error, "1", "≤ 1.10", error <= 1.10),
        _figure("tracker: false alarms at rest", alarms / courses, "1", "≤ 0.01", alarms / courses <= 0.01),
        _figure("tracker: jumps of 8 sigma found in place", found / courses, "1", "≥ 0.99", found / courses >= 0.99),
    ]


def _speed() -> list[Figure]:
    out = []
    for p in (2, 5):
        rng = np.random.default_rng(p)
        at_s = np.arange(10_000.0)
        y = np.cumsum(0.1 * rng.standard_normal((10_000, p)), axis=0) + rng.standard_normal((10_000, p))
        information = np.tile(np.eye(p), (10_000, 1, 1))
        started = time.process_time()
        track(at_s, information, y, tuple(map(str, range(p))))
        took_s = time.process_time() - started
        out.append(
            _figure(f"tracker: 10000 observations of {p} coefficients, processor time", took_s, "s", "< 1", took_s < 1)
        )
    return out


def _course(rng: np.random.Generator, n: int, walk: float) -> tuple[Any, Any, Any, Any]:
    theta = np.cumsum(walk * rng.standard_normal((n, 1)), axis=0)
    return np.arange(float(n)), np.ones((n, 1, 1)), theta + rng.standard_normal((n, 1)), theta


def _figure(name: str, value: float, unit: str, goal: str = "", reached: bool | None = None) -> Figure:
    return {
        "name": name,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "goal": goal,
        "reached": None if reached is None else bool(reached),
    }


def main() -> None:
    """Print one document, or a line for each figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="one seed")
    options = parser.parse_args()
    found = figures(options.quick)
    if options.json:
        print(json.dumps({"name": "drift", "machine": {"system": platform.platform()}, "figures": found}))
        return
    for figure in found:
        verdict = {True: "reached", False: "MISSED", None: ""}[figure["reached"]]
        print(
            f"{figure['name']:<66}{figure['value']:>10.4g} {figure['unit']:<3}{figure['goal']:>14}  {verdict}".rstrip()
        )


if __name__ == "__main__":
    main()
