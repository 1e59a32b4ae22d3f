"""Read ``*.mat``: the numeric arrays of MATLAB files, up to version 7 by scipy, of 7.3 as the HDF5 files they are."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.opening.regular import open_regular
from labctl.foreign.files import hdf5
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Array, Contents, check_numbers, too_large, unreadable

_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEADER_BYTES = 128
_SAVE_AGAIN = "save it again: save('FILE.mat', 'inputs', 'weights', 'readings', '-v7.3')"
_NUMERIC = ("double", "single", "logical", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)))


class Reversed:
    """A dataset whose axes MATLAB wrote in the reverse order, as MATLAB shows it.

    Parameters
    ----------
    data
        As HDF5 has it.
    """

    def __init__(self, data: hdf5.Dataset) -> None:
        self._data, self.shape, self.dtype = data, data.shape[::-1], data.dtype

    def check(self) -> None:
        """As the dataset's."""
        self._data.check()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        parts = key if isinstance(key, tuple) else (key,)
        whole = (*parts, *[slice(None)] * (len(self.shape) - len(parts)))
        return np.asarray(self._data[whole[::-1]]).T


class Variable:
    """One variable of an older file, read when it is asked for."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...]) -> None:
        self._path, self._name, self.shape = path, name, tuple(int(n) for n in shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type, which only the numbers tell."""
        return self.values.dtype

    def check(self) -> None:
        """Refuse what memory cannot hold, and what is no number."""
        if (nbytes := 8 * math.prod(self.shape)) > MEMORY_LIMIT_BYTES:
            raise too_large(self._path, self._name, nbytes)
        check_numbers(self._path, self._name, self.values.dtype)

    @cached_property
    def values(self) -> NDArray[Any]:
        """The whole array."""
        from scipy.io import loadmat

        try:
            found = loadmat(self._path, variable_names=[self._name])[self._name]
        except Exception as error:  # scipy raises whatever the damage leads to
            raise unreadable(self._path, f"{self._name} is damaged", error, _SAVE_AGAIN) from error
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.values[key])


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The numeric variables of a MATLAB file.

    Raises
    ------
    CaptureUnreadable
        When it is not a whole MATLAB file.
    """
    with open_regular(path) as stream:
        head = stream.read(520)
    if head.startswith(_HDF5) or head[512:520] == _HDF5:
        with hdf5.open_contents(path) as contents:
            arrays: dict[str, Array] = {
                name: Reversed(data)
                for name, data in contents.arrays.items()
                if isinstance(data, hdf5.Dataset) and not name.startswith("#") and data.dtype.kind in "biuf"
            }
            yield Contents(arrays, contents.unit_of)
        return
    from scipy.io import whosmat

    _check_whole(path, head)
    try:
        listed = whosmat(path)
    except Exception as error:  # scipy raises whatever the damage leads to
        raise unreadable(path, "not a MATLAB file, or only part of one", error, _SAVE_AGAIN) from error
    yield Contents({name: Variable(path, name, shape) for name, shape, kind in listed if kind in (*_NUMERIC, "sparse")})


def _check_whole(path: Path, head: bytes) -> None:
    """Refuse a version 5 file whose last variable is cut short: scipy would list the others as if they were all."""
    if not head.startswith(b"MATLAB 5.0"):
        return
    order = "<" if head[126:128] == b"IM" else ">"
    size, at = path.stat().st_size, _HEADER_BYTES
    with open_regular(path) as stream:
        while at < size:
            stream.seek(at)
            tag = stream.read(8)
            at += 8 + (struct.unpack(f"{order}4xI", tag)[0] if len(tag) == 8 else 0)
            if at > size or len(tag) < 8:
                raise unreadable(path, "only part of a MATLAB file", f"{size} bytes, {at} announced", _SAVE_AGAIN)
