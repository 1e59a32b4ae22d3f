"""Whole runs on a small mock bench: what they leave behind, what they refuse, and that they repeat."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from pages import without_figures
from processes import LIMIT_S

from calibration.fit.screening import ScreenedFit
from calibration.frames import PanelLevels
from calibration.machine.artefact import load
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.archive.calibrations import CalibrationStore
from labctl.engine.ledger import Ledger
from labctl.engine.plan import planned
from labctl.nodes.node import Facts
from labctl.report.outcome import closing_lines
from labctl.resources import data_path
from labctl.summary import CalibrationRef, Metric, Summary
from labctl.verdicts import Verdict

UNSETTLED = ("--set", "acquisition.slm_settle_frames=0", "--set", "acquisition.display_settle_frames=0")


def measure(small: Path, workload: Path, runs: Path, *options: str) -> int:
    return main(["measure", str(workload), "--bench", str(small), "--runs", str(runs), "--quiet", *options])


def segments(runs: Path) -> list[str]:
    return [row.sha256 for row in RunReader(find_run(runs, "latest")).manifest]


@pytest.fixture
def good(measured_once: Path) -> Path:
    """The archive after one run in spec."""
    return measured_once


@pytest.fixture(scope="session")
def twice(measured_once: Path, small_file: Path, products, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive after the same run again."""
    runs = shutil.copytree(measured_once, tmp_path_factory.mktemp("twice") / "runs")
    assert measure(small_file, products[0], runs) == 0
    return runs


@pytest.fixture(scope="session")
def other_seed(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive after a calibration, without products, of a bench with another seed."""
    runs = tmp_path_factory.mktemp("other")
    arguments = ["calibrate", "--bench", str(small_file), "--runs", str(runs), "--quiet", "--set", "mock.seed=2"]
    assert main(arguments) == 0
    return runs


def test_device_time_is_what_was_planned(good: Path) -> None:
    run = RunReader(find_run(good, "latest"))
    station = run.station().station
    levels = PanelLevels(slm=station.mock["slm"]["levels"], display=station.mock["display"]["levels"])
    nodes = planned(station, Facts((160, 180), (160, 180), (210, 230), 1 / 60, levels))  # the mock's shortest period
    couplings = next(node for node in nodes if node.node == "couplings")  # not needed on this bench
    taken = next(m for m in run.summary().metrics if m.name == "calibration_device_time").value
    # less what the couplings would have shared with their neighbours: a change of pattern, settled once
    assert taken == pytest.approx(sum(node.seconds for node in nodes) - couplings.seconds, rel=0.02)


def test_run_in_spec_is_sealed_validated_and_exported(good: Path, products) -> None:
    run = RunReader(find_run(good, "latest"))
    summary = run.summary()
    assert run.status == "ok"
    assert run.verify().intact
    assert summary.validation.products == products[1].products
    assert summary.counts.planned == summary.counts.recorded == products[1].products
    # 24 products of 24 or 40 outputs: the standard error of χ²/dof is √(2 / 768) = 0.05
    assert summary.validation.chi2_per_dof == pytest.approx(1.0, abs=0.1)
    assert [node.name for node in summary.nodes] == [
        "dark", "timing", "registration", "lut", "noise", "gain", "crosstalk", "couplings",
        "validation", "export", "gate", "report",
    ]  # fmt: skip
    full = Path(summary.calibration.path)
    assert full.parent == good / "calibrations"
    assert load(full).id == load(full.with_suffix(".safetensors")).id == summary.calibration.id
    assert summary.calibration.applied
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 7
    assert "http" not in without_figures(page)


def test_same_seed_gives_the_same_segments_bit_for_bit_and_another_seed_does_not(
    good: Path, twice: Path, other_seed: Path
) -> None:
    assert find_run(twice, "latest").name != find_run(good, "latest").name
    assert segments(twice) == segments(good)
    assert segments(other_seed)
    assert set(segments(other_seed)) & set(segments(good)) == set()


def test_refit_of_a_run_gives_the_identical_calibration(good: Path, tmp_path: Path, capsys) -> None:
    before = RunReader(find_run(good, "latest")).summary()
    good = shutil.copytree(good, tmp_path / "runs")  # an export pins its run
    assert main(["export", "latest", "--runs", str(good), "-o", str(tmp_path), "--quiet"]) == 0
    again = load(next(tmp_path.glob("*.calib.safetensors")))
    assert again.id == before.calibration.id
    assert RunReader(find_run(good, "latest")).verify().intact


def test_next_run_names_its_parent(good: Path, twice: Path) -> None:
    first = RunReader(find_run(good, "latest")).summary().calibration
    second = RunReader(find_run(twice, "latest")).summary().calibration
    assert second.parent == first.id
    # the same bench to the last bit: the difference is exactly none, and the fresher is applied
    assert second.compared.id == first.id
    assert second.compared.difference == 0
    assert second.applied
    assert "fresher" in second.why
    assert [decision.id for decision in CalibrationStore(twice).history("small")] == [first.id, second.id]


class Askew(ScreenedFit):
    """A fit that takes every other output for 2 % brighter than the ones between."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        channel = self.fit.channel
        tilt = 1 + 0.01 * (-1.0) ** np.arange(len(channel.gain_dn))[:, None]
        self.fit = replace(self.fit, channel=replace(channel, gain_dn=channel.gain_dn * tilt))


def test_calibration_that_predicts_worse_is_not_applied_and_the_run_still_in_spec(
    good: Path, small_file: Path, products, tmp_path: Path, capsys, monkeypatch
) -> None:
    """Limits so wide that only the calibration before can tell."""
    runs = tmp_path / "runs"
    shutil.copytree(good / "calibrations", runs / "calibrations")
    better = CalibrationStore(runs).applied("small")
    wide = ("--set", "limits.chi2_per_dof_max=5.0", "--set", "limits.coverage95_min=0.5")
    with monkeypatch.context() as patch:
        patch.setattr("labctl.nodes.gain.ScreenedFit", Askew)
        assert measure(small_file, products[0], runs, *wide) == 0
    summary = RunReader(find_run(runs, "latest")).summary()
    assert not summary.calibration.applied
    assert summary.calibration.compared.difference < -3 * summary.calibration.compared.stderr
    assert f"{better.id} stays" in summary.calibration.why
    assert next(node.state for node in summary.nodes if node.name == "gate") == "not_applied"
    assert CalibrationStore(runs).applied("small") == better
    assert CalibrationStore(runs).path(summary.calibration.id).exists()
    capsys.readouterr()
    assert main(["calibrate", "status", "--bench", str(small_file), "--runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert f"{better.id}   good" in said
    assert f"refused    {summary.calibration.id}" in said
    assert main(["calib", "diff", better.id[:8], summary.calibration.id[4:], "--runs", str(runs), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["changed"] == ["gain"]
    assert {"gain", "SLM geometry", "dark level"} <= {family["name"] for family in document["families"]}


@pytest.mark.parametrize("options", [("--set", "mock.source.power_mw=0.0"), UNSETTLED], ids=["laser off", "unsettled"])
def test_run_without_light_or_settling_is_never_ok(options, small_file: Path, products, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code = measure(small_file, products[0], runs, *options)
    run = RunReader(find_run(runs, "latest"))
    assert code in (10, 20)
    assert run.status in ("out_of_spec", "fault")
    assert run.summary().calibration is None
    assert list(run.path.rglob("*.calib.*")) == []


def test_display_that_has_not_settled_is_out_of_spec_with_the_reason(
    small_file: Path, products, tmp_path: Path, capsys
) -> None:
    code = main(
        ["measure", str(products[0]), "--bench", str(small_file), "--runs", str(tmp_path), "--json", "--set",
         "acquisition.display_settle_frames=0"]
    )  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    # stale readings either do not follow their patterns, or fit badly
    assert code == document["exit_code"]
    assert code in (10, 20)
    assert any(node["check"] in ("bad_data", "out_of_spec") and node["reason"] for node in document["nodes"])


def test_bright_light_saturates_and_is_refused_with_what_to_type(
    small_file: Path, products, tmp_path: Path, capsys
) -> None:
    assert measure(small_file, products[0], tmp_path, "--set", "mock.source.power_mw=8.0") == 20
    error = capsys.readouterr().err
    assert "E-CAL-003" in error
    assert "exposure_s" in error


def test_figure_that_is_not_a_number_is_out_of_spec_and_not_a_crash() -> None:
    ledger = Ledger()
    with ledger.node("validation") as metrics:
        metrics.append(Metric.judge("chi2_per_dof", float("nan"), "1", minimum=0.9, maximum=1.1))
    assert ledger.out_of_spec == ["validation: chi2_per_dof –, limit 0.9–1.1"]
    summary = Summary(verdict=Verdict.OUT_OF_SPEC, nodes=ledger.done)
    assert "chi2_per_dof –" in closing_lines(summary, None)


def test_what_follows_a_night_is_the_look_at_the_last_ones_and_not_a_simulation() -> None:
    exported = CalibrationRef(id="cal-1", path="a.calib.h5")
    night = Summary(run_id="20261123T020003Z-nightly-k7f2", verdict=Verdict.OK, calibration=exported)
    assert closing_lines(night, None).endswith("next: labctl nightly status")
    measured = night.model_copy(update={"run_id": "20261123T020003Z-measure-k7f2"})
    assert closing_lines(measured, None).endswith("next: labctl simulate a.calib.h5")


def test_calibrate_alone_exports_nothing(other_seed: Path) -> None:
    run = RunReader(find_run(other_seed, "latest"))
    assert run.status == "ok"
    assert run.summary().calibration is None


def test_offset_encoding_runs_the_same_way(small_file: Path, products, tmp_path: Path) -> None:
    assert measure(small_file, products[0], tmp_path, "--set", "layout.encoding=offset") == 0


def test_altered_segment_is_refused_by_fit(good: Path, tmp_path: Path, capsys) -> None:
    source = find_run(good, "latest")
    copy = tmp_path / source.name
    shutil.copytree(source, copy)
    victim = copy / "segments" / "000003.h5"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert main(["fit", str(copy)]) == 22
    assert "E-RUN-002" in capsys.readouterr().err


@pytest.mark.slow
def test_demo_prints_one_document_with_every_part(larger_file: Path, tmp_path: Path) -> None:
    """The whole demo in a process of its own, on a small bench and with few products."""
    done = subprocess.run(
        [sys.executable, "-m", "labctl", "demo", "--json", "--bench", str(larger_file), "--runs", str(tmp_path),
         "--per-layer", "2"],
        capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    document = json.loads(done.stdout)
    schema = json.loads(data_path("schemas/summary-1.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["mode"] == "mock"
    assert document["validation"]["products"] == 8
    # one seed, one outcome: this bench is in spec, so that there is a calibration to simulate on
    assert (document["verdict"], document["exit_code"], done.returncode) == ("ok", 0, 0), done.stderr
    perplexity = document["simulation"]["perplexity"]
    assert perplexity["digital"] < perplexity["int8"] < perplexity["optical"]
    assert np.isfinite(perplexity["optical"])
    assert document["simulation"]["photons_per_mac"] > 0
    (artifact,) = document["artifacts"]
    page = (find_run(tmp_path, "latest") / "report.html").read_bytes()
    assert artifact == {"path": "report.html", "bytes": len(page), "sha256": hashlib.sha256(page).hexdigest()}
