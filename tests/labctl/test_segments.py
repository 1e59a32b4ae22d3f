"""Files of a run: whole or absent, whatever stops the writer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest

from groundwork.opening.hdf5 import read_hdf5
from labctl.archive import (
    RunWriter,
    SegmentWriter,
    atomic_path,
    atomic_write_bytes,
    atomic_write_text,
)
from labctl.archive.atomic import append_line, drop_torn_line, read_lines
from labctl.archive.removal import REMOVED, read_removal
from labctl.archive.seal import SEAL, read_seal
from labctl.errors import DiskFull, NotWritable, RunDamaged, StorageError
from labctl.station.loading import load_station

FRAMES = {"signal_dn": np.arange(24, dtype=np.uint16).reshape(6, 4), "at_s": np.linspace(0, 1, 6)}


ATTRS = {"exposure_s": 0.01, "tile": [0, 1], "pass": "++", "domain": {"b": 1, "a": 2}}


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_segment_is_an_ordinary_hdf5_file(tmp_path: Path) -> None:
    path = SegmentWriter(tmp_path).write("dark", FRAMES)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["signal_dn"][()], FRAMES["signal_dn"])


def test_equal_segments_are_equal_bytes_in_any_process_at_any_time(tmp_path: Path) -> None:
    first = SegmentWriter(tmp_path / "a").write("products", FRAMES, ATTRS).read_bytes()
    time.sleep(1.1)  # HDF5's own times count seconds
    script = (
        "import numpy as np, sys; from pathlib import Path; from labctl.archive import SegmentWriter\n"
        "frames = {'signal_dn': np.arange(24, dtype=np.uint16).reshape(6, 4), 'at_s': np.linspace(0, 1, 6)}\n"
        "attrs = {'domain': {'a': 2, 'b': 1}, 'pass': '++', 'tile': [0, 1], 'exposure_s': 0.01}\n"
        "SegmentWriter(Path(sys.argv[1])).write('products', frames, attrs)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "b")], check=True)
    assert (tmp_path / "b" / "000000.h5").read_bytes() == first


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="labels"):
        SegmentWriter(tmp_path).write("x", {"labels": np.array(["a", "b"])})
    assert list(tmp_path.glob("*.h5*")) == []


def test_exception_while_writing_leaves_neither_final_nor_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="mid-write"):
        write_half(tmp_path / "a.h5", RuntimeError("mid-write"))
    assert list(tmp_path.iterdir()) == []


def test_exception_while_replacing_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    atomic_write_text(path, "old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert path.read_text() == "old"
    assert temporary_files(tmp_path) == []


def test_sigkill_while_writing_leaves_no_half_segment(tmp_path: Path) -> None:
    """Kill the writer at arbitrary moments: every file with a final name that is listed is whole."""
    script = (
        "import numpy as np, sys; from pathlib import Path; from labctl.archive import SegmentWriter\n"
        "writer = SegmentWriter(Path(sys.argv[1]))\n"
        "while True:\n"
        "    writer.write('noise', {'signal_dn': np.full((64, 64, 64), len(writer.rows), np.uint16)})\n"
        "    print('go', flush=True)"
    )
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.15 + 0.07 * attempt)
        process.kill()
        process.wait()
        process.stdout.close()
    writer = SegmentWriter(tmp_path)
    assert writer.rows, "the writer was killed before its first segment"
    assert temporary_files(tmp_path) == []
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == [row.file for row in writer.rows]
    for index, row in enumerate(writer.rows):
        assert (read_hdf5(tmp_path / row.file).datasets["signal_dn"].values == index).all()


def test_full_disk_is_an_error_with_a_code_and_keeps_what_was_sealed(mount: Callable[[str], Path]) -> None:
    writer = SegmentWriter(mount("size=256k") / "segments")
    writer.write("dark", {"signal_dn": np.zeros(20_000, np.uint16)})
    with pytest.raises(DiskFull) as caught:
        writer.write("dark", {"signal_dn": np.zeros(200_000, np.uint16)})
    assert caught.value.code == "E-STO-002"
    assert "MB free" in caught.value.seen
    assert sorted(path.name for path in writer.folder.iterdir()) == ["000000.h5", "manifest.jsonl"]
    assert len(SegmentWriter(writer.folder).rows) == 1


def test_full_disk_does_not_tear_the_journal(mount: Callable[[str], Path]) -> None:
    journal = mount("size=64k") / "journal.jsonl"
    numbers = count()
    with pytest.raises(DiskFull):
        deque((append_line(journal, {"text": "x" * 5000, "line": number}) for number in numbers), maxlen=0)
    lines = [record["line"] for record in read_lines(journal)]
    assert lines == list(range(len(lines)))
    assert len(lines) > 5
    assert journal.read_bytes().endswith(b"\n")


def test_read_only_file_system_is_an_error_with_a_code(mount: Callable[[str], Path]) -> None:
    folder = mount("size=256k")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(NotWritable) as caught:
        RunWriter.create(folder / "runs", "demo", load_station())
    assert caught.value.code == "E-STO-003"


@pytest.mark.parametrize(
    ("number", "error"), [(errno.ENOSPC, DiskFull), (errno.EACCES, NotWritable), (errno.EIO, StorageError)]
)
def test_error_at_the_rename_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[StorageError]
) -> None:
    """The system's answer is injected: this runs where nothing can be mounted, and root obeys no mode bits."""

    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("labctl.archive.atomic.os.replace", refuse)
    with pytest.raises(error) as caught:
        atomic_write_bytes(tmp_path / "a", b"data")
    assert type(caught.value) is error
    assert list(tmp_path.iterdir()) == []


def test_segment_of_which_nobody_heard_is_measured_again(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path)
    writer.write("dark", FRAMES)
    (tmp_path / "000001.h5").write_bytes(b"renamed, but the kill came before its manifest line")
    (tmp_path / ".000002.h5.ab12cd34.tmp").write_bytes(b"half")
    with (tmp_path / "manifest.jsonl").open("a") as manifest:
        manifest.write('{"file":"000001.h5","ki')
    again = SegmentWriter(tmp_path)
    assert again.write("dark", FRAMES).name == "000001.h5"
    assert [row.file for row in SegmentWriter(tmp_path).rows] == ["000000.h5", "000001.h5"]


def test_torn_last_line_is_dropped_and_a_torn_middle_is_damage(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"a":1}\n{"a":')
    assert read_lines(journal) == [{"a": 1}]
    drop_torn_line(journal)
    append_line(journal, {"a": 2})
    assert read_lines(journal) == [{"a": 1}, {"a": 2}]
    journal.write_text('{"a":1\n{"a":2}\n')
    with pytest.raises(ValueError, match="delimiter"):
        read_lines(journal)


@pytest.mark.parametrize(("name", "read"), [(SEAL, read_seal), (REMOVED, read_removal)])
def test_pipe_in_the_place_of_a_document_is_damage(
    new_run: Callable[[], RunWriter], name: str, read: Callable[[Path], object]
) -> None:
    folder = new_run().path
    os.mkfifo(folder / name)
    with pytest.raises(RunDamaged) as caught:
        read(folder)
    assert "pipe" in caught.value.seen
