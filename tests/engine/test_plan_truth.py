"""A plan says what the run then does: frames, bytes, device time; and touches no device to say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.engine.walk import Way
from labctl.nodes.registry import node_named
from mock_hardware.devices import MockDevice


def labctl(small: Path, runs: Path, *words: str) -> int:
    return main([*words, "--bench", str(small), "--runs", str(runs), "--quiet"])


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


@pytest.fixture
def plan(small_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a plan, as a document, while no device may be opened."""

    def make(runs: Path, *words: str) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(MockDevice, "__init__", lambda *arguments, **more: pytest.fail("a device was opened"))
            capsys.readouterr()
            assert main(["plan", *words, "--bench", str(small_file), "--runs", str(runs), "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return make


def assert_true(document: dict[str, Any], run: RunReader) -> None:
    """What was planned is what the run has shown and read itself."""
    own = [segment for segment in run.segments() if segment.row.origin is None]
    kept = 0
    for segment in own:
        arrays = segment.arrays
        if "reference" in arrays:
            kept += int((arrays["reference"] == 0).sum())
        else:
            kept += len(arrays["frames"]) if "frames" in arrays else len(arrays["rise_dn"]) + len(arrays["fall_dn"])
    assert document["frames"] == kept
    # a change of pattern that two nodes share is settled once: the plan sees it too
    exposed = max((int(segment.attrs["next_sequence"]) for segment in own), default=0)
    device_s = max((float(segment.attrs["device_s"]) for segment in own), default=0.0)
    assert document["exposed"] == pytest.approx(exposed, rel=0.02)
    assert document["device_s"] == pytest.approx(device_s, rel=0.02)
    assert document["bytes"] == pytest.approx(sum(segment.row.bytes for segment in own), rel=0.05)


def states(document: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["state"] for node in document["nodes"]}


def test_plan_of_a_new_bench_is_what_the_first_run_does(plan, measured_once: Path, products, tmp_path: Path) -> None:
    document = plan(tmp_path / "none", "measure", "--workload", str(products[0]))
    assert_true(document, newest(measured_once))
    assert states(document)["dark"] == "due"
    assert states(document)["validation"] == "always"
    assert {node["seconds_from"] for node in document["nodes"]} == {"device"}
    assert any("couplings" in line for line in document["unknown"])
    for name in ("frames", "exposed", "bytes", "device_s", "seconds"):
        assert document[name] == pytest.approx(sum(node[name] for node in document["nodes"]))


def test_plan_to_measure_all_anew_does_not_say_that_it_is_due(plan, measured_once: Path, products) -> None:
    document = plan(measured_once, "measure", "--workload", str(products[0]))
    assert_true(document, newest(measured_once))
    assert states(document)["gain"] == "always"
    assert "measured anew, though valid until" in next(n["because"] for n in document["nodes"] if n["name"] == "gain")
    assert document["unknown"] == []
    crosstalk = next(node for node in document["nodes"] if node["name"] == "export")
    assert crosstalk["seconds_from"] == "history"


def test_nothing_due_costs_nothing(plan, measured_once: Path) -> None:
    document = plan(measured_once, "maintain")
    assert set(states(document).values()) == {"keep"}
    assert [document[name] for name in ("frames", "exposed", "bytes", "device_s", "seconds")] == [0, 0, 0, 0, 0]


def test_night_on_a_calibrated_bench_counts_products_canaries_and_quick_checks(
    plan, measured_once: Path, small_file: Path, products, tmp_path: Path
) -> None:
    runs = shutil.copytree(measured_once, tmp_path / "runs")
    document = plan(runs, "nightly", "--workload", str(products[0]))
    assert labctl(small_file, runs, "nightly", "run", "--workload", str(products[0])) == 0
    assert_true(document, newest(runs))
    shown = {name for name, state in states(document).items() if state == "always"}
    assert shown == {"canary_start", "canary_middle", "validation", "canary_end", "export"}
    checked = {name for name, state in states(document).items() if state == "check"}
    assert checked == {"dark", "registration", "noise", "gain"}  # too old by the next night
    assert {states(document)[name] for name in ("timing", "lut", "crosstalk")} == {"keep"}


def test_one_node_that_is_due_is_counted_with_what_rests_on_it(
    plan, measured_once: Path, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = shutil.copytree(measured_once, tmp_path / "runs")
    for name in ("dark", "noise", "gain"):
        monkeypatch.setattr(node_named(name), "max_age_h", 0.0)
    document = plan(runs)
    assert {name: state for name, state in states(document).items() if state != "keep"} == {
        "dark": "check", "noise": "check", "gain": "check",
    }  # fmt: skip
    assert labctl(small_file, runs, "calibrate", "maintain") == 0
    assert_true(document, newest(runs))
    changed = ("--set", "acquisition.gain_repeats=2")
    document = plan(runs, "maintain", *changed)
    assert states(document)["gain"] == "due"
    assert states(document)["crosstalk"] == states(document)["couplings"] == "due"
    assert labctl(small_file, runs, "calibrate", "maintain", *changed) == 0
    assert_true(document, newest(runs))


def test_couplings_that_the_bench_needed_last_time_are_counted(
    plan, measured_once: Path, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labctl.nodes import couplings

    monkeypatch.setattr(couplings, "COMMON_CHI2_MAX", 0.0)
    assert labctl(small_file, tmp_path, "calibrate") == 0
    document = plan(tmp_path, "measure")
    assert next(node for node in document["nodes"] if node["name"] == "couplings")["frames"] > 0
    assert_true(document, newest(tmp_path))


def test_bytes_of_monitors_are_counted(plan, small_file: Path, tmp_path: Path) -> None:
    meter = ("--set", 'devices.meter.role="monitor"', "--set", 'devices.meter.backend="mock.monitor"')
    document = plan(tmp_path, "maintain", *meter)
    assert labctl(small_file, tmp_path, "calibrate", *meter) == 0
    assert_true(document, newest(tmp_path))


def test_unknown_plan_is_refused(small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "tomorrow", "--bench", str(small_file)]) == 2
    assert "one of measure, maintain, nightly" in capsys.readouterr().err


def test_table_of_a_plan_says_minutes_bytes_and_budget(
    measured_once: Path, small_file: Path, products, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("nightly", "--workload", str(products[0]), "--bench", str(small_file), "--runs", str(measured_once))
    capsys.readouterr()
    assert main(["plan", *words]) == 0
    out = capsys.readouterr().out
    assert "validation" in out
    assert "of 6 h" in out
    assert "MB of" in out
    assert "no device was opened" in out
    assert Way.KEEP in out
