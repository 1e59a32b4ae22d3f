"""``labctl mock serve`` and our own drivers against it: the command, and the loop over real protocols."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import LIMIT_S

from drivers.libraries.xserver import INSTALL, DummyX
from drivers.testing import require_program
from labctl.station import load_station

SMALL = """
[bench]
name = "small"
[layout]
rows = 32
columns = 32
[mock]
seed = 1
[mock.slm]
rows = 256
cols = 320
[mock.display]
rows = 256
cols = 320
[mock.camera]
rows = 310
cols = 380
"""
PACKET = 9000


def _document(lines: Iterable[str]) -> Iterator[str]:
    """Lines up to the one that ends a JSON object."""
    for line in lines:
        yield line
        if line == "}\n":
            return


@contextmanager
def serving(station: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``labctl mock serve`` in a process of its own, and what it says once it serves."""
    command = [sys.executable, "-m", "labctl", "mock", "serve", "--bench", str(station), "--json", "--meter-port", "0"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert process.stdout is not None
            said = "".join(_document(process.stdout))
            yield process, json.loads(said)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_command_serves_until_it_is_stopped(
    gige_port: None, small: Path, tmp_path: Path, client: Callable[[], Any], stop: signal.Signals
) -> None:
    link, station = tmp_path / "laser", tmp_path / "served.toml"
    with serving(small, "--laser-link", str(link), "--write-station", str(station)) as (process, said):
        assert client().get("SensorWidth") == "380"
        loaded = load_station(station).station
        assert loaded.bench.name == "small-served"
        assert loaded.bench.mode == "mock"
        assert loaded.devices.one("camera").options == said["devices"]["camera"]["options"]
        assert link.is_symlink()
        process.send_signal(stop)
        assert process.wait(LIMIT_S) == 0
    assert not link.is_symlink()


def test_the_command_ends_with_an_error_when_a_monitor_goes(
    gige_port: None, three_monitors: DummyX, small: Path, tmp_path: Path, client: Callable[[], Any], viva: Any
) -> None:
    arguments = "--slm-output", "DUMMY2", "--laser-link", str(tmp_path / "laser")
    with serving(small, *arguments) as (process, _):
        camera = client()
        with suppress(viva.GenicamError), camera.stream(packet_size=PACKET) as frames:
            next(iter(frames))
            three_monitors.stop()
            assert process.wait(LIMIT_S) == 20
        assert process.returncode == 20
        assert process.stderr is not None
        error = process.stderr.read()
        assert "E-DEV-005" in error
        assert "Traceback" not in error
        assert "the monitor DUMMY2 cannot be read any more" in error


def test_a_station_file_is_not_written_over(gige_port: None, small: Path, tmp_path: Path) -> None:
    with serving(small, "--laser-link", str(tmp_path / "laser"), "--write-station", str(small)) as (process, _):
        assert process.wait(LIMIT_S) == 2
    assert small.read_text() == SMALL


def labctl(*arguments: str) -> dict[str, Any]:
    """The document that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "labctl", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_calibration_over_real_protocols_finds_the_bench(
    gige_port: None, three_monitors: DummyX, small: Path, tmp_path: Path
) -> None:
    station, runs = tmp_path / "served.toml", tmp_path / "runs"
    monitors = "--display-output", "DUMMY1", "--slm-output", "DUMMY2"
    with serving(small, *monitors, "--laser-link", str(tmp_path / "laser"), "--write-station", str(station)):
        checked = labctl("station", "check", "--bench", str(station))
        summary = labctl("calibrate", "registration", "--bench", str(station), "--runs", str(runs))
    assert checked["failed"] == 0
    assert summary["mode"] == "mock"
    assert (summary["counts"]["discarded"], summary["counts"]["retried"]) == (0, 0)
    metrics = {metric["name"]: metric for metric in summary["metrics"]}
    assert abs(metrics["dark_level"]["value"] - 101.2) < 0.2
    assert 1 <= metrics["slm_settle_frames_needed"]["value"] <= 4
    assert 1 <= metrics["display_settle_frames_needed"]["value"] <= 3  # one step shows no more
    assert metrics["registration_slm_rms"]["verdict"] == metrics["registration_display_rms"]["verdict"] == "ok"
    (folder,) = runs.glob("*/*/*/*-calibrate-*")
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    powers_w = [entry["value"] for entry in journal if entry.get("device") == "power"]
    assert powers_w
    assert all(value == 0 or abs(value / 1e-3 - 1) < 6 * 0.002 for value in powers_w)
    assert any(powers_w)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_calibration_over_real_protocols_is_the_one_of_the_bench_itself(gige_port: None) -> None:
    require_program("Xorg", INSTALL)
    here = Path(__file__).parents[2] / "benchmarks"
    done = subprocess.run(
        [sys.executable, "served_loop.py", "--quick", "--json"], capture_output=True, text=True, check=False, cwd=here
    )
    assert done.returncode == 0, done.stderr
    missed = [entry for entry in json.loads(done.stdout)["figures"] if entry["reached"] is False]
    assert missed == []
