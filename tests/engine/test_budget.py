"""A time budget: what does not fit into it is not begun, the run is partial, and goes on with another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, find_run
from labctl.archive.progress import read_progress
from labctl.durations import in_words
from labctl.engine import session, walk
from labctl.engine.budget import Budget, budget_of
from labctl.engine.plan import Planned
from labctl.errors import BudgetSpent, UsageError


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


Calibrate = Callable[..., int]


@pytest.fixture
def calibrate(small_file: Path, tmp_path: Path) -> Calibrate:
    def run(*words: str) -> int:
        return main(["calibrate", *words, "--bench", str(small_file), "--runs", str(tmp_path), "--quiet"])

    return run


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("3h", 10800), ("1h30m", 5400)])
def test_budget_is_typed_as_people_say_it(text: str, seconds: float) -> None:
    budget = budget_of(text)
    assert budget is not None
    assert budget.given_s == seconds
    assert budget_of(None) is None


@pytest.mark.parametrize("text", ["3 hours", "", "h", "-3h", "1m1h", "0s", "nan", "3h!"])
def test_what_is_no_time_is_refused_before_anything_is_done(text: str, calibrate: Calibrate, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        budget_of(text)
    assert calibrate(f"--budget={text}") == 2
    assert list(tmp_path.iterdir()) == []


def test_time_is_taken_from_the_clock_and_missing_time_is_named() -> None:
    clock = Clock()
    budget = Budget(600, clock)
    clock.now_s += 540
    budget.require(60, "gain", "20261129T000000Z-measure-k7f2")
    with pytest.raises(BudgetSpent) as caught:
        budget.require(61, "gain", "20261129T000000Z-measure-k7f2", rest_s=700)
    error = caught.value
    assert (error.exit_code, error.device) == (30, "20261129T000000Z-measure-k7f2")
    assert error.expected == "1 min 01 s for it"
    assert error.seen == "1 min left of 10 min; 10 min 40 s are missing for all that is left"
    assert error.hint == "labctl run resume k7f2 --budget 13m"
    spent = budget.spent()
    assert spent is not None
    assert (spent.given_s, spent.used_s) == (600, 540)


def test_analysis_that_takes_longer_than_anybody_knew_ends_partial_and_not_as_a_fault(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit goes on for a minute after the time is over; the supervisor would end it then as a fault."""
    real = walk.analyse

    def slow(node: Any, desk: Any) -> Any:
        if node.name == "timing":
            monkeypatch.setattr(Budget, "left_s", -60.0)
            desk.setting.tell("round 1")
            pytest.fail("the fit went on")
        return real(node, desk)

    monkeypatch.setattr(walk, "analyse", slow)
    assert calibrate("timing", "--budget", "1h") == 30
    monkeypatch.undo()
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "partial"
    assert [(node.name, node.state) for node in run.summary().nodes] == [("dark", "done"), ("timing", "skipped")]
    assert main(["run", "resume", "latest", "--runs", str(tmp_path), "--quiet"]) == 0


def test_without_a_budget_everything_fits() -> None:
    Budget().require(1e12, "gain", "k7f2")
    assert Budget().spent() is None


def test_spans_of_time_are_told_apart_however_short() -> None:
    spans = (0, 0.01, 0.32, 9.7, 44.6, 59.9, 125, 600, 4215, 14400, 3599.9)
    assert [in_words(s) for s in spans] == [
        "0 s", "less than 0.1 s", "0.3 s", "9.7 s", "45 s", "1 min", "2 min 05 s", "10 min", "1 h 10 min", "4 h", "1 h",
    ]  # fmt: skip


def test_time_that_is_over_is_not_said_to_be_nought_seconds_that_do_not_suffice() -> None:
    clock = Clock()
    budget = Budget(1, clock)
    clock.now_s += 1.2
    with pytest.raises(BudgetSpent, match="the time was over before export") as caught:
        budget.require(0.0, "export", "20261129T000000Z-measure-k7f2")
    assert caught.value.seen == "nothing left of 1 s"
    with pytest.raises(BudgetSpent) as short:
        Budget(1, clock).require(1.4, "dark", "20261129T000000Z-measure-k7f2")
    assert (short.value.expected, short.value.seen) == ("1.4 s for it", "1 s left of 1 s")


def test_node_that_does_not_fit_is_not_begun_and_a_new_budget_goes_on(calibrate: Calibrate, tmp_path: Path) -> None:
    """The look-up tables take more device time than there is, by far, and the nodes before them less, by far."""
    slow = ("--set", "acquisition.display_settle_frames=1000")
    assert calibrate("lut", "--budget", "600s", *slow) == 30
    run = RunReader(find_run(tmp_path, "latest"))
    summary = run.summary()
    assert summary is not None
    assert (run.status, summary.exit_code, summary.first_error.code) == ("partial", 30, "E-BUD-001")
    assert [(n.name, n.state) for n in summary.nodes][-1] == ("lut", "skipped")
    assert "lut" not in {row.kind for row in run.manifest}
    assert run.manifest
    assert run.verify().intact
    assert summary.budget.given_s == 600
    assert 0 < summary.budget.used_s < 600
    assert main(["run", "resume", "latest", "--budget", "1s", "--runs", str(tmp_path), "--quiet"]) == 30
    assert main(["run", "resume", "latest", "--budget", "1h", "--runs", str(tmp_path), "--quiet"]) == 0
    whole = RunReader(find_run(tmp_path, "latest"))
    assert whole.status == "ok"
    assert [row.sha256 for row in whole.manifest][: len(run.manifest)] == [row.sha256 for row in run.manifest]


def test_no_device_is_opened_where_not_even_the_first_node_fits(calibrate: Calibrate, tmp_path: Path) -> None:
    assert calibrate("dark", "--budget", "0.001s") == 30
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "partial"
    assert not (run.path / "snapshot-start.json").exists()


def test_couplings_that_the_bench_does_not_need_are_given_no_time_and_no_frames(
    calibrate: Calibrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most they take a day here; what is measured before them decides that they take nothing."""
    real = session.planned

    def slow_couplings(*arguments: Any) -> list[Planned]:
        return [replace(one, seconds=86400.0) if one.node == "couplings" else one for one in real(*arguments)]

    monkeypatch.setattr(session, "planned", slow_couplings)
    assert calibrate("couplings", "--budget", "1h") == 0
    folder = find_run(tmp_path, "latest")
    assert "couplings" in {node.name for node in RunReader(folder).summary().nodes if node.state == "done"}
    progress = read_progress(folder)
    assert progress is not None
    assert progress["run_frames"]["done"] == progress["run_frames"]["total"] > 0
