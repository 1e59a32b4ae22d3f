"""A run folder and its calibration as version 0.1.0 wrote them: they open, refit, compare and simulate for ever.

The archive is in ``tests/data``: a mock bench of 8 × 8 macropixels, and 32 products of which one tile is pruned.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kept import unpacked
from torch import nn

from calibration import load_calibration
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.console import Console
from labctl.engine.graph import statuses
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.validation import VALIDATION_NODE
from simulation import opticalize

CALIBRATION = "cal-398bc2872f764d19"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def kept(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


def test_it_is_intact_and_says_how_it_ended(kept: RunReader) -> None:
    assert kept.info["schema"] == "labctl.run/1"
    assert kept.verify().intact
    assert kept.status == "ok"
    assert kept.summary().calibration.id == CALIBRATION


def test_refit_finds_what_the_live_run_found(kept: RunReader) -> None:
    """Of the pruned tile both weight passes are the same picture; its frames do not say which of the two they are."""
    again = refit(Lab(Console(quiet=True)), kept.path)
    before, found = kept.summary(), again.summary
    for name in ("nrmse", "r2", "chi2_per_dof", "coverage95"):
        assert getattr(found.validation, name) == pytest.approx(getattr(before.validation, name), rel=1e-4), name
    assert found.validation.bad_frames == before.validation.bad_frames
    assert {name: choice.chosen for name, choice in found.structure.items()} == {
        name: choice.chosen for name, choice in before.structure.items()
    }
    passes = {int(tile.weight_pass.max()) for tile, _ in again.walk.evidence.tiles}
    assert passes == {1}
    pruned = [tile for tile, readings in again.walk.evidence.tiles if not readings.scan.slm[:, :6].max() > 250]
    assert len(again.walk.evidence.tiles) == 4
    assert len(pruned) == 1
    assert len(np.unique(pruned[0].scan.slm_index)) == 1  # one picture …
    assert set(pruned[0].weight_pass) == {0, 1}  # … and two passes
    assert again.walk.results[VALIDATION_NODE].discarded == before.counts.discarded


def test_fit_of_it_gives_the_numbers_of_its_calibration(kept: RunReader, runs: Path, tmp_path: Path) -> None:
    assert main(["export", "latest", "--runs", str(runs), "-o", str(tmp_path), "--quiet"]) == 0
    before = load_calibration(runs / "calibrations" / f"{CALIBRATION}.calib.h5")
    (file,) = tmp_path.glob("*.calib.h5")
    again = load_calibration(file)
    assert before.id == CALIBRATION
    # references are matched otherwise since then (decision 33); what is found stays well inside of its errors
    for name, error in (("gain_dn", "gain_stderr_dn"), ("offset_dn", "offset_stderr_dn"), ("bleed", "bleed_stderr")):
        found, expected = (getattr(c.machine.channel, name) for c in (again, before))
        assert (np.abs(found - expected) < 0.3 * getattr(before.machine.channel, error)).all(), name
    assert before.families()


def test_its_calibration_carries_a_layer(runs: Path) -> None:
    calibration = load_calibration(runs / "calibrations" / f"{CALIBRATION}.calib.safetensors")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 10), nn.ReLU())
    optical = opticalize(model, calibration)
    x = torch.rand(64, 12)
    error = (optical(x) - model(x)).std() / model(x).std()
    assert 1e-3 < error < 0.2  # about 5 bits


def test_everything_of_it_is_due_since_the_code_has_changed(kept: RunReader, runs: Path) -> None:
    found = {status.name: status.because for status in statuses(runs, kept.station())}
    assert found["dark"].startswith("code changed: calibration.bench.dark")
    assert found["gain"].startswith("code changed")


def test_report_and_comparison_are_made_from_it(kept: RunReader, runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", "latest", "--runs", str(runs), "-o", str(page), "--quiet"]) == 0
    assert "Registration" in page.read_text(encoding="utf-8")
    assert main(["calib", "diff", CALIBRATION, CALIBRATION, "--runs", str(runs), "--json"]) == 0
