"""Measurements of other people: nothing in them leads to another file, and little becomes much nowhere."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from groundwork.errors import CodedError
from labctl.errors import CaptureUnreadable
from labctl.foreign.files.formats import format_of

LIBVERS = ["earliest", "v108", "v110", "v112", "latest"]


def names(path: Path) -> dict[str, tuple[int, ...]]:
    with format_of(path).open(path) as contents:
        return {name: array.shape for name, array in contents.arrays.items()}


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder with another file, and with a pipe, at which whoever opens it waits for ever."""
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(4.0)
    return tmp_path


def test_soft_links_are_followed_inside_of_the_file_only(others: Path) -> None:
    with h5py.File(others / "m.h5", "w") as file:
        file["group/y"] = np.arange(3.0)
        file["inside"] = h5py.SoftLink("/group/y")
        file["outside"] = h5py.ExternalLink("other.h5", "/")
        file["waits"] = h5py.ExternalLink("pipe.h5", "/")
        file["through"] = h5py.SoftLink("/outside/x")
        file["for_ever"] = h5py.SoftLink("/waits/x")
        file["ring"] = h5py.SoftLink("ring")
        file["nowhere"] = h5py.SoftLink("/nothing")
    assert names(others / "m.h5") == {"group/y": (3,), "inside": (3,)}


@pytest.mark.parametrize("source", ["other.h5", "pipe.h5"])
@pytest.mark.parametrize("size", [4, None])
def test_virtual_dataset_is_named_and_its_sources_stay_closed(others: Path, source: str, size: int | None) -> None:
    with h5py.File(others / "m.h5", "w", libver="latest") as file:
        layout = h5py.VirtualLayout((4,), "f8", maxshape=(size,))
        layout[: size or h5py.h5s.UNLIMITED] = h5py.VirtualSource(source, "x", (4,), maxshape=(size,))[
            : size or h5py.h5s.UNLIMITED
        ]
        file.create_virtual_dataset("inputs", layout)
    with format_of(others / "m.h5").open(others / "m.h5") as contents, pytest.raises(CaptureUnreadable) as caught:
        contents.arrays["inputs"].check()
    assert "another file" in caught.value.what


def test_numbers_stored_in_a_pipe_are_not_waited_for(others: Path) -> None:
    with h5py.File(others / "m.h5", "w") as file:
        file.create_dataset("inputs", (4,), "f8", external=[(str(others / "pipe.h5"), 0, 32)])
    with format_of(others / "m.h5").open(others / "m.h5") as contents, pytest.raises(CaptureUnreadable):
        contents.arrays["inputs"].check()


@pytest.mark.parametrize("libver", LIBVERS)
def test_hdf5_of_every_library_version_is_imported(tmp_path: Path, libver: str) -> None:
    """With many and long attributes, which later versions keep in a heap of their own."""
    with h5py.File(tmp_path / "m.h5", "w", libver=libver, track_order=True) as file:
        file["inputs"] = np.arange(6.0).reshape(2, 3)
        file["inputs"].attrs.update({f"note {i}": f"text {i}" for i in range(30)} | {"units": "V"})
        if libver != "earliest":
            file["inputs"].attrs["long"] = "x" * 100_000
    with format_of(tmp_path / "m.h5").open(tmp_path / "m.h5") as contents:
        assert contents.arrays["inputs"][:].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert contents.unit_of("inputs") == "V"


def tiff(width: int, height: int, path: Path) -> Path:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 8), (262, 3, 1), (273, 4, 0), (277, 3, 1),
            (278, 4, height), (279, 4, 8)]  # fmt: skip
    page = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", code, kind, 1, n) for code, kind, n in tags)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + page + bytes(4))
    return path


def test_picture_that_unfolds_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(CaptureUnreadable, match="unfolds to 7"):
        names(tiff(60_000, 60_000, tmp_path / "m.tif"))


def test_archive_that_unfolds_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }\n"
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + bytes(2**20))
    with format_of(tmp_path / "m.npz").open(tmp_path / "m.npz") as contents, pytest.raises(CaptureUnreadable):
        contents.arrays["inputs"][:]


def test_json_of_another_program_may_hold_what_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"inputs": [[1.0, float("nan")]]}))
    assert names(tmp_path / "m.json") == {"inputs": (1, 2)}


@pytest.mark.parametrize("ending", ["h5", "npz", "npy", "mat", "json", "tif", "csv"])
def test_empty_and_hollow_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"m.{ending}"
    for length in (0, 2**36):
        with path.open("wb") as file:
            file.truncate(length)
        with pytest.raises(CodedError):
            names(path)
