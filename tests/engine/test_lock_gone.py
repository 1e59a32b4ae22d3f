"""The files of a bench's locks that are removed or replaced while the bench is in use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labctl.archive.segments import SegmentWriter
from labctl.bench.lock import hold_bench
from labctl.bench.marks import alone, mark_of, marked_open, write_mark
from labctl.cli.handler import report_error
from labctl.console import Console
from labctl.engine.holding import devices_in_use
from labctl.engine.session import open_session
from labctl.engine.walk import Leg
from labctl.errors import LockGone, StorageError
from labctl.lab import Lab
from labctl.locks import BenchFiles, benches
from labctl.nodes.registry import BY_DAY
from labctl.station.loading import LoadedStation, load_station

Small = Callable[..., LoadedStation]


@pytest.mark.parametrize("which", ["lock", "touch"])
def test_a_bench_whose_lock_was_removed_or_replaced_is_not_held(which: str) -> None:
    path = getattr(BenchFiles("gone"), which)
    with hold_bench("gone"), alone("gone") as require_held:
        require_held()
        path.unlink()
        with pytest.raises(LockGone, match="removed or replaced") as gone:
            require_held()
        assert gone.value.seen == "no such file"
        path.write_bytes(b"")
        with pytest.raises(LockGone) as gone:
            require_held()
        assert gone.value.seen == "another file"
        assert str(path) in gone.value.expected


def test_devices_are_not_opened_where_the_lock_is_gone_already() -> None:
    station = load_station().station
    with hold_bench(station.bench.name):
        shutil.rmtree(benches())
        with pytest.raises(LockGone), devices_in_use(Lab(Console(quiet=True)), station):
            pytest.fail("the devices could be opened")


def test_the_mark_of_the_next_command_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    station = load_station().station
    with marked_open(station):
        shutil.rmtree(benches())
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 4711)
            write_mark(station)
    mark = mark_of(station.bench.name)
    assert mark is not None
    assert mark.process == 4711
    BenchFiles(station.bench.name).mark.unlink()


def test_run_ends_as_a_fault_at_the_first_step_after_the_state_folder_was_removed(
    small_station: Small, tmp_path: Path
) -> None:
    lab, removed = Lab(Console(quiet=True)), list[int]()

    def measure() -> None:
        with open_session(lab, small_station(), tmp_path / "runs", "calibrate") as session:

            def remove(event: str) -> None:
                if event == "segment" and not removed:
                    removed.append(len(session.run.segments.rows))
                    shutil.rmtree(benches())

            session.run.heard = remove
            session.walk([Leg(node) for node in BY_DAY[:2]])

    with pytest.raises(LockGone):
        measure()
    assert lab.run is not None
    assert lab.summary is not None
    assert removed == [len(lab.run.segments.rows)], "no step was sealed after that"
    assert lab.run.sealed
    assert (str(lab.summary.verdict), lab.summary.exit_code) == ("fault", 20)
    assert lab.summary.first_error is not None
    assert lab.summary.first_error.code == "E-BSY-003"


def test_run_folder_that_is_renamed_in_mid_run_is_not_made_anew(small_station: Small, tmp_path: Path) -> None:
    lab, renamed = Lab(Console(quiet=True)), list[Path]()

    def measure() -> None:
        with open_session(lab, small_station(), tmp_path / "runs", "calibrate") as session:

            def rename(event: str) -> None:
                if event == "segment" and not renamed:
                    renamed.append(session.run.path.rename(session.run.path.with_name("elsewhere")))

            session.run.heard = rename
            session.walk([Leg(node) for node in BY_DAY[:2]])

    with pytest.raises(StorageError) as gone:
        measure()
    report_error(gone.value, lab)
    assert lab.run is not None
    assert not lab.run.path.exists()
    assert (renamed[0] / "segments").is_dir()
    assert gone.value.expected
    assert str(renamed[0].parent) in gone.value.seen
    assert "where the folder is now" in gone.value.safe


def test_segment_of_a_run_that_was_renamed_is_not_written_under_its_old_name(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "run" / "segments")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="No such file"):
        writer.write("dark", {"signal_dn": np.zeros((2, 4), np.uint16)})
    assert not (tmp_path / "run").exists()
