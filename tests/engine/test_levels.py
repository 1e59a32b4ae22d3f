"""Benches whose panels have other than 256 gray levels, from the first frame to the simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from everyday import everyday

from calibration.machine.artefact import load
from calibration.machine.lut import Lut
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.engine.gate import incompatible
from labctl.nodes.evidence import load_evidence
from simulation.conversion.optical import opticalize

BENCHES = {"a binary SLM": (256, 2), "a display of 10 bit": (1024, 256), "few levels": (2, 4)}


@pytest.fixture(scope="module", params=everyday([(levels,) for levels in BENCHES.values()], 1, 2), ids=BENCHES)
def measured(request, small_file: Path, products, tmp_path_factory) -> tuple[Path, int, int]:
    """The archive after one run on a bench, and the gray levels of its display and SLM."""
    display, slm = request.param
    runs = tmp_path_factory.mktemp("levels") / "runs"
    levels = ["--set", f"mock.display.levels={display}", "--set", f"mock.slm.levels={slm}"]
    options = ["--bench", str(small_file), "--runs", str(runs), "--quiet", *levels]
    assert main(["measure", str(products[0]), *options]) == 0
    return runs, display, slm


def test_run_is_in_spec_and_exports_a_table_with_an_entry_for_each_level(measured) -> None:
    runs, display, slm = measured
    run = RunReader(find_run(runs, "latest"))
    summary = run.summary()
    assert summary.verdict == "ok"
    # 48 products of 24 and 48 of 40 outputs: the standard error of χ²/dof is √(2 / 3072) = 0.026
    assert summary.validation.chi2_per_dof == pytest.approx(1.0, abs=4 * 0.026)
    machine = load(Path(summary.calibration.path)).machine
    assert (machine.display.levels, machine.slm.levels) == (display, slm)
    figures = {metric.name: metric.value for metric in summary.metrics}
    assert figures["slm_quantisation"] == machine.slm.quantisation
    # a uniform error of rounding of 1 / (2 · levels) and more shows in the products as the model computed them
    assert (figures["nrmse_model"] > 3 * figures["nrmse"]) == (slm < 256)


def test_frames_of_the_run_have_the_levels_of_the_panels(measured) -> None:
    runs, display, slm = measured
    evidence = load_evidence(RunReader(find_run(runs, "latest")))
    assert (evidence.levels.display, evidence.levels.slm) == (display, slm)
    scans = [*(readings.scan for readings in evidence.scans.values()), *(tile.scan for tile, _ in evidence.tiles)]
    for scan in scans:
        assert (scan.display.dtype, scan.slm.dtype) == (evidence.levels.display_dtype, evidence.levels.slm_dtype)
        assert scan.display.max() < display
        assert scan.slm.max() < slm


def test_refit_from_the_disk_gives_the_identical_calibration(measured, tmp_path: Path) -> None:
    runs, *_ = measured
    assert main(["export", "latest", "--runs", str(runs), "-o", str(tmp_path), "--quiet"]) == 0
    summary = RunReader(find_run(runs, "latest")).summary()
    assert load(next(tmp_path.glob("*.calib.safetensors"))).id == summary.calibration.id


def test_a_calibration_from_before_a_panel_changed_its_levels_is_not_compared_with(measured) -> None:
    runs, display, slm = measured
    now = load(Path(RunReader(find_run(runs, "latest")).summary().calibration.path))
    other = Lut(np.linspace(0.1, 1, 512), np.zeros(512))
    for panel, levels, name in (("display", display, "display"), ("slm", slm, "SLM")):
        before = replace(now, machine=replace(now.machine, **{panel: other}))
        assert incompatible(now, before) == f"gray levels of the {name} 512 then, {levels} now"
    assert incompatible(now, now) == ""


def test_the_calibration_simulates_what_the_bench_shows(measured) -> None:
    """Operands that the panels can show exactly come out exactly, but for the noise and for the gain's unevenness."""
    runs, *_ = measured
    calibration = load(Path(RunReader(find_run(runs, "latest")).summary().calibration.path))
    rng = np.random.default_rng(3)
    linear = torch.nn.Linear(32, 24, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (24, 32))))
    x = torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], (64, 32)).astype(np.float32))
    model = torch.nn.Sequential(linear)
    exact = model(x).detach().numpy()
    found = opticalize(model, calibration, seed=1)(x).detach().numpy()
    gain = calibration.machine.channel.gain_dn
    uneven = float((gain / gain.min() - 1).max()) if calibration.machine.slm.levels < 256 else 0.0
    assert np.sqrt(np.mean((found - exact) ** 2)) < (0.02 + 0.5 * uneven) * np.ptp(exact)
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.99
