"""``progress.json``: what a run says of where it is; written seldom, and never the end of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from labctl.archive.progress import PROGRESS, SPACING_S, Progress, ProgressFile, read_progress
from labctl.engine.tracker import Tracker


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_frames_rate_and_time_left_are_those_of_the_steps(tmp_path: Path) -> None:
    clock = Clock()
    tracker = Tracker(tmp_path, clock)
    tracker.plan({"dark": 16, "gain": 200, "validation": None})
    tracker.begin_node("dark")
    tracker.advance(16)  # an earlier process has read them: that is no speed
    tracker.begin_node("gain")
    for _ in range(2):
        tracker.begin_step("gain", 50)
        clock.now_s += 2.0
        tracker.advance(50)
    tracker.begin_step("gain", 50)
    clock.now_s += 0.5
    assert tracker.step_left_s == pytest.approx(1.5)
    tracker.look()
    document = read_progress(tmp_path)
    assert document is not None
    assert document["schema"] == "labctl.progress/1"
    assert (document["state"], document["node"], document["step"]) == ("measuring", "gain", "gain")
    assert document["node_frames"] == {"done": 100, "total": 200}
    assert document["run_frames"] == {"done": 116, "total": None}
    assert document["frames_per_s"] == 25
    assert document["left_s"] is None
    tracker.plan({"validation": 84})
    clock.now_s += 1
    tracker.look()
    document = read_progress(tmp_path)
    assert document is not None
    assert document["left_s"] == pytest.approx((300 - 116) / 25, abs=0.05)


def test_run_that_waits_for_an_interlock_says_so(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.begin_node("gain")
    for event, state in (("suspended", "suspended"), ("segment", "suspended"), ("resumed", "measuring")):
        tracker.hear(event)
        assert tracker.state == state
    document = read_progress(tmp_path)
    assert document is not None
    assert document["state"] == "measuring"


def test_file_is_replaced_at_most_twice_a_second(tmp_path: Path) -> None:
    clock, asked = Clock(), 0

    def progress() -> Progress:
        nonlocal asked
        asked += 1
        return Progress("run", "measuring")

    file = ProgressFile(tmp_path, clock)
    for _ in range(1000):
        file.write(progress)
        clock.now_s += 0.01
    assert asked == pytest.approx(10 / SPACING_S, abs=1)


def test_looking_costs_less_than_a_hundredth_of_a_step(tmp_path: Path) -> None:
    """A step of 64 frames at 60 Hz lasts a second, in which the file is replaced twice."""
    tracker = Tracker(tmp_path)
    tracker.plan({"gain": 10**6})
    tracker.begin_node("gain")
    began_s = time.process_time()
    for _ in range(100):
        tracker.look(at_once=True)
    assert (time.process_time() - began_s) / 50 < 0.01


def test_full_disk_drops_the_file_and_raises_nothing(mount, tmp_path: Path) -> None:
    folder = mount("size=64k")
    file = ProgressFile(folder)
    file.write(lambda: Progress("run", "measuring"), at_once=True)
    (folder / "filler").write_bytes(b"")
    with pytest.raises(OSError, match="space"):
        (folder / "filler").write_bytes(bytes(1 << 20))
    file.write(lambda: Progress("run", "closing"), at_once=True)
    document = read_progress(folder)
    assert document is not None
    assert document["state"] == "measuring"
    assert {path.name for path in folder.iterdir()} == {"filler", PROGRESS}


def test_what_is_no_progress_is_none(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS).write_text("{")
    assert read_progress(tmp_path) is None
    (tmp_path / PROGRESS).write_text(json.dumps({"schema": "another"}))
    assert read_progress(tmp_path) is None


def test_total_is_what_nodes_read_in_the_end_whatever_was_planned(tmp_path: Path) -> None:
    """Couplings that were not needed, a check that failed, and steps counted only when they are made."""
    tracker = Tracker(tmp_path)
    tracker.plan({"dark": 4, "couplings": 433, "validation": None})
    tracker.begin_node("dark")
    tracker.advance(4)  # the quick check, which fails
    tracker.count(16)
    assert tracker.frames is None
    tracker.advance(16)
    tracker.begin_node("couplings")
    tracker.count(0)
    tracker.begin_node("validation")
    tracker.count(84)
    assert tracker.frames == 4 + 16 + 84
    tracker.advance(84)
    tracker.look(at_once=True)
    document = read_progress(tmp_path)
    assert document is not None
    assert document["run_frames"] == {"done": 104, "total": 104}
