"""What a calibration measures, what it keeps and what it checks: the graph, its ages, and the code behind it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.bench.lock import hold_bench
from labctl.console import Console
from labctl.engine.code import modules_of, source_hashes
from labctl.engine.graph import statuses
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.nodes.registry import GRAPH, MACHINE, node_named, with_parents
from labctl.station.loading import load_station


def labctl(small: Path, runs: Path, *words: str) -> int:
    return main([*words, "--bench", str(small), "--runs", str(runs), "--quiet"])


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


def states(runs: Path) -> dict[str, str]:
    return {node.name: node.state for node in newest(runs).summary().nodes if node.name in {n.name for n in GRAPH}}


def own_kinds(run: RunReader) -> Counter[str]:
    """Kinds of the segments that the run has measured itself."""
    return Counter(row.kind for row in run.manifest if row.origin is None)


@pytest.fixture
def calibrated(calibrated_once: Path, tmp_path: Path) -> Path:
    """The archive after `labctl calibrate`, a copy for each test."""
    return shutil.copytree(calibrated_once, tmp_path / "runs")


def test_calibrating_a_node_measures_it_and_what_is_due_and_nothing_else(small_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert labctl(small_file, runs, "calibrate", "noise") == 0
    first = states(runs)
    assert first == dict.fromkeys(("dark", "timing", "registration", "lut", "noise"), "done")
    assert labctl(small_file, runs, "calibrate", "gain") == 0
    assert states(runs) == {**dict.fromkeys(first, "kept"), "gain": "done"}
    run = newest(runs)
    assert own_kinds(run).keys() == {"probe"}
    scans = {str(s.attrs["scan"]) for s in run.segments() if s.row.origin is None}
    assert scans == {"gain", "crosstalk", "holdout"}
    assert run.verify().intact


def test_kept_readings_are_part_of_the_run_and_analysed_again_with_it(
    calibrated: Path, small_file: Path, products, tmp_path: Path
) -> None:
    """The run rests on no other folder: it is fitted again where it lies alone, and gives the same calibration."""
    first = newest(calibrated)
    assert labctl(small_file, calibrated, "calibrate", "maintain", "export", "--workload", str(products[0])) == 0
    run = newest(calibrated)
    assert Counter(states(calibrated).values()) == {"kept": 8, "done": 2}
    assert own_kinds(run).keys() == {"products"}
    assert {row.origin for row in run.manifest} == {None, first.run_id}
    alone = tmp_path / "alone" / run.run_id
    alone.parent.mkdir()
    run.path.rename(alone)
    assert main(["export", str(alone), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    (again,) = (tmp_path / "out").glob("*.calib.h5")
    assert again.name.removesuffix(".calib.h5") == RunReader(alone).summary().calibration.id


def test_nothing_due_opens_no_device(calibrated: Path, small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = newest(calibrated).run_id
    assert labctl(small_file, calibrated, "calibrate", "maintain") == 0
    assert "no device was opened" in capsys.readouterr().out
    assert newest(calibrated).run_id == before


def test_old_result_is_confirmed_by_a_quick_check_of_few_frames(
    calibrated: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = sum(row.rows for row in newest(calibrated).manifest)
    for name in ("dark", "registration", "lut", "noise", "gain"):
        monkeypatch.setattr(node_named(name), "max_age_h", 0.0)
    assert labctl(small_file, calibrated, "calibrate", "maintain") == 0
    found = states(calibrated)
    assert {name for name, state in found.items() if state == "checked"} == {
        "dark", "registration", "lut", "noise", "gain",
    }  # fmt: skip
    assert {name for name, state in found.items() if state == "kept"} == {"timing", "crosstalk", "couplings"}
    run = newest(calibrated)
    checks = [s for s in run.segments() if s.row.origin is None]
    assert checks
    assert all("check" in segment.attrs for segment in checks)
    assert sum(segment.row.rows for segment in checks) < 0.3 * full
    assert len(refit(Lab(Console(quiet=True)), run.path).walk.evidence.scans["gain"]) > 16  # not the few of the check
    monkeypatch.undo()
    due = {status.name for status in statuses(calibrated, load_station(small_file)) if status.due}
    assert due == {"validation", "export"}


def test_bench_that_has_changed_fails_the_check_and_is_measured_anew(
    calibrated: Path, small_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The panel has been turned, which no key of the node's own tells: the station's file says nothing of the bench."""
    for name in ("registration",):
        monkeypatch.setattr(node_named(name), "max_age_h", 0.0)
    for node in GRAPH:
        monkeypatch.setattr(node, "keys", ())
    turned = ("--set", "mock.slm.offset_x_px=5.0")
    assert labctl(small_file, calibrated, "calibrate", "maintain", *turned) == 0
    found = states(calibrated)
    assert found["registration"] == "done"
    assert found["dark"] == found["timing"] == "kept"
    assert all(found[node.name] == "done" for node in with_parents([MACHINE]) if node.name in ("lut", "noise", "gain"))
    (check,) = [line for line in newest(calibrated).journal() if line["event"] == "check"]
    assert check["node"] == "registration"
    assert "slm_moved" in check["why"]


def test_changed_key_makes_due_what_depends_on_it(calibrated: Path, small_file: Path) -> None:
    due = {
        status.name: status.because
        for status in statuses(calibrated, load_station(small_file, ["acquisition.gain_repeats=2"]))
        if status.due
    }
    assert due["gain"] == "station changed: acquisition.gain_repeats"
    assert due["crosstalk"] == "parent gain is due"
    assert "noise" not in due


@pytest.mark.parametrize(
    ("module", "node"),
    [
        ("calibration.fit.full", "gain"),
        ("calibration.fit.averages", "gain"),
        ("calibration.fit.screening", "gain"),
        ("calibration.statistics.choice", "noise"),
        ("calibration.machine.channel", "gain"),
        ("calibration.statistics.covariance", "noise"),
        ("calibration.bench.lut_fit", "lut"),
        ("labctl.nodes.dark", "dark"),
        ("labctl.nodes.scans", "couplings"),
    ],
)
def test_changed_module_makes_due_what_really_imports_it(
    module: str, node: str, calibrated: Path, small_file: Path
) -> None:
    """As a run of before the change looks: its hash of that module is another one."""
    file = newest(calibrated).path / "code.json"
    code = json.loads(file.read_bytes())
    assert module in code["sources"]
    assert not any(s.due for s in statuses(calibrated, load_station(small_file)) if s.name == node)
    code["sources"][module] = "another"
    file.write_text(json.dumps(code))
    (status,) = [s for s in statuses(calibrated, load_station(small_file)) if s.name == node]
    assert status.due
    assert module in status.because or status.because.startswith("parent")
    assert module in modules_of(node_named(node))


def test_code_of_a_node_is_neither_everything_nor_what_draws_it() -> None:
    hashes = source_hashes()
    assert "labctl.nodes.figures" not in hashes
    for node in GRAPH:
        modules = modules_of(node)
        assert type(node).__module__ in modules
        assert modules <= hashes.keys()
        assert "calibration.response.fit" not in modules
    assert "calibration.fit.full" not in modules_of(node_named("dark"))
    assert "calibration.fit.full" in modules_of(node_named("gain"))


def test_bench_that_is_held_is_refused_and_nothing_is_touched(
    small_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hold_bench("small") as held_by:
        held_by("20260101T000000Z-other-aaaa")
        assert labctl(small_file, tmp_path, "calibrate", "dark") == 75
    error = capsys.readouterr().err
    assert "E-BSY-001" in error
    assert "20260101T000000Z-other-aaaa" in error
    assert list(tmp_path.iterdir()) == []
    assert labctl(small_file, tmp_path, "calibrate", "dark") == 0


def test_open_interlock_stops_before_any_light(small_file: Path, tmp_path: Path, capsys) -> None:
    station = tmp_path / "interlocked.toml"
    station.write_text(
        small_file.read_text() + '\n[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n'
        '[devices.door.options]\ntripped = "the door is open"\n'
    )
    assert labctl(station, tmp_path / "runs", "calibrate", "dark") == 21
    assert "E-INT-001" in capsys.readouterr().err
    assert newest(tmp_path / "runs").status == "interlock"
    assert newest(tmp_path / "runs").manifest == []


def test_run_that_an_interlock_stopped_leaves_earlier_results_alone(small_file: Path, tmp_path: Path) -> None:
    station, runs = tmp_path / "interlocked.toml", tmp_path / "runs"
    door = '\n[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n'
    station.write_text(small_file.read_text() + door)
    assert labctl(station, runs, "calibrate", "timing") == 0
    open_door = ("--set", 'devices.door.options.tripped="the lid"')
    assert labctl(station, runs, "calibrate", "timing", *open_door) == 21
    due = {status.name for status in statuses(runs, load_station(station)) if status.due}
    assert not {"dark", "timing"} & due


def test_monitors_are_read_with_every_step(small_file: Path, tmp_path: Path) -> None:
    station = tmp_path / "monitored.toml"
    station.write_text(small_file.read_text() + '\n[devices.power]\nrole = "monitor"\nbackend = "mock.monitor"\n')
    assert labctl(station, tmp_path / "runs", "calibrate", "registration") == 0
    run = newest(tmp_path / "runs")
    readings = [line for line in run.journal() if line["event"] == "monitor"]
    assert len(readings) == len(run.manifest) == 5  # dark, two panels' steps, two panels' fiducials
    assert {line["device"] for line in readings} == {"power"}
    assert readings[0]["value"] != readings[-1]["value"]  # dark, then lit


def test_maintaining_run_goes_on_though_the_run_that_it_keeps_from_is_gone(
    calibrated: Path, small_file: Path, products, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the quick check of the gain, and in the products; what was kept lies in the run by then."""
    first, write, written = newest(calibrated), RunWriter.write_segment, []
    monkeypatch.setattr(node_named("gain"), "max_age_h", 0.0)
    words = ("calibrate", "maintain", "export", "--workload", str(products[0]))
    assert labctl(small_file, calibrated, *words) == 0
    whole = [(row.kind, row.sha256) for row in newest(calibrated).manifest]

    def write_until(self: RunWriter, *arguments: object) -> object:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(arguments)
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", write_until)
        assert labctl(small_file, calibrated, *words) == 130
    run = newest(calibrated)
    assert Counter(row.origin is None for row in run.manifest)[True] == 5
    for folder in calibrated.rglob("*-calibrate-*"):
        if folder.name not in (run.run_id,) and folder.is_dir():
            shutil.rmtree(folder)
    assert not first.path.exists()
    assert main(["run", "resume", run.path.as_posix(), "--runs", str(calibrated), "--quiet"]) == 0
    run = RunReader(run.path)
    assert run.status == "ok"
    assert run.verify().intact
    assert [(row.kind, row.sha256) for row in run.manifest] == whole
    assert {n.name: n.state for n in run.summary().nodes}["gain"] == "checked"
