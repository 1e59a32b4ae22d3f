"""A clock that is set back or forward, in a run or between two: nothing is wrong by it, and it is said."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from everyday import everyday

from drivers import hosttime
from labctl import clock
from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run
from labctl.archive.calibrations import CalibrationStore, read_header
from labctl.clock import Jumps, is_future, played_at, utc_now
from labctl.engine.graph import statuses
from labctl.engine.status import bench_status
from labctl.station.loading import load_station

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
METER = '\n[devices.meter]\nrole = "monitor"\nbackend = "mock.monitor"\n'


def labctl(small: Path, runs: Path, *words: str) -> int:
    return main([*words, "--bench", str(small), "--runs", str(runs), "--quiet"])


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Callable[[dt.timedelta], Any]:
    """Sets the clock by so much once the second scan is sealed, for as long as the block takes."""

    @contextmanager
    def jump(by: dt.timedelta) -> Iterator[None]:
        write, written = RunWriter.write_segment, [0]

        def jumping_write(self: RunWriter, *arguments: Any) -> Any:
            written[0] += 1
            if written[0] == 7:
                clock._ahead += by
            return write(self, *arguments)

        before = clock._ahead
        with monkeypatch.context() as patch:
            patch.setattr(RunWriter, "write_segment", jumping_write)
            try:
                yield
            finally:
                clock._ahead = before

    return jump


@pytest.mark.parametrize("by", everyday([-HOUR, DAY], 0), ids=["an hour back", "a day ahead"])
def test_jump_in_a_run_is_said_and_changes_no_reading(
    by: dt.timedelta, jumping, calibrated_once: Path, small_file: Path, tmp_path: Path
) -> None:
    with jumping(by):
        assert labctl(small_file, tmp_path, "calibrate") == 0
        run = newest(tmp_path)
        assert [status.because for status in statuses(tmp_path, load_station(small_file)) if status.due] == [
            "never measured",
            "never measured",
        ]
    (line,) = [line for line in run.journal() if line["event"] == "clock"]
    assert line["jumped_s"] == pytest.approx(by.total_seconds(), abs=5)
    (event,) = run.summary().device_events
    assert (event.device, event.event) == ("clock", "jumped")
    assert f"{by.total_seconds():+.0f}"[:3] in event.words
    assert all(node.duration_s is None or 0 <= node.duration_s < 300 for node in run.summary().nodes)
    times = np.concatenate([s.arrays["device_time_s"] for s in run.segments() if "device_time_s" in s.arrays])
    assert (np.diff(times) > 0).all()
    assert [row.sha256 for row in run.manifest] == [row.sha256 for row in newest(calibrated_once).manifest]


def test_calibration_of_a_run_whose_clock_was_set_back_expires_in_time_and_is_the_same_again(
    jumping, small_file: Path, products, tmp_path: Path
) -> None:
    """It began under a clock that was a day ahead; NTP noticed in the middle."""
    with played_at(utc_now() + DAY), jumping(-DAY):
        assert labctl(small_file, tmp_path, "measure", str(products[0])) == 0
    run = RunReader(next(tmp_path.glob("*/*/*/*/run.json")).parent)
    assert run.info["clock_jumped_s"] == pytest.approx(-DAY.total_seconds(), abs=5)
    reference = run.summary().calibration
    assert reference.valid_until < utc_now() + dt.timedelta(hours=24.1)
    header = read_header(CalibrationStore(tmp_path).path(reference.id))
    assert not is_future(dt.datetime.fromisoformat(header["acquired"]))
    again = tmp_path / "again"
    assert main(["export", str(run.path), "--runs", str(tmp_path), "-o", str(again), "--quiet"]) == 0
    assert (again / f"{reference.id}.calib.h5").exists()


def test_run_from_the_future_is_not_the_latest_and_displaces_no_calibration(
    small_file: Path, products, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with played_at(utc_now() + DAY):
        assert labctl(small_file, tmp_path, "measure", str(products[0])) == 0
        ahead = newest(tmp_path)
        assert bench_status(tmp_path, load_station(small_file))[0].good
    (bench,) = bench_status(tmp_path, load_station(small_file))
    assert bench.age_h == 0
    assert not bench.good
    assert "acquired in the future" in bench.outside[0]
    found = statuses(tmp_path, load_station(small_file))
    assert all(status.due and status.because == "never measured" for status in found)
    assert labctl(small_file, tmp_path, "measure", str(products[0])) == 0
    now = newest(tmp_path)
    assert now.run_id < ahead.run_id
    assert now.summary().calibration.applied
    (bench,) = bench_status(tmp_path, load_station(small_file))
    assert bench.applied is not None
    assert bench.applied.run_id == now.run_id
    assert bench.good
    capsys.readouterr()
    assert main(["calibrate", "status", "--bench", str(small_file), "--runs", str(tmp_path)]) == 0
    assert "-" not in capsys.readouterr().out.partition("ago")[0].rpartition(",")[2]


def test_clock_that_is_set_back_between_two_runs_makes_no_age_negative(
    calibrated_once: Path, small_file: Path, tmp_path: Path
) -> None:
    runs = shutil.copytree(calibrated_once, tmp_path / "runs")
    began = dt.datetime.fromisoformat(str(newest(runs).info["started"]))
    with played_at(began - dt.timedelta(minutes=3)):
        found = statuses(runs, load_station(small_file))
        assert not any(status.due for status in found if status.name not in ("validation", "export"))
        assert all(status.age_h is None or status.age_h >= 0 for status in found)
        assert labctl(small_file, runs, "calibrate", "maintain") == 0
    with played_at(utc_now() - HOUR):
        assert all(status.due for status in statuses(runs, load_station(small_file)))


def test_run_that_goes_on_under_a_clock_that_was_set_back_ends_the_same(
    calibrated_once: Path, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = RunWriter.write_segment, [0]

    def interrupted(self: RunWriter, *arguments: Any) -> Any:
        written[0] += 1
        if written[0] == 9:
            raise KeyboardInterrupt
        return write(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_segment", interrupted)
        assert labctl(small_file, tmp_path, "calibrate") == 130
    run = newest(tmp_path)
    with played_at(utc_now() - HOUR):
        assert main(["run", "resume", str(run.path), "--runs", str(tmp_path), "--quiet"]) == 0
    assert RunReader(run.path).verify().intact
    assert [row.sha256 for row in RunReader(run.path).manifest] == [
        row.sha256 for row in newest(calibrated_once).manifest
    ]


def test_times_of_a_real_camera_do_not_go_back_where_a_run_goes_on(small_file: Path, tmp_path: Path) -> None:
    """The process before ended at 100 s of the camera's clock; this one's clock was set back by an hour."""
    with RunWriter.create(tmp_path, "test", load_station(small_file)) as run:
        run.note_clock(1e9, simulated=False, began_s=0.0, left_s=0.0)
        run.write_segment("dark", {"frames": np.zeros((1, 2, 2), np.uint16)})
        path = run.path
    with RunWriter.resume(path) as run:
        run.note_clock(1e9 + 100 - 3600, simulated=False, began_s=5.0, left_s=100.0)
        assert 5.0 + run.segments.shift_s == pytest.approx(100.0)
        assert [line["jumped_s"] for line in RunReader(path).journal() if line["event"] == "clock"] == [-3595.0]
    with RunWriter.resume(path) as run:  # set right: the true distance
        run.note_clock(1e9 + 200, simulated=False, began_s=5.0, left_s=100.0)
        assert run.segments.shift_s == pytest.approx(200.0)


def test_host_time_goes_on_steadily_though_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = hosttime.host_time_s(), time.time
    assert before == pytest.approx(real(), abs=5)
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert 0 <= hosttime.host_time_s() - before < 60


def test_readings_of_monitors_stay_on_the_clock_of_the_frames(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a camera that is not simulated: both are stamped by the host, whose clock is set back meanwhile."""
    from labctl.bench import acquirer, monitors

    real, asked = time.time, [0]

    def set_back() -> float:
        asked[0] += 1
        return real() - (3600 if asked[0] > 3 else 0)

    station = tmp_path / "metered.toml"
    station.write_text(small_file.read_text() + METER)
    for module in (acquirer, monitors):
        can = module.can
        monkeypatch.setattr(
            module, "can", lambda device, kind, can=can: kind.__name__ != "Simulated" and can(device, kind)
        )
    monkeypatch.setattr(time, "time", set_back)
    assert labctl(station, tmp_path / "runs", "calibrate", "timing") == 0
    arrays = [segment.arrays for segment in newest(tmp_path / "runs").segments()]
    times = np.concatenate([found["monitor_meter_at_s"] for found in arrays if "monitor_meter_at_s" in found])
    assert len(times) > 0
    assert (np.diff(times) >= 0).all()
    assert (np.abs(times) < 300).all()


def test_a_correction_is_no_jump() -> None:
    jumps = Jumps()
    with played_at(utc_now() + dt.timedelta(seconds=3)):
        assert jumps.since_last() == 0
    with played_at(utc_now() - dt.timedelta(seconds=30)):
        assert jumps.since_last() == pytest.approx(-30, abs=2)
        assert jumps.since_last() == 0
    assert jumps.since_last() == pytest.approx(30, abs=2)


def test_parent_measured_in_the_same_run_was_not_measured_again_since(
    calibrated_once: Path, small_file: Path, tmp_path: Path
) -> None:
    """Set back within the run: by its dates the child came first."""
    runs = shutil.copytree(calibrated_once, tmp_path / "runs")
    path = newest(runs).path / "summary.json"
    summary = newest(runs).summary()
    late = [
        n.model_copy(update={"at": n.at + dt.timedelta(minutes=4)}) if n.name == "gain" else n for n in summary.nodes
    ]
    path.write_text(summary.model_copy(update={"nodes": late}).to_json())
    with played_at(utc_now() + HOUR):
        due = {status.name for status in statuses(runs, load_station(small_file)) if status.due}
    assert due == {"validation", "export"}
