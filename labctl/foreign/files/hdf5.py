"""Read ``*.h5``: datasets by name, sliced when they are needed, so that a capture may be larger than memory."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from groundwork.opening.hdf5 import MOST_GROUPS_DEEP, elsewhere, within
from groundwork.opening.regular import require_regular
from labctl.errors import CaptureUnreadable
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Contents, Reading, check_numbers, unreadable
from labctl.foreign.files.packed import PACKED, Packing

_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError, OverflowError, AttributeError)
_SAVE_AGAIN = "write it again, and close the file before copying it"
_MOST_OBJECTS = 10_000
_MOST_EXPANSION = 1000
_PATIENCE_S = 20.0


class Dataset:
    """A dataset of the file, read by slices; what HDF5 says about a damaged chunk becomes a coded error.

    Parameters
    ----------
    path
        Of the file, for messages.
    name
        Of the dataset.
    data
        The open dataset.
    """

    def __init__(self, path: Path, name: str, data: h5py.Dataset) -> None:
        self._elsewhere = elsewhere(data)
        shape = () if self._elsewhere else data.shape or ()
        self.name, self.shape = name, tuple(int(n) for n in shape)
        self.packing = Packing.none() if self._elsewhere else _packing(path, name, data)
        self.dtype = np.dtype(np.float64) if self.packing.any else data.dtype
        self._path, self._data = path, data

    def check(self) -> None:
        """Refuse types other than numbers, data kept in other files, and sizes far beyond what the file stores."""
        if self._elsewhere:
            raise CaptureUnreadable(
                f"{self.name} lies in another file",
                device=str(self._path),
                expected="a file that holds its own numbers",
                seen=self._elsewhere,
                hint="h5repack the file, or copy the dataset",
            )
        check_numbers(self._path, self.name, self._data.dtype)
        self._check_filters()
        try:
            stored, chunks = self._data.id.get_storage_size(), self._data.chunks
        except _BROKEN as error:
            raise self._damaged(error) from error
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        chunk = math.prod(chunks) * self.dtype.itemsize if chunks else 0
        if nbytes > MEMORY_LIMIT_BYTES // 8 and nbytes > _MOST_EXPANSION * stored:
            seen = f"{nbytes / 1e9:.3g} GB from {stored} stored bytes"
            raise unreadable(self._path, f"{self.name} declares more numbers than the file holds", seen, _SAVE_AGAIN)
        if chunk > MEMORY_LIMIT_BYTES:
            seen = f"chunks of {chunk / 1e9:.3g} GB"
            raise unreadable(
                self._path, f"{self.name} is stored in pieces too large to read", seen, "h5repack with smaller chunks"
            )

    def _check_filters(self) -> None:
        properties = self._data.id.get_create_plist()
        for index in range(properties.get_nfilters()):
            code, _, _, name = properties.get_filter(index)
            if not h5py.h5z.filter_avail(code) and not _plugin_knows(code):
                called = name.decode("utf-8", "replace").partition(";")[0] or "no name"
                raise CaptureUnreadable(
                    f"{self.name} is compressed by a filter that is not installed",
                    device=str(self._path),
                    expected="a filter that HDF5 has: gzip, lzf, szip",
                    seen=f"filter {code} ({called})",
                    hint="python -m pip install hdf5plugin   ·   or where it was written: h5repack -f GZIP=4 FILE NEW",
                )

    def __getitem__(self, key: Any) -> NDArray[Any]:
        try:
            return self.packing.unpacked(np.asarray(self._data[key]))
        except _BROKEN as error:
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> CaptureUnreadable:
        return unreadable(self._path, f"{self.name} is damaged", error, _SAVE_AGAIN)


def _plugin_knows(code: int) -> bool:
    """Whether a collection of filters that is installed has one; it is registered when it is imported."""
    try:
        importlib.import_module("hdf5plugin")
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(code))


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The datasets of an HDF5 file, by their path in it.

    Raises
    ------
    CaptureUnreadable
        When it is not a whole HDF5 file.
    """
    try:
        require_regular(path)
        file = h5py.File(path, "r", locking=False)
    except _BROKEN as error:
        raise unreadable(path, "not an HDF5 file, or only part of one", error, _SAVE_AGAIN) from error
    with file:
        try:
            datasets = dict(_walk(path, file))
            arrays = {name: Dataset(path, name, data) for name, data in datasets.items()}
        except _BROKEN as error:
            raise unreadable(path, "the HDF5 file is damaged", error, _SAVE_AGAIN) from error
        packed = {name: (Reading(a, a.packing.in_words(name)),) for name, a in arrays.items() if a.packing.any}
        yield Contents(arrays, lambda name: _text(path, datasets[name], ("units", "unit")), readings=packed)


def _walk(path: Path, file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Datasets reached by hard and soft links; a link into another file is not followed."""
    waiting, seen = [("", file)], 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            seen += 1
            if seen > _MOST_OBJECTS:
                raise unreadable(path, f"the file has more than {_MOST_OBJECTS} objects")
            thing = within(group, name)
            if isinstance(thing, h5py.Dataset):
                yield prefix + name, thing
            elif isinstance(thing, h5py.Group) and prefix.count("/") < MOST_GROUPS_DEEP:
                waiting.append((f"{prefix}{name}/", thing))


def _packing(path: Path, name: str, data: h5py.Dataset) -> Packing:
    """How the numbers of a dataset are packed; what should be a number and is none is NaN."""
    found = {}
    try:
        for key in PACKED:
            if key in data.attrs:
                found[key] = data.attrs[key] if data.attrs.get_id(key).dtype.kind in "iuf" else np.nan
    except _BROKEN as error:
        raise unreadable(path, f"the attributes of {data.name} are damaged", error, _SAVE_AGAIN) from error
    unsigned = data.dtype.kind == "i" and (_text(path, data, ("_Unsigned",)) or "").lower() == "true"
    return Packing.of(path, name, found, unsigned=unsigned)


def _text(path: Path, data: h5py.Dataset, keys: tuple[str, ...]) -> str | None:
    """The first of some attributes that a dataset has, if it is a text."""
    try:
        key = next((key for key in keys if key in data.attrs), None)
        if key is None:
            return None
        kind = h5py.check_string_dtype(data.attrs.get_id(key).dtype)
        if kind is None:
            return None
        text = data.attrs[key] if kind.length is not None else _read_apart(path, data.name, key)
    except _BROKEN as error:
        raise unreadable(path, f"the attributes of {data.name} are damaged", error, _SAVE_AGAIN) from error
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text.strip() or None if isinstance(text, str) else None


_READ = "import h5py, sys; print(h5py.File(sys.argv[1], locking=False)[sys.argv[2]].attrs[sys.argv[3]], end='')"


def _read_apart(path: Path, name: str, key: str) -> str:
    """A text of variable length, read by another process: HDF5 never returns when the heap it lies in is damaged."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", "-c", _READ, str(path), name, key],
            capture_output=True, encoding="utf-8", timeout=_PATIENCE_S, check=True,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        raise ValueError(f"attribute {key} cannot be read") from error
    return done.stdout
