"""Retention removes the raw data of old good nights, and whoever looks at such a run is told so."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labctl.archive import RunReader, RunWriter, lock, verify_run
from labctl.archive.atomic import read_lines
from labctl.archive.calibrations import CalibrationRow, CalibrationStore
from labctl.archive.removal import REMOVED
from labctl.archive.retention import Collected, collect, pin, unpin
from labctl.clock import played_at
from labctl.errors import ClockDoubtful, RunDamaged
from labctl.night.ending import Ended, end_of_night
from labctl.night.owed import NightBench
from labctl.station.loading import load_station
from labctl.station.model import Nightly
from labctl.summary import CalibrationRef, Summary
from labctl.verdicts import Verdict

NOW = dt.datetime(2026, 6, 28, tzinfo=dt.UTC)
Invoke = Callable[..., tuple[int, str, str]]


def night(runs: Path, day: int, verdict: Verdict = Verdict.OK, calibration: str | None = None) -> Path:
    """A run of the given day of May."""
    with played_at(dt.datetime(2026, 5, day, 2, tzinfo=dt.UTC)), RunWriter.create(runs, "demo", load_station()) as run:
        run.write_segment("dark", {"signal_dn": np.full((2, 4), day, np.uint16)})
        reference = CalibrationRef(id=calibration, path="") if calibration else None
        run.finish(verdict, Summary(run_id=run.run_id, verdict=verdict, calibration=reference))
        return run.path


def nights_of(runs: Path, *days: dt.date) -> list[Path]:
    """Good nights at two o'clock of these days."""
    made = []
    for day in days:
        at = dt.datetime(day.year, day.month, day.day, 2, tzinfo=dt.UTC)
        with played_at(at), RunWriter.create(runs, "nightly", load_station()) as run:
            run.write_segment("dark", {"signal_dn": np.full((2, 4), day.day, np.uint16)})
            run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK))
            made.append(run.path)
    return made


def raw(folder: Path) -> int:
    return len(list((folder / "segments").glob("*.h5")))


def why(found: Collected) -> dict[str, str]:
    return {run.run_id: run.why for run in found.runs}


@pytest.fixture
def nights(runs: Path) -> tuple[Path, Path]:
    """The first night of a month, and the second."""
    return night(runs, 2), night(runs, 3)


def test_only_old_good_nights_lose_their_raw_data(runs: Path, nights: tuple[Path, Path]) -> None:
    first, old = nights
    young, failed, exported, pinned = (
        night(runs, 30),
        night(runs, 4, Verdict.FAULT),
        night(runs, 5, calibration="cal-1"),
        night(runs, 6),
    )
    (runs / "calibrations").mkdir()
    (runs / "calibrations" / "cal-1.calib.h5").write_bytes(b"its header cannot be read")
    pin(pinned, "for the paper")
    looked = collect(runs, 30, NOW)
    assert [run.path for run in looked.going] == [old]
    assert raw(old) == 1
    assert why(looked)[failed.name] == "the run is fault"
    assert why(looked)[exported.name] == "a calibration in the store rests on it"
    done = collect(runs, 30, NOW, delete=True)
    assert (done.going, done.bytes) == (looked.going, looked.bytes)
    assert [raw(path) for path in (first, old, young, failed, exported, pinned)] == [1, 0, 1, 1, 1, 1]
    assert unpin(pinned)
    assert [run.path for run in collect(runs, 30, NOW).going] == [pinned]
    assert [line["run_id"] for line in read_lines(runs / "gc.jsonl")] == [old.name]


def test_such_a_run_verifies_and_refuses_to_be_read(runs: Path, nights: tuple[Path, Path], labctl: Invoke) -> None:
    assert labctl("run", "gc", "--keep", "30", "--delete", "--runs", str(runs))[0] == 0
    code, out, _ = labctl("run", "verify", str(nights[1]), "--runs", str(runs))
    assert code == 0
    assert "by retention; everything else intact" in out
    with pytest.raises(RunDamaged, match=r"removed on .* by retention"):
        list(RunReader(nights[1]).segments())


def test_any_other_loss_is_still_found(runs: Path, nights: tuple[Path, Path]) -> None:
    collect(runs, 30, NOW, delete=True)
    first, old = nights
    (old / "summary.json").write_text("{}")
    assert [problem.path for problem in verify_run(old).problems] == ["summary.json"]
    shutil.copy(old / REMOVED, first)
    next((first / "segments").glob("*.h5")).unlink()
    assert {problem.what for problem in verify_run(first).problems} == {"not of this seal", "missing"}


def test_deletion_that_was_stopped_is_finished_by_the_next(
    runs: Path, nights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            collect(runs, 30, NOW, delete=True)
    assert raw(nights[1]) == 1
    assert verify_run(nights[1]).intact
    assert [run.path for run in collect(runs, 30, NOW, delete=True).going] == [nights[1]]
    assert raw(nights[1]) == 0


def test_without_time_one_whole_run_goes_the_oldest_first_and_the_rest_is_named(
    runs: Path, nights: tuple[Path, Path]
) -> None:
    old, later = nights[1], night(runs, 4)
    found = collect(runs, 30, NOW, delete=True, time_s=0)
    assert [run.path for run in found.going] == [old]
    assert [run.path for run in found.left] == [later]
    assert (raw(old), raw(later)) == (0, 1)
    assert not (later / REMOVED).exists()
    assert found.bytes == found.going[0].bytes
    again = collect(runs, 30, NOW, delete=True, time_s=0)
    assert ([run.path for run in again.going], again.left) == ([later], ())
    assert verify_run(later).intact


def test_ending_of_a_night_says_what_retention_has_left_for_the_next(
    runs: Path, nights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = night(runs, 4)
    monkeypatch.setattr("labctl.night.ending.RETENTION_S", 0.0)
    bench = NightBench("mock", Nightly(remove_raw_data=True, keep_nights=30))
    warned: list[str] = []
    with played_at(NOW):
        for left_over in (1, 0):
            end_of_night(Ended(runs, bench, Summary(verdict=Verdict.OK)), warned.append)
            assert raw(nights[1]) == 0
            assert raw(later) == left_over
    (line,) = read_lines(runs / "night.jsonl")
    assert line["step"] == "retention"
    assert line["left"].startswith("raw data of 1 runs")
    assert warned == []


def test_run_behind_a_link_or_in_use_is_left_alone(runs: Path, nights: tuple[Path, Path], tmp_path: Path) -> None:
    held = lock.hold(nights[1])
    assert why(collect(runs, 30, NOW, delete=True))[nights[1].name] == "in use"
    held.release()
    elsewhere = tmp_path / "elsewhere"
    shutil.move(nights[1] / "segments", elsewhere)
    (nights[1] / "segments").symlink_to(elsewhere)
    assert why(collect(runs, 30, NOW, delete=True))[nights[1].name] == "lies behind a link"
    assert len(list(elsewhere.glob("*.h5"))) == 1


def test_node_whose_readings_were_removed_is_due_and_says_so(runs: Path) -> None:
    from labctl.engine.graph import statuses
    from labctl.nodes.registry import BY_DAY
    from labctl.summary import Node

    name = BY_DAY[0].name
    night(runs, 2)
    with played_at(dt.datetime(2026, 5, 3, 2, tzinfo=dt.UTC)), RunWriter.create(runs, "demo", load_station()) as run:
        run.write_segment("dark", {"signal_dn": np.zeros((2, 4), np.uint16)})
        at = dt.datetime(2026, 5, 3, 2, tzinfo=dt.UTC)
        node = Node(name=name, state="done", check="in_spec", at=at)
        run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK, started=at, nodes=[node]))
    collect(runs, 30, NOW, delete=True)
    status = statuses(runs, load_station())[0]
    assert status.due
    assert status.because.startswith("readings removed by retention")


def test_file_that_two_runs_hold_frees_the_disk_once_and_only_with_the_last(
    runs: Path, nights: tuple[Path, Path]
) -> None:
    first, old = nights
    shared = next((old / "segments").glob("*.h5"))
    size = shared.stat().st_size
    assert collect(runs, 30, NOW).bytes == size
    (first / "shared").hardlink_to(shared)
    assert collect(runs, 30, NOW, delete=True).bytes == 0
    assert (first / "shared").stat().st_size == size


def test_hard_linked_file_counts_with_the_last_run_that_goes_and_not_twice(
    runs: Path, nights: tuple[Path, Path], labctl: Invoke
) -> None:
    _, old = nights
    later = night(runs, 4)
    shared = next((old / "segments").glob("*.h5"))
    (mine := next((later / "segments").glob("*.h5"))).unlink()
    mine.hardlink_to(shared)
    found = {run.path: run.bytes for run in collect(runs, 30, NOW).runs}
    assert (found[old], found[later]) == (0, shared.stat().st_size)
    assert sum(run.bytes for run in collect(runs, 30, NOW).going) == collect(runs, 30, NOW).bytes


def exported(runs: Path, *days: int, purpose: str = "nightly") -> list[Path]:
    """Nights that of these days of May, each with a calibration that replaces the one before."""
    made, store = [], CalibrationStore(runs)
    for day in days:
        name = f"cal-{day}"
        at = dt.datetime(2026, 5, day, 2, tzinfo=dt.UTC)
        with played_at(at), RunWriter.create(runs, purpose, load_station()) as run:
            run.write_segment("dark", {"signal_dn": np.full((2, 4), day, np.uint16)})
            reference = CalibrationRef(id=name, path="")
            run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK, calibration=reference))
            header = {"schema": "calibration/1", "bench": "mock", "run_id": run.run_id, "acquired": at.isoformat()}
            store.folder.mkdir(exist_ok=True)
            with h5py.File(store.path(name), "w") as file:
                file.attrs["header"] = json.dumps(header)
            store.decide("mock", name, run.run_id, "in spec", apply=True)
            made.append(run.path)
    return made


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of the store are read as the test has written them."""

    def rows(store: CalibrationStore) -> list[CalibrationRow]:
        found = []
        for path in sorted(store.folder.glob("*.calib.h5")):
            with h5py.File(path) as file:
                about = json.loads(file.attrs["header"])
            name = path.name.removesuffix(".calib.h5")
            found.append(
                CalibrationRow(
                    name, about["schema"], about["bench"], about["run_id"], None, about["acquired"], "", path
                )
            )
        return found

    monkeypatch.setattr(CalibrationStore, "rows", rows)


@pytest.mark.usefixtures("readable")
def test_night_keeps_its_raw_data_while_its_calibration_is_in_use_and_some_time_after(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.archive.retention._newest_nights", lambda rows, count: set())  # each of these is one
    _, replaced, lately, applied = exported(runs, 2, 3, 4, 30)
    found = why(collect(runs, 30, NOW))
    assert found[replaced.name] == "older than 30 days"
    assert found[lately.name] == "a calibration in the store rests on it"  # replaced by that of the 30th
    assert [run.path for run in collect(runs, 30, NOW).going] == [replaced]
    much_later = NOW + dt.timedelta(days=300)
    assert (
        why(collect(runs, 30, much_later, trust_clock=True))[applied.name] == "a calibration in the store rests on it"
    )
    assert why(collect(runs, 30, much_later, trust_clock=True))[lately.name] == "older than 30 days"
    pin(replaced, "for the paper")
    assert why(collect(runs, 30, NOW))[replaced.name] == "pinned"


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("damage", ["person", "pointer", "no pointer", "journal", "header"])
def test_whatever_is_in_doubt_stays_and_so_does_what_a_person_measured(runs: Path, damage: str) -> None:
    _, replaced, _ = exported(runs, 2, 3, 4, purpose="measure" if damage == "person" else "nightly")
    pointer = runs / "calibrations" / "applied" / "mock.json"
    if damage == "pointer":
        pointer.write_text("{")
    elif damage == "no pointer":
        pointer.unlink()
    elif damage == "journal":
        pointer.with_suffix(".jsonl").write_text('{"at": 1}\n')
    elif damage == "header":
        with h5py.File(runs / "calibrations" / "cal-3.calib.h5", "a") as file:
            file.attrs["header"] = file.attrs["header"].replace("calibration/1", "damaged")
    found = why(collect(runs, 30, NOW + dt.timedelta(days=300)))
    assert found[replaced.name] == "a calibration in the store rests on it"


def test_pin_needs_a_reason(runs: Path, nights: tuple[Path, Path], labctl: Invoke) -> None:
    code, _, err = labctl("run", "pin", nights[1].name[-4:], "--runs", str(runs))
    assert code == 2
    assert f'labctl run pin {nights[1].name[-4:]} --runs {runs} --reason "…"' in err
    assert labctl("run", "pin", nights[1].name[-4:], "--runs", str(runs), "--reason", "figure 3")[0] == 0
    assert why(collect(runs, 30, NOW))[nights[1].name] == "pinned"


def test_run_that_is_pinned_while_others_are_removed_keeps_its_raw_data(
    runs: Path, nights: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old = nights
    hold = lock.hold

    def pinned_meanwhile(folder: Path) -> object:
        pin(folder, "for the paper")
        return hold(folder)

    monkeypatch.setattr(lock, "hold", pinned_meanwhile)
    found = collect(runs, 30, NOW, delete=True)
    assert raw(old) == 1
    assert why(found)[old.name] == "pinned"


def test_the_newest_nights_stay_whatever_the_clock_says(runs: Path) -> None:
    made = nights_of(runs, *(dt.date(2026, 5, day) for day in range(1, 9)))
    found = collect(runs, 3, dt.datetime(2027, 5, 9, tzinfo=dt.UTC), delete=True, trust_clock=True)
    assert [raw(path) for path in made] == [1, 0, 0, 0, 0, 1, 1, 1]
    assert why(found)[made[-1].name] == "one of the newest 3 nights"


@pytest.mark.parametrize(
    ("days", "now", "goes"),
    [
        ([1, 2, 3, 4], dt.date(2026, 5, 16), True),
        ([1, 2, 3, 4], dt.date(2027, 5, 4), False),
        ([1, 2, 3, 30], dt.date(2026, 5, 31), False),
        ([1, 2, 3, 16, 17], dt.date(2026, 5, 18), True),
    ],
    ids=["as usual", "set a year ahead", "the night itself came after a jump", "after a pause"],
)
def test_nothing_goes_while_the_clock_does_not_fit_the_nights(
    runs: Path, days: list[int], now: dt.date, goes: bool
) -> None:
    made = nights_of(runs, *(dt.date(2026, 5, day) for day in days))
    at = dt.datetime(now.year, now.month, now.day, 6, tzinfo=dt.UTC)
    if not goes:
        looked = collect(runs, 1, at)
        assert "clock may have jumped" in looked.doubt
        assert why(looked)[made[1].name] == looked.doubt
        with pytest.raises(ClockDoubtful, match="clock may have jumped"):
            collect(runs, 1, at, delete=True)
        assert all(raw(path) for path in made)
    collect(runs, 1, at, delete=True, trust_clock=not goes)
    assert raw(made[1]) == 0


def test_night_in_the_future_stops_retention_until_somebody_says_that_the_clock_is_right(
    runs: Path, labctl: Invoke
) -> None:
    year = dt.datetime.now(dt.UTC).year + 2
    _, old, _ = nights_of(runs, dt.date(2026, 5, 2), dt.date(2026, 5, 3), dt.date(year, 5, 4))
    code, _, err = labctl("run", "gc", "--keep", "1", "--delete", "--runs", runs)
    assert code == 2
    assert "E-CLK-001" in err
    assert "lies in the future" in err
    assert raw(old) == 1


def test_pin_of_a_run_says_that_its_raw_data_are_gone(runs: Path, nights: tuple[Path, Path], labctl: Invoke) -> None:
    collect(runs, 30, NOW, delete=True)
    for folder, has_raw in zip(nights, (True, False), strict=True):
        code, out, err = labctl("run", "pin", folder.name[-4:], "--reason", "figure 3", "--runs", runs, "--json")
        assert code == 0
        assert json.loads(out)["raw_data"] is has_raw
        assert ("no raw data" in err) is not has_raw
