"""A bench whose source drifts, and one that is knocked, through the whole pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.machine.artefact import load
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.engine.analyst import Here
from labctl.engine.ledger import Ledger
from labctl.engine.refit import refit
from labctl.engine.walk import Walk
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import load_evidence
from labctl.nodes.node import Setting
from labctl.nodes.registry import MACHINE, with_parents
from labctl.nodes.validation import VALIDATION_NODE, validation_of
from mock_hardware.config import DriftConfig
from mock_hardware.drift import Drift as SourceDrift

WALK = 0.012
SEED = 1
EVERY_LEVEL = ("--set", "mock.slm.levels=256", "--set", "mock.display.levels=256")
"""The ramps then take most of the time in which something drifts."""
DRIFTING = (
    *EVERY_LEVEL,
    "--set", f"mock.drift.power_walk_per_sqrt_s={WALK}",
    "--set", "limits.probe_chi2_per_dof_max=100.0",
    "--set", "limits.chi2_per_dof_max=2.0",
)  # fmt: skip
"""Ten times what a source may do, so that some seconds of it are seen above the noise of a small bench."""


def measure(station: Path, products: Path, runs: Path, *more: str) -> int:
    arguments = ["measure", str(products), "--bench", str(station), "--runs", str(runs), "--quiet", *more]
    return main(arguments)


@pytest.fixture(scope="module")
def drifting(larger_file: Path, larger_products, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a source that drifts by some per cent."""
    runs = tmp_path_factory.mktemp("drifting") / "runs"
    measure(larger_file, larger_products[0], runs, *DRIFTING)
    return find_run(runs, "latest")


def test_refit_of_a_drifting_run_gives_the_identical_calibration(drifting: Path, tmp_path: Path) -> None:
    summary = RunReader(drifting).summary()
    assert summary.verdict == "ok"
    runs = drifting.parents[3]
    assert main(["export", "latest", "--runs", str(runs), "-o", str(tmp_path), "--quiet"]) == 0
    again = load(next(tmp_path.glob("*.calib.safetensors")))
    assert again.id == summary.calibration.id
    assert 0.5 * WALK < again.domain.gain_walk_per_sqrt_s < 2 * WALK
    # half way between references at most a second apart; and what noise leaves of them
    assert 0.2 * WALK < again.domain.gain_left < 2 * WALK
    assert again.domain.gain_stderr(100.0) == pytest.approx(10 * again.domain.gain_walk_per_sqrt_s)


def test_course_is_that_of_the_source(drifting: Path) -> None:
    drift = refit(Lab(Console(quiet=True)), drifting).walk.results[VALIDATION_NODE].drift
    found, lit = drift.track, np.isfinite(drift.alone)
    source = SourceDrift(DriftConfig(power_walk_per_sqrt_s=WALK), SEED)
    true = np.array([source.power(at_s) for at_s in found.at_s])[lit]
    error = found.value[lit, 0] - true / true.mean()
    assert np.ptp(true) > 0.02
    assert np.std(error) < 0.25 * np.std(true)  # what a walk of this speed does between references leaves 0.15 … 0.2
    assert found.walk_per_sqrt_s[1] == 0.0  # the offset does not drift


def test_products_are_as_good_as_without_drift_and_worse_uncorrected(drifting: Path) -> None:
    run = RunReader(drifting)
    station, evidence = run.station().station, load_evidence(run)
    again = refit(Lab(Console(quiet=True)), drifting)
    corrected, analysis = again.walk.results[VALIDATION_NODE].validation, analysis_of(again.walk.results)
    evidence.references.clear()
    uncorrected = validation_of(
        analysis.machine, analysis.geometry, again.workload.groups, evidence, station.limits, []
    )
    assert uncorrected.drift is None
    assert corrected.nrmse < 0.95 * uncorrected.validation.nrmse
    assert corrected.chi2_per_dof < 0.9 * uncorrected.validation.chi2_per_dof
    # the standard error of χ²/dof is 0.026 (3072 outputs) and 0.03 (noise model), the drift ten times what it may be
    assert corrected.chi2_per_dof == pytest.approx(1.0, abs=0.15)


def test_references_are_few_and_timed(drifting: Path) -> None:
    evidence = load_evidence(RunReader(drifting))
    references = sum(len(readings) for parts in evidence.references.values() for readings in parts)
    frames = sum(map(len, evidence.scans.values())) + sum(len(readings) for _, readings in evidence.tiles)
    assert references / (references + frames) < 0.04
    read = [*evidence.scans.values(), *(readings for _, readings in evidence.tiles)]
    assert len(read) > len(evidence.scans) >= 4  # gain, crosstalk, noise, hold-out; then the products
    for readings in read:
        assert (np.diff(readings.at_s) > 0).all()


def test_run_without_references_is_fitted_as_still(drifting: Path) -> None:
    run = RunReader(drifting)
    evidence = load_evidence(run)
    evidence.references.clear()
    told: list[str] = []
    setting = Setting.on(run.station().station, tell=told.append)
    walk = Walk(setting, Ledger(), analyst=Here(setting, evidence))
    walk.go(with_parents([MACHINE]))
    assert analysis_of(walk.results).machine.channel.gain_dn.min() > 0
    # a fit of minutes is no stall: the supervisor hears of every round
    assert any(words.startswith("gain full") and words.endswith("round 2") for words in told)
    assert any("smooth" in words for words in told)


def test_knock_is_told_from_a_drift(small_file: Path, products, tmp_path: Path) -> None:
    quiet_s = 75.0  # the probe scans take less, the products more
    knock = (*EVERY_LEVEL, "--set", f"mock.drift.knock_at_s={quiet_s}", "--set", "mock.drift.knock_y_px=1.5")
    assert measure(small_file, products[0], tmp_path / "runs", *knock) == 10
    summary = RunReader(find_run(tmp_path / "runs", "latest")).summary()
    misfit = next(m for m in summary.metrics if m.name == "reference_misfit")
    assert misfit.verdict == "out_of_spec"
    assert any("something has moved" in node.reason for node in summary.nodes)
