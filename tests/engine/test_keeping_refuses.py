"""What may not be kept, resumed or exported: each way in which an old result would be a silent wrong answer."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from everyday import everyday

from calibration import load_calibration
from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.archive.calibrations import CalibrationStore
from labctl.engine.graph import statuses
from labctl.nodes.registry import node_named
from labctl.station.loading import load_station
from mock_hardware.devices import MockSource
from mock_hardware.slow import MockInterlock, MockMonitor


def labctl(small: Path, runs: Path, *words: str) -> int:
    return main([*words, "--bench", str(small), "--runs", str(runs), "--quiet"])


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


def states(runs: Path) -> dict[str, str]:
    return {node.name: node.state for node in newest(runs).summary().nodes}


def due(runs: Path, small: Path, *overrides: str) -> dict[str, str]:
    found = statuses(runs, load_station(small, overrides))
    return {status.name: status.because for status in found if status.due}


@pytest.fixture
def calibrated(calibrated_once: Path, tmp_path: Path) -> Path:
    """The archive after `labctl calibrate`, to be tampered with."""
    return shutil.copytree(calibrated_once, tmp_path / "runs")


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], object]:
    """As a context: every run is interrupted when it has written so many segments."""

    class Interrupted:
        def __init__(self, segments: int) -> None:
            self.segments, self.written = segments, 0

        def __enter__(self) -> None:
            self.patch = pytest.MonkeyPatch()
            write = RunWriter.write_segment

            def until(run: RunWriter, *arguments: object) -> object:
                if self.written == self.segments:
                    raise KeyboardInterrupt
                self.written += 1
                return write(run, *arguments)

            self.patch.setattr(RunWriter, "write_segment", until)

        def __exit__(self, *exc: object) -> None:
            self.patch.undo()

    return Interrupted


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("acquisition.slm_settle_frames=6", "dark"),
        ("acquisition.display_settle_frames=3", "timing"),
        ("acquisition.reference_spacing_frames=20", "lut"),
        ("limits.registration_residual_px_max=0.01", "registration"),
        ("limits.probe_chi2_per_dof_max=1.01", "couplings"),
        ("layout.rows=30", "timing"),
    ],
)
def test_key_that_a_reading_or_its_verdict_depends_on_makes_it_due(
    override: str, first: str, calibrated: Path, small_file: Path
) -> None:
    found = due(calibrated, small_file, override)
    assert next(iter(found)) == first
    assert found[first] == f"station changed: {override.partition('=')[0]}"


def test_another_camera_is_another_bench_whatever_its_name(small_file: Path, tmp_path: Path) -> None:
    station = tmp_path / "eye.toml"
    station.write_text(small_file.read_text() + '\n[devices.eye]\nrole = "camera"\nbackend = "mock.camera"\n')
    assert labctl(station, tmp_path / "runs", "calibrate", "dark") == 0
    assert "dark" not in due(tmp_path / "runs", station)
    found = due(tmp_path / "runs", station, 'devices.eye.backend="genicam.camera"')
    assert found["dark"] == "station changed: devices.eye.backend"


def test_result_that_fails_the_limits_of_now_is_not_kept(
    calibrated: Path, small_file: Path, products, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no key tells: what is kept is judged again."""
    monkeypatch.setattr(node_named("registration"), "keys", ())
    tight = ("--set", "limits.registration_residual_px_max=0.001")
    assert (
        labctl(small_file, calibrated, "calibrate", "maintain", "export", "--workload", str(products[0]), *tight) == 10
    )
    assert states(calibrated)["registration"] == "done"
    assert newest(calibrated).summary().calibration is None


@pytest.mark.parametrize("what", everyday(["a line less", "a byte", "a file less"], 1))
def test_damaged_readings_are_measured_again(what: str, calibrated: Path, small_file: Path, products) -> None:
    source = newest(calibrated)
    victim = next(row for row in reversed(source.manifest) if row.kind == "probe")
    segment = source.path / "segments" / victim.file
    if what == "a line less":
        manifest = source.path / "segments" / "manifest.jsonl"
        manifest.write_text(
            "".join(f"{line}\n" for line in manifest.read_text().splitlines() if victim.file not in line)
        )
    elif what == "a byte":
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
    else:
        segment.unlink()
    assert labctl(small_file, calibrated, "calibrate", "maintain", "export", "--workload", str(products[0])) == 0
    run = newest(calibrated)
    assert run.run_id != source.run_id
    assert states(calibrated)["gain"] == "done"
    assert states(calibrated)["dark"] == ("kept" if what == "a byte" else "done")
    assert run.verify().intact
    assert main(["validate", run.run_id, "--runs", str(calibrated), "--quiet"]) == 0


def test_run_from_the_future_says_nothing(calibrated: Path, small_file: Path) -> None:
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    found = {s.name: s.because for s in statuses(calibrated, load_station(small_file), yesterday)}
    assert set(found.values()) == {"never measured"}


def test_bad_result_of_a_run_that_went_on_is_the_last_word(
    small_file: Path, tmp_path: Path, interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that began before another one and measured after it."""
    runs, flash = tmp_path / "runs", ("--set", 'mock.faults=["garbage@640:0.9"]')
    with interrupt(3):
        assert labctl(small_file, runs, "calibrate", *flash) == 130
    early = newest(runs)
    assert labctl(small_file, runs, "calibrate", "lut") == 0
    assert "lut" not in due(runs, small_file)
    assert main(["run", "resume", str(early.path), "--runs", str(runs), "--quiet"]) == 20
    assert "bad data" in due(runs, small_file)["lut"]


def test_calibration_is_valid_no_longer_than_the_readings_that_it_keeps(
    calibrated: Path, small_file: Path, products
) -> None:
    source = newest(calibrated)
    summary = json.loads((source.path / "summary.json").read_bytes())
    earlier = dt.datetime.now(dt.UTC) - dt.timedelta(hours=20)
    for node in summary["nodes"]:
        node["at"] = earlier.isoformat()
    (source.path / "summary.json").write_text(json.dumps(summary))
    for node in ("dark",):  # holds for twelve hours: a quick check confirms it, and it is as good as new
        assert node in due(calibrated, small_file)
    assert labctl(small_file, calibrated, "calibrate", "maintain", "export", "--workload", str(products[0])) == 0
    found = newest(calibrated).summary().calibration
    assert found.valid_until == pytest.approx(earlier + dt.timedelta(hours=24), abs=dt.timedelta(seconds=2))
    assert load_calibration(found.path).id == found.id
    assert main(["export", "latest", "--runs", str(calibrated), "-o", str(calibrated / "out"), "--quiet"]) == 0
    assert [path.name for path in (calibrated / "out").glob("*.h5")] == [f"{found.id}.calib.h5"]


def test_half_of_the_products_is_not_validated(
    small_file: Path, products, tmp_path: Path, interrupt, capsys: pytest.CaptureFixture[str]
) -> None:
    with interrupt(27):
        assert labctl(small_file, tmp_path, "measure", str(products[0])) == 130
    for command in (["validate", "latest"], ["export", "latest", "-o", str(tmp_path / "out")], ["report", "latest"]):
        capsys.readouterr()
        assert main([*command, "--runs", str(tmp_path), "--quiet"]) == 22
        assert "labctl run resume" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["fit", "latest", "--runs", str(tmp_path), "--quiet"]) == 0  # its calibration is complete


def test_decision_that_was_sealed_takes_effect_with_the_next_run(
    small_file: Path, products, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CalibrationStore, "decide", stopped)
        assert labctl(small_file, tmp_path, "measure", str(products[0])) == 130
    sealed = newest(tmp_path)
    assert sealed.status == "ok"
    assert CalibrationStore(tmp_path).applied("small") is None
    assert labctl(small_file, tmp_path, "calibrate", "dark") == 0
    assert CalibrationStore(tmp_path).applied("small").id == sealed.summary().calibration.id


def test_no_light_before_the_interlock_is_asked(
    small_file: Path, tmp_path: Path, interrupt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers import Trip

    station = tmp_path / "interlocked.toml"
    station.write_text(small_file.read_text() + '\n[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n')
    with interrupt(6):
        assert labctl(station, tmp_path / "runs", "calibrate") == 130
    lit: list[str] = []
    monkeypatch.setattr(MockInterlock, "check", lambda self, timeout_s=2.0: Trip("the door is open"))
    monkeypatch.setattr(MockSource, "on", lambda self, timeout_s=5.0: lit.append("on"))
    assert main(["run", "resume", "latest", "--runs", str(tmp_path / "runs"), "--quiet"]) == 21
    assert lit == []


def test_monitor_that_fails_is_noted_and_stops_nothing(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers import Reading

    station = tmp_path / "monitored.toml"
    station.write_text(small_file.read_text() + '\n[devices.power]\nrole = "monitor"\nbackend = "mock.monitor"\n')
    answers = iter([Reading(float("nan"), "W", 1.0), OSError("no answer"), Reading(1.0, "W", 3.0)])

    def read(self: MockMonitor, timeout_s: float = 2.0) -> Reading:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(MockMonitor, "read", read)
    assert labctl(station, tmp_path / "runs", "calibrate", "timing") == 0
    lines = [line for line in newest(tmp_path / "runs").journal() if line["event"] == "monitor"]
    assert [(line.get("value"), line.get("error")) for line in lines] == [
        (None, None), (None, "no answer"), (1.0, None),
    ]  # fmt: skip


def test_resume_of_damaged_readings_leaves_the_run_as_it_was(small_file: Path, tmp_path: Path, interrupt) -> None:
    with interrupt(8):
        assert labctl(small_file, tmp_path, "calibrate") == 130
    run = newest(tmp_path)
    (run.path / "segments" / "000005.h5").unlink()
    assert main(["run", "resume", "latest", "--runs", str(tmp_path), "--quiet"]) == 22
    assert newest(tmp_path).status == "aborted"
