"""The disk: room before a run, a floor while it goes on, and a reserve for the seal of one that has filled it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.__main__ import main
from labctl.archive import RunReader, RunWriter, find_run, space
from labctl.archive.space import RESERVE, RESERVE_BYTES
from labctl.errors import DiskFull
from labctl.station.loading import load_station
from labctl.summary import Summary
from labctl.verdicts import Verdict


def dark(small: Path, runs: Path, *more: str) -> int:
    return main(["calibrate", "dark", "--bench", str(small), "--runs", str(runs), "--quiet", *more])


def test_run_that_does_not_fit_is_refused_before_a_device_is_opened(small_file: Path, tmp_path: Path) -> None:
    assert dark(small_file, tmp_path, "--set", "acquisition.disk_floor_gb=1e6") == 22
    run = RunReader(find_run(tmp_path, "latest"))
    summary = run.summary()
    assert summary is not None
    assert run.status == "storage"
    assert (summary.first_error.code, summary.first_error.safe) == ("E-STO-004", "no device was opened")
    assert "MB for the run and 1e+06 GB" in summary.first_error.expected
    assert not (run.path / "snapshot-start.json").exists()
    assert run.verify().intact


def test_disk_that_fills_up_ends_the_run_while_there_is_room_for_the_seal(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two segments less is free than the floor."""
    real = space.shutil.disk_usage

    def usage(path: Path) -> object:
        taken = len(list(tmp_path.rglob("segments/*.h5")))
        found = real(path)
        return found if taken < 2 else found._replace(free=int(0.4e9))

    monkeypatch.setattr(space.shutil, "disk_usage", usage)
    code = main(["calibrate", "timing", "--bench", str(small_file), "--runs", str(tmp_path), "--quiet"])
    assert code == 22
    run = RunReader(find_run(tmp_path, "latest"))
    assert run.status == "storage"
    assert len(run.manifest) == 2
    assert run.verify().intact
    assert run.summary().first_error.code == "E-STO-004"
    monkeypatch.undo()
    assert main(["run", "resume", "latest", "--runs", str(tmp_path), "--quiet"]) == 0


@pytest.fixture
def filled(mount: Callable[[str], Path], small_file: Path) -> Path:
    """A run folder on a disk that is full to the last byte."""
    runs = mount("size=2m")
    with RunWriter.create(runs, "full", load_station(small_file)) as run:
        assert (run.path / RESERVE).stat().st_size == RESERVE_BYTES
        with (runs / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(DiskFull):
            run.journal("monitor", words="x" * 8192)
    return run.path


def test_full_disk_still_takes_summary_and_seal(filled: Path) -> None:
    run_id = filled.name
    with RunWriter.resume(filled) as run:
        run.finish(Verdict.STORAGE, Summary(run_id=run_id, verdict=Verdict.STORAGE))
    reader = RunReader(filled)
    assert reader.status == "storage"
    assert reader.verify().intact
    assert reader.summary().verdict is Verdict.STORAGE
    assert not (filled / RESERVE).exists()


def test_run_that_fills_its_disk_is_sealed_as_storage(
    mount: Callable[[str], Path], small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk says that it has room, and has not: another program takes it, or a quota."""
    runs = mount("size=2m")
    real = space.shutil.disk_usage
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: real(path)._replace(free=10**12))
    assert main(["calibrate", "--bench", str(small_file), "--runs", str(runs), "--quiet"]) == 22
    run = RunReader(find_run(runs, "latest"))
    assert run.status == "storage"
    assert run.manifest
    assert run.verify().intact
    assert run.summary().first_error.code == "E-STO-002"
