"""Stop signals: the first lets the block come to its end, the second does not; in a fit and elsewhere nobody waits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.engine import analyst, walk
from labctl.engine.tracker import Tracker

AT_STEP = 3


@pytest.fixture(scope="module")
def whole(small_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Hashes of the segments of the same run when nobody stops it."""
    runs = tmp_path_factory.mktemp("whole")
    assert main(["calibrate", "registration", "--bench", str(small_file), "--runs", str(runs), "--quiet"]) == 0
    return [row.sha256 for row in RunReader(find_run(runs, "latest")).manifest]


@pytest.fixture
def calibrate(small_file: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*words: str) -> int:
        return main(["calibrate", *(words or ("registration",)), "--bench", str(small_file), "--runs", str(tmp_path)])

    return run


@pytest.fixture
def during_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Has something done while a step is read."""
    begin, steps = Tracker.begin_step, 0

    def arrange(what: Callable[[], None]) -> None:
        def begin_and_do(self: Tracker, kind: str, rows: int) -> None:
            nonlocal steps
            begin(self, kind, rows)
            steps += 1
            if steps == AT_STEP:
                what()

        monkeypatch.setattr(Tracker, "begin_step", begin_and_do)

    yield arrange
    assert steps >= AT_STEP


def newest(runs: Path) -> RunReader:
    return RunReader(find_run(runs, "latest"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_finishes_the_block_and_the_run_goes_on_to_the_same_end(
    number: int, code: int, calibrate, during_step, whole: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    during_step(lambda: signal.raise_signal(number))
    assert calibrate() == code
    run = newest(tmp_path)
    assert run.status == "aborted"
    assert run.verify().intact
    assert [row.sha256 for row in run.manifest] == whole[:AT_STEP]
    told = capsys.readouterr().err
    assert "Stopping after this block (about " in told
    assert "what was read is kept" in told
    assert ("Press Ctrl-C again to stop now." in told) == (number == signal.SIGINT)
    assert f"go on: labctl run resume {run.run_id[-4:]}" in told
    assert main(["run", "resume", "latest", "--runs", str(tmp_path), "--quiet"]) == 0
    assert [row.sha256 for row in newest(tmp_path).manifest] == whole


def test_second_ctrl_c_stops_now_and_twenty_do_no_more(
    calibrate, during_step, whole: list[str], tmp_path: Path
) -> None:
    def press() -> None:
        try:
            for _ in range(20):
                signal.raise_signal(signal.SIGINT)
        finally:
            for _ in range(18):
                signal.raise_signal(signal.SIGINT)

    during_step(press)
    assert calibrate() == 130
    run = newest(tmp_path)
    assert run.status == "aborted"
    assert run.verify().intact
    assert [row.sha256 for row in run.manifest] == whole[: AT_STEP - 1]


def test_fit_is_not_waited_for(calibrate, whole: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_in_the_fit(node: Any, desk: Any) -> Any:
        if node.name == "registration":
            signal.raise_signal(signal.SIGINT)
            desk.setting.tell("round 1")
            pytest.fail("the fit went on")
        return analyst.analyse(node, desk)

    monkeypatch.setattr(walk, "analyse", press_in_the_fit)
    assert calibrate() == 130
    run = newest(tmp_path)
    assert run.status == "aborted"
    assert [row.sha256 for row in run.manifest] == whole
    assert [node.name for node in run.summary().nodes] == ["dark", "timing"]


def test_report_is_not_waited_for(calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_in_the_report(*arguments: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the report went on")

    monkeypatch.setattr("labctl.report.write_report", press_in_the_report)
    assert calibrate("dark") == 130
    assert newest(tmp_path).status == "aborted"


def test_run_that_waits_for_an_interlock_stops_at_once(
    calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hear = Tracker.hear

    def hear_and_press(self: Tracker, event: str) -> None:
        hear(self, event)
        if event == "suspended":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Tracker, "hear", hear_and_press)
    faults = ("--set", 'mock.faults=["interlock@30"]', "--set", "acquisition.interlock_wait_s=600")
    assert calibrate("registration", "--set", "devices.interlock.backend='mock.interlock'", *faults) == 130
    run = newest(tmp_path)
    assert run.status == "aborted"
    assert [line["event"] for line in run.journal()].count("suspended") == 1
    assert "Stopping; what was read is kept." in capsys.readouterr().err
