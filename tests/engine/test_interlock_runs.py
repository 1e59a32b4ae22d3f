"""Runs whose interlock opens: no light before, a wait for a while, and what was read meanwhile is not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.protocols import Ok, Trip
from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.bench import interlocks
from mock_hardware.bench import MockBench
from mock_hardware.devices import MockSource
from mock_hardware.slow import MockInterlock

DOOR = '\n[devices.door]\nrole = "interlock"\nbackend = "mock.interlock"\n'


class Watched:
    """The doors and the light of all benches that a test has opened."""

    def __init__(self) -> None:
        self.doors: list[MockInterlock] = []
        self.lit_while_open = 0
        self.switched_on = 0
        self.exposed_open: list[int] = []


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """What really happened, whatever the program believes; waiting is short."""
    seen = Watched()
    init, on, expose = MockInterlock.__init__, MockSource.on, MockBench.expose

    def made(self: MockInterlock, *arguments: Any, **more: Any) -> None:
        init(self, *arguments, **more)
        seen.doors.append(self)

    def switched_on(self: MockSource, timeout_s: float = 5.0) -> None:
        seen.switched_on += 1
        seen.lit_while_open += any(door.is_open for door in seen.doors if door._bench_or_gone is self.bench)
        on(self)

    def exposed(self: MockBench, *arguments: Any, **more: Any) -> Any:
        if self.is_lit and any(door.is_open for door in seen.doors if door._bench_or_gone is self):
            seen.exposed_open.append(self.sequence)
        return expose(self, *arguments, **more)

    monkeypatch.setattr(MockInterlock, "__init__", made)
    monkeypatch.setattr(MockSource, "on", switched_on)
    monkeypatch.setattr(MockBench, "expose", exposed)
    monkeypatch.setattr(interlocks, "STAYS_CLOSED_S", 0.02)
    monkeypatch.setattr(interlocks, "POLL_S", 0.01)
    return seen


@pytest.fixture
def guarded(small_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "guarded.toml"
    path.write_text(small_file.read_text() + DOOR)
    return path


def calibrate(station: Path, runs: Path, *more: str, node: str = "noise") -> int:
    return main(["calibrate", node, "--bench", str(station), "--runs", str(runs), "--quiet", *more])


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


def events(run: RunReader, name: str) -> list[dict[str, Any]]:
    return [line for line in run.journal() if line["event"] == name]


def kept_frames(run: RunReader) -> set[int]:
    """Numbers of the frames of scans that are in the run."""
    return {int(n) for s in run.segments() if "sequence" in s.arrays for n in s.arrays["sequence"]}


def readings(run: RunReader, scan: str) -> Any:
    return np.concatenate([s.arrays["readings_dn"] for s in run.segments() if s.attrs.get("scan") == scan])


def test_run_waits_for_an_interlock_and_reads_again_what_it_opened_in(
    guarded: Path, tmp_path: Path, watched: Watched
) -> None:
    assert calibrate(guarded, tmp_path / "undisturbed") == 0
    undisturbed = newest(tmp_path / "undisturbed")
    ramp = next(s for s in undisturbed.segments() if s.attrs.get("scan") == "slm_ramp")
    at = int(ramp.arrays["sequence"][10])
    watched.doors.clear()
    assert calibrate(guarded, tmp_path / "runs", "--set", f'mock.faults=["interlock@{at}:4", "interlock@20:2"]') == 0
    run, (door,) = newest(tmp_path / "runs"), watched.doors
    assert door.opened_at == [20, at]
    suspended = events(run, "suspended")
    assert [line["device"] for line in suspended] == ["door", "door"]
    assert "fault script" in suspended[0]["reason"]
    assert len([line for line in events(run, "resumed") if "waited_s" in line]) == 2
    assert [line["step"] for line in events(run, "again")] == ["dark", "probe"]
    assert watched.exposed_open  # the step went on until somebody asked …
    assert not kept_frames(run) & set(watched.exposed_open)  # … and nothing of it was kept
    assert watched.lit_while_open == 0
    summary = run.summary()
    assert [(one.device, one.event) for one in summary.device_events] == 2 * [("door", "suspended")]
    assert "closed again after" in summary.device_events[0].words
    assert summary.counts.retried > 0
    for scan in ("slm_ramp", "display_ramp", "noise"):
        then, now = readings(undisturbed, scan), readings(run, scan)
        assert then.shape == now.shape
        assert now == pytest.approx(then, abs=0.05 * then.max())


def test_flapping_interlock_never_keeps_a_frame_and_ends_the_run_when_it_is_too_often(
    guarded: Path, tmp_path: Path, watched: Watched
) -> None:
    flapping = ("--set", 'mock.faults=["interlock%0.01:2"]', "--set", "acquisition.interlock_trips_max=4")
    assert calibrate(guarded, tmp_path, *flapping) == 21
    run = newest(tmp_path)
    assert (run.status, run.summary().exit_code) == ("interlock", 21)
    assert run.verify().intact
    assert len(events(run, "suspended")) == 5
    assert "at most 4 times" in run.summary().first_error.expected
    assert run.run_id[-4:] in run.summary().first_error.hint
    assert not kept_frames(run) & set(watched.exposed_open)
    assert watched.lit_while_open == 0


def test_interlock_that_stays_open_ends_the_run_after_the_wait(
    guarded: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check, asked = MockInterlock.check, list[bool]()
    monkeypatch.setattr(MockInterlock, "check", lambda door, timeout_s=2.0: asked.append(door.is_open) or check(door))
    faults = ("--set", 'mock.faults=["interlock@30"]', "--set", "acquisition.interlock_wait_s=0.3")
    assert calibrate(guarded, tmp_path, *faults) == 21
    assert sum(asked) < 10 + 0.3 / interlocks.POLL_S  # in the minute that is not set here it would be asked thousands
    run = newest(tmp_path)
    assert run.status == "interlock"
    assert [node.state for node in run.summary().nodes][-1] == "failed"
    (event,) = run.summary().device_events
    assert "not closed in time" in event.words
    error = capsys.readouterr().err
    assert "closed again within 0.3 s" in error
    assert "the light was switched off first" in error
    assert main(["run", "resume", "latest", "--runs", str(tmp_path), "--quiet"]) == 21  # the script trips again


def test_interlock_that_is_open_at_the_start_is_refused_at_once_and_nothing_is_lit(
    guarded: Path, tmp_path: Path, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert calibrate(guarded, tmp_path, "--set", 'devices.door.options.tripped="key is out"', node="timing") == 21
    assert watched.switched_on == 0
    assert events(newest(tmp_path), "suspended") == []
    assert "the light was not switched on" in capsys.readouterr().err


def test_an_interlock_that_stays_closed_changes_nothing(
    guarded: Path, small_file: Path, tmp_path: Path, watched: Watched
) -> None:
    assert calibrate(guarded, tmp_path / "a", node="lut") == 0
    assert calibrate(small_file, tmp_path / "b", node="lut") == 0
    first, second = ([row.sha256 for row in newest(tmp_path / runs).manifest] for runs in "ab")
    assert first == second


def test_wait_beats_and_asks_again_a_moment_after_it_closed(
    guarded: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed, and open again within the moment, is not closed yet."""
    answers = [Trip("bounced"), Ok(), Trip("bounced"), Ok(), Ok()]
    check, asked, beats = MockInterlock.check, [0], [0]

    def bouncing(self: MockInterlock, timeout_s: float = 2.0) -> Any:
        asked[0] += 1
        return answers.pop(0) if asked[0] > 4 and answers else check(self)

    monkeypatch.setattr(MockInterlock, "check", bouncing)
    monkeypatch.setattr("labctl.engine.supervisor.beat", lambda: beats.__setitem__(0, beats[0] + 1))
    assert calibrate(guarded, tmp_path, node="timing") == 0
    assert answers == []
    assert len(events(newest(tmp_path), "suspended")) == 1
    assert beats[0] > 4
