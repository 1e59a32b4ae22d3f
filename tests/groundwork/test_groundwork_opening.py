"""Files that somebody hands over: only regular ones, with no more in them than they declare, and nothing outside."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from groundwork.errors import FileRefused
from groundwork.opening import regular
from groundwork.opening.gguf import read_gguf_header
from groundwork.opening.hdf5 import find_dataset, open_hdf5, parse_hdf5, read_hdf5, root_attributes
from groundwork.opening.json_text import parse_json, read_json
from groundwork.opening.regular import open_regular, read_regular, read_text
from groundwork.opening.tensors import read_header, read_safetensors
from groundwork.opening.toml_text import parse_toml, read_toml
from groundwork.opening.zipped import open_zip, parse_npy, read_npy


def enter_zip(path: Path) -> None:
    """Open an archive, and no more."""
    with open_zip(path):
        pass


READERS = [
    open_regular, read_regular, read_text, read_json, read_toml, read_header, read_hdf5, root_attributes,
    read_gguf_header, read_npy, enter_zip,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    with pytest.raises(FileRefused, match="not a regular file"):
        read(path)


def test_pipe_that_takes_the_place_of_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"text")
    look = regular.require_kind

    def looked(path: Path, about: os.stat_result) -> None:
        look(path, about)
        if path.is_file():
            path.unlink()
            os.mkfifo(path)

    monkeypatch.setattr(regular, "require_kind", looked)
    with pytest.raises(FileRefused, match="not a regular file"):
        open_regular(path)


def test_file_of_holes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hollow"
    with path.open("wb") as file:
        file.truncate(2**34)
    with pytest.raises(FileRefused, match="holes"):
        read_regular(path)


def test_file_system_that_counts_no_blocks_has_no_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2**24 + 1))
    look = os.fstat

    def counted(handle: int) -> SimpleNamespace:
        return SimpleNamespace(st_mode=look(handle).st_mode, st_size=2**24 + 1, st_blocks=0)

    monkeypatch.setattr(regular.os, "fstat", counted)
    assert read_regular(path) == b"x" * (2**24 + 1)


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(FileRefused, match="too large"):
        read_regular(path, 4)


def test_mark_of_windows_editors_is_no_part_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("light", encoding="utf-8-sig")
    assert read_text(path) == "light"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "too large for a number"),
        ('{"a": 1, "a": 2}', "twice"),
        (b"\xff", "not JSON"),
    ],
)
def test_json_is_bounded_and_finite(text: str | bytes, words: str) -> None:
    with pytest.raises(FileRefused) as caught:
        parse_json(text)
    assert words in str(caught.value)


def test_brackets_inside_of_strings_do_not_count() -> None:
    document = {"a": "[" * 1000, "b": [1.5, None, True]}
    assert parse_json(json.dumps(document)) == document


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, ".".join("a" * 1000) + " = 1", "a = 1\na = 2"])
def test_toml_is_bounded(text: str) -> None:
    with pytest.raises(FileRefused, match="not TOML"):
        parse_toml(text)


def tensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A file as the format has it, with any header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "raw",
    [
        tensors({"a": ONE}, bytes(8), length=2**60),
        tensors({"a": {**ONE, "shape": [2**40]}}, bytes(8)),
        tensors({"a": {**ONE, "shape": [-2]}}, bytes(8)),
        tensors({"a": {**ONE, "data_offsets": [0, 2**50]}}, bytes(8)),
        tensors({"a": ONE, "b": ONE}, bytes(8)),
        tensors({"a": ONE}, bytes(9)),
        tensors({"a": {**ONE, "dtype": "C64"}}, bytes(8)),
        tensors({"a": {**ONE, "more": 1}}, bytes(8)),
        tensors([ONE], bytes(8)),
        b"\0",
    ],
)
def test_header_of_tensors_has_to_fit_the_file(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FileRefused):
        read_safetensors(path)


def test_tensors_are_those_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.arange(3, dtype=np.int64)}
    save_file(arrays, path, {"about": "us"})
    metadata, found = read_safetensors(path)
    assert metadata == {"about": "us"}
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


def external_link(file: h5py.File) -> None:
    file["data"] = h5py.ExternalLink("other.h5", "/data")


def soft_link(file: h5py.File) -> None:
    file["data"] = h5py.SoftLink("/nowhere")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "data", (4,))
    file.create_virtual_dataset("data", layout)


def external_storage(file: h5py.File) -> None:
    file.create_dataset("data", (4,), "f4", external=[("other.raw", 0, 16)])


def fill_bomb(file: h5py.File) -> None:
    file.create_dataset("data", (2**40,), "f8", chunks=(2**16,), fillvalue=1.0)


def gzip_bomb(file: h5py.File) -> None:
    file.create_dataset("data", (2**24,), "f8", chunks=(2**16,), compression="gzip")[0] = 1.0


def ring(file: h5py.File) -> None:
    file.create_group("a")["b"] = file["/"]


def complex_numbers(file: h5py.File) -> None:
    file["data"] = np.ones(3, complex)


def strange_attribute(file: h5py.File) -> None:
    file.attrs["about"] = np.zeros(3, [("x", "f4")])


def deep(file: h5py.File) -> None:
    file.create_group("/".join("a" * 40))


HOSTILE = [external_link, soft_link, virtual, external_storage, fill_bomb, gzip_bomb, ring, complex_numbers,
           strange_attribute, deep]  # fmt: skip


@pytest.mark.parametrize("fill", HOSTILE)
def test_hdf5_file_holds_what_it_declares_and_nothing_else(tmp_path: Path, fill: Callable[[h5py.File], None]) -> None:
    (tmp_path / "other.raw").write_bytes(bytes(16))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(4, np.float32)
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    with pytest.raises(FileRefused):
        read_hdf5(path)


def test_what_is_in_a_file_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file.attrs["list"], file.attrs["text"], file.attrs["number"] = ["a", "b"], "words", 3
        data = file.create_dataset("group/data", data=np.arange(1000.0), compression="gzip")
        data.attrs["unit"] = "px"
        file["flags"] = np.array([True, False])
    found = read_hdf5(path)
    assert dict(found.attrs) == {"list": ["a", "b"], "text": "words", "number": 3}
    assert np.array_equal(found.datasets["group/data"].values, np.arange(1000.0))
    assert found.datasets["group/data"].attrs == {"unit": "px"}
    assert found.datasets["flags"].values.tolist() == [True, False]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_json, '\\"' * 2_000_000),
        (parse_json, '"' + "\\" * 4_000_001),
        (parse_json, "[]" * 65 + "x" * 4_000_000),
        (parse_json, "[" + "{}," * 3_000_000 + "{}]"),
        (parse_json, "{" + ", ".join(f'"{i}": 0' for i in range(300_000)) + ', "299999": 1}'),
        (parse_toml, "x" * 1_000_000),
        (parse_toml, '"""' + '\\"""' * 200_000),
        (parse_toml, "'" * 1_000_000),
        (parse_toml, "a." * 31 * 15_000),
    ],
    ids=[
        "json quotes",
        "json backslashes",
        "json tail",
        "json parts",
        "json keys",
        "toml word",
        "toml text",
        "toml quotes",
        "toml dots",
    ],
)
def test_text_made_to_be_searched_for_ever_is_refused_in_no_time(parse: Callable[[str], object], text: str) -> None:
    since = time.process_time()
    with pytest.raises(FileRefused):
        parse(text)
    assert time.process_time() - since < 5


def test_file_made_of_headers_in_headers_is_refused_in_no_time(tmp_path: Path) -> None:
    """Each heap of texts hides in an entry of the one before, and all end at the same place."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["text"] = "short"
    raw = (tmp_path / "a.h5").read_bytes()
    whole, count = parse_hdf5(raw), 20_000
    entry = struct.pack("<HHIQ", 1, 0, 0, 16)
    heaps = (struct.pack("<8sQ", b"GCOL\x01\0\0\0", 32 * left - 16) for left in range(count, 0, -1))
    raw += b"".join(entry + heap for heap in heaps)
    since = time.process_time()
    assert parse_hdf5(raw) == whole
    assert time.process_time() - since < 5


def test_header_that_goes_on_in_itself_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(30):
            file.attrs[f"number {number}"] = number
    raw = bytearray((tmp_path / "a.h5").read_bytes())
    start = struct.unpack_from("<Q", raw, 64)[0]
    at = next(at for at in range(start + 16, len(raw), 8) if raw[at : at + 4] == b"\x10\0\x10\0")
    struct.pack_into("<Q", raw, at + 8, start + 16)
    with pytest.raises(FileRefused):
        parse_hdf5(bytes(raw))


def npy(shape: str, dtype: str = "<f8", data: bytes = bytes(48)) -> bytes:
    """An array whose header says anything."""
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def test_npy_array_is_that_of_numpy(tmp_path: Path) -> None:
    for order in ("C", "F"):
        array = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(read_npy(tmp_path / "a.npy"), array)


@pytest.mark.parametrize(
    "raw",
    [
        npy("(1000000000000,)"),
        npy("(-6,)"),
        npy("(6.0,)"),
        npy("((("),
        npy("(6,)", "|O"),
        npy("(7,)"),
        npy(f"({'1,' * 70})", data=bytes(8)),
        b"\x93NUMPY",
    ],
)
def test_npy_array_has_to_be_as_long_as_it_says(raw: bytes) -> None:
    assert parse_npy(npy("(6,)")).shape == (6,)
    with pytest.raises(FileRefused):
        parse_npy(raw)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(30_000_000))


def overstated(path: Path) -> None:
    bomb(path)
    raw = path.read_bytes().replace(struct.pack("<I", 30_000_000), struct.pack("<I", 2**32 - 2))
    path.write_bytes(raw)


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(1001):
            archive.writestr(f"{i}", b"")


def twice(path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")


def huge_directory(path: Path) -> None:
    many(path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<I", raw, len(raw) - 10, 2**31)
    path.write_bytes(raw)


def test_archive_of_more_than_two_gigabytes_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such have a second end, with longer numbers; here from a hundred bytes on."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", bytes(1000))
    assert b"PK\6\6" in (tmp_path / "a.zip").read_bytes()
    with open_zip(tmp_path / "a.zip") as found:
        assert found.read("a") == bytes(1000)


def huge_directory_of_a_large_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
    raw = path.read_bytes()
    at = len(raw) - 22
    large = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    path.write_bytes(raw[:at] + large + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + raw[at:])


@pytest.mark.parametrize("make", [bomb, overstated, many, twice, huge_directory, huge_directory_of_a_large_archive])
def test_archive_unfolds_to_no_more_than_it_may(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.zip")
    with pytest.raises(FileRefused), open_zip(tmp_path / "a.zip", 20_000_000):
        pass


@pytest.mark.parametrize("name", ["nothing", "group", "outside", "through"])
def test_dataset_is_found_in_the_file_itself_only(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/x"] = np.arange(3)
        file["linked"] = h5py.SoftLink("/group")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
        file["through"] = h5py.SoftLink("/outside")
    with open_hdf5(tmp_path / "a.h5") as file:
        assert find_dataset(file, "/group/x", tmp_path / "a.h5").shape == (3,)
        assert find_dataset(file, "linked/x", tmp_path / "a.h5").shape == (3,)
        with pytest.raises(FileRefused, match="no dataset"):
            find_dataset(file, name, tmp_path / "a.h5")


@pytest.mark.parametrize("make", [virtual, external_storage, fill_bomb, gzip_bomb])
def test_dataset_that_is_found_is_in_the_file(tmp_path: Path, make: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
        (name,) = file
    with open_hdf5(tmp_path / "a.h5") as file, pytest.raises(FileRefused, match=r"another file|more numbers"):
        find_dataset(file, name, tmp_path / "a.h5")
