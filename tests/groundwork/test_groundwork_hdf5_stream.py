"""HDF5 on a disk that gets full: it sees a file that takes everything, closes it, and only then is it said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
import pytest

from groundwork.hdf5_stream import Patient, hdf5_stream

FullAfter = Callable[[int], AbstractContextManager[None]]


def still_open() -> int:
    kinds = h5py.h5f.OBJ_FILE | h5py.h5f.OBJ_GROUP | h5py.h5f.OBJ_DATASET
    count: int = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, kinds)
    return count


def written_and_read(stream: Patient) -> bool:
    """Whether HDF5 finds again what it has written, with the file closed in between."""
    rng = np.random.default_rng(0)
    arrays = {f"a{i}": rng.integers(0, 1000, 3000) for i in range(12)}
    with h5py.File(stream, "w", libver=("earliest", "v110")) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=(1000,), maxshape=(None,), compression="gzip")
            file[name].resize(4000, axis=0)
            file.flush()
    with h5py.File(stream, "r") as file:
        return all(np.array_equal(file[name][:3000], array) for name, array in arrays.items())


@pytest.mark.parametrize("size", [0, 40, 1000, 5000, 60_000])
def test_hdf5_writes_reads_and_closes_where_nothing_is_taken_any_more(
    size: int, full_after: FullAfter, tmp_path: Path
) -> None:
    before, path = still_open(), tmp_path / "x.h5"
    with full_after(size), Patient(path) as stream:
        assert written_and_read(stream)
        assert stream.failed is not None
        with pytest.raises(OSError, match="File too large"):
            stream.require_taken()
    assert still_open() == before
    assert path.stat().st_size <= size


def test_the_refusal_is_raised_once_the_file_is_closed_or_instead_of_what_came_of_it(
    full_after: FullAfter, tmp_path: Path
) -> None:
    with full_after(10), pytest.raises(OSError, match="File too large"), hdf5_stream(tmp_path / "x") as stream:
        stream.write(b"0123456789abc")
    with full_after(10), pytest.raises(OSError, match="File too large"), hdf5_stream(tmp_path / "x") as stream:
        raise KeyError(stream.write(b"0123456789abc"))
    with pytest.raises(KeyError), hdf5_stream(tmp_path / "x"):
        raise KeyError("another")


def test_a_file_on_a_disk_with_room_is_as_any_other(tmp_path: Path) -> None:
    with hdf5_stream(tmp_path / "x") as stream:
        stream.write(b"0123456789")
        stream.seek(-4, 2)
        assert stream.read(2) == b"67"
        assert stream.read() == b"89"
        assert stream.read() == b""
        stream.seek(8)
        stream.write(b"89abc")
        stream.truncate(12)
        assert stream.seek(0, 2) == 12
        stream.seek(6)
        into = bytearray(10)
        assert stream.readinto(into) == 6
        assert into == b"6789ab" + bytes(4)
    assert (tmp_path / "x").read_bytes() == b"0123456789ab"
