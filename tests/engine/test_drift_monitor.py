"""A power meter beside the frames, through the whole pipeline: it corrects the drift that it sees, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.analysis import analysis_of
from labctl.nodes.evidence import load_evidence
from labctl.nodes.validation import VALIDATION_NODE, validation_of
from mock_hardware.config import DriftConfig
from mock_hardware.drift import Drift as SourceDrift

WALK = 0.012
MONITORS = """
[devices.meter]
role = "monitor"
backend = "mock.monitor"
options = {power_noise_rel = 0.0003}
[devices.thermometer]
role = "monitor"
backend = "mock.monitor"
options = {quantity = "temperature"}
"""
DRIFTING = (
    "--set", "mock.slm.levels=256", "--set", "mock.display.levels=256",
    "--set", f"mock.drift.power_walk_per_sqrt_s={WALK}",
    "--set", "acquisition.reference_spacing_frames=100",
    "--set", "acquisition.monitor_spacing_s=0.2",
    "--set", "limits.probe_chi2_per_dof_max=100.0",
    "--set", "limits.chi2_per_dof_max=20.0",
    "--set", "limits.coverage95_min=0.3",
    "--set", "limits.gain_jump_max=1.0",
)  # fmt: skip
"""Ten times what a source may do, and a reference frame only every five seconds: much is left for a meter to see."""


def measure(station: Path, products: Path, runs: Path, monitor: str) -> RunReader:
    asked = () if not monitor else ("--set", f"acquisition.drift_monitor={monitor}")
    main(["measure", str(products), "--bench", str(station), "--runs", str(runs), "--quiet", *DRIFTING, *asked])
    return RunReader(find_run(runs, "latest"))


@pytest.fixture(scope="module")
def monitored(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("monitored") / "monitored.toml"
    path.write_text(small_file.read_text() + MONITORS)
    return path


@pytest.fixture(scope="module")
def metered(monitored: Path, products, tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    return measure(monitored, products[0], tmp_path_factory.mktemp("metered") / "runs", "meter")


@pytest.fixture(scope="module")
def unmetered(monitored: Path, products, tmp_path_factory: pytest.TempPathFactory) -> RunReader:
    return measure(monitored, products[0], tmp_path_factory.mktemp("unmetered") / "runs", "")


def test_meter_that_sees_the_source_corrects_the_drift(metered: RunReader) -> None:
    choice = metered.summary().structure["drift_monitor"]
    assert choice.chosen == "with meter"
    assert "the monitor meter explains the drift: applied" in choice.reason
    assert choice.p_value < 0.001
    again = refit(Lab(Console(quiet=True)), metered.path)
    assert again.summary.structure["drift_monitor"] == choice
    found = again.walk.results[VALIDATION_NODE]
    analysis, evidence = analysis_of(again.walk.results), load_evidence(metered)
    limits = metered.station().station.limits
    without = validation_of(analysis.machine, analysis.geometry, again.workload.groups, evidence, limits, [])
    assert without.drift.track.beside is None
    assert found.validation.nrmse < 1.02 * without.validation.nrmse  # it is the noise's, for the most part
    source = SourceDrift(DriftConfig(power_walk_per_sqrt_s=WALK), 1)
    at_s = np.concatenate([readings.at_s for _, readings in again.walk.evidence.tiles])
    true = np.array([source.power(t) for t in at_s])
    missed = [np.std(d.track.at(at_s)[0][:, 0] - true / true.mean()) for d in (found.drift, without.drift)]
    assert missed[0] < 0.5 * missed[1], missed
    page = (metered.path / "report.html").read_text(encoding="utf-8")
    assert "explains the drift" in page


def test_readings_lie_beside_the_frames(metered: RunReader) -> None:
    evidence = load_evidence(metered)
    for name, usual in (("meter", 1e-3), ("thermometer", 20.0)):
        monitor = evidence.monitor(name)
        assert len(monitor.value) > 100
        assert (np.diff(monitor.at_s) >= 0).all()
        assert monitor.value == pytest.approx(np.median(monitor.value), rel=0.5)
        assert np.median(monitor.value) > 0.1 * usual
    frames = np.concatenate([scan.at_s for scan in evidence.scans.values()])
    assert monitor.at_s.min() < frames.min()
    assert monitor.at_s.max() > frames.max()
    assert evidence.monitor("") is None
    assert len(evidence.monitor("another").value) == 0


def test_without_the_key_nothing_is_said_and_a_monitor_of_nonsense_changes_nothing(
    monitored: Path, products, unmetered: RunReader, tmp_path: Path
) -> None:
    assert "drift_monitor" not in unmetered.summary().structure
    absurd = measure(monitored, products[0], tmp_path / "runs", "thermometer")
    choice = absurd.summary().structure["drift_monitor"]
    assert choice.chosen == "reference frames alone"
    assert "thermometer is not applied to the drift" in choice.reason
    for segment, expected in zip(absurd.segments(), unmetered.segments(), strict=True):
        for name, array in expected.arrays.items():
            if not name.startswith("monitor_"):
                np.testing.assert_array_equal(segment.arrays[name], array, err_msg=name)
    figures, usual = ([(m.name, m.value) for m in run.summary().metrics] for run in (absurd, unmetered))
    assert figures == usual
    found, arrays = (
        load_file(Path(run.summary().calibration.path).with_suffix(".safetensors")) for run in (absurd, unmetered)
    )
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
