"""Read ``*.npz``: sizes from the headers first, numbers only, never a pickle."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from groundwork.opening.zipped import npy_header, open_zip
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Array, Contents, check_numbers, too_large, unreadable
from labctl.foreign.files.times import from_datetime64, is_datetime

_SAVE_AGAIN = "save it again: np.savez(FILE, inputs=…, weights=…, readings=…)"
_MOST_BYTES = 8 * MEMORY_LIMIT_BYTES
_BROKEN = (OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error,
           MemoryError, SyntaxError, TypeError, OverflowError, IndexError)  # fmt: skip


class Member:
    """One array of the file: shape and type from its header, numbers when they are asked for.

    Parameters
    ----------
    path
        Of the file, for messages.
    archive
        The open zip file.
    info
        Its entry.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.name = info.filename.removesuffix(".npy")
        self._path, self._archive, self._info = path, archive, info
        with archive.open(info) as stream:
            header = npy_header(stream, path)
        self.shape, self.dtype, self._start = header.shape, header.dtype, header.start

    def check(self) -> None:
        """Refuse types other than numbers and times, and sizes that the entry does not have or memory cannot hold."""
        if not is_datetime(self.dtype):
            check_numbers(self._path, self.name, self.dtype)
        nbytes = math.prod(self.shape) * self.dtype.itemsize
        if nbytes > MEMORY_LIMIT_BYTES:
            raise too_large(self._path, self.name, nbytes)
        if any(n < 0 for n in self.shape) or nbytes != self._info.file_size - self._start:
            raise unreadable(
                self._path,
                f"{self.name} is not as long as its header says",
                f"shape {self.shape} of {self.dtype} in {self._info.file_size - self._start} bytes",
                _SAVE_AGAIN,
            )

    @cached_property
    def values(self) -> NDArray[Any]:
        """The whole array."""
        self.check()
        try:
            with self._archive.open(self._info) as stream:
                return np.asarray(npy.read_array(stream, allow_pickle=False))
        except _BROKEN as error:
            raise unreadable(self._path, f"{self.name} is damaged", error, _SAVE_AGAIN) from error

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self.values[key])


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The arrays of an npz file.

    Raises
    ------
    CaptureUnreadable
        When it is not a whole zip file of ``.npy`` members.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_zip(path, _MOST_BYTES))
        except _BROKEN as error:
            raise unreadable(path, "not an npz file, or only part of one", error, _SAVE_AGAIN) from error
        members = {}
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            try:
                member = Member(path, archive, info)
            except _BROKEN as error:
                raise unreadable(path, f"member {info.filename!r} is damaged", error, _SAVE_AGAIN) from error
            members[member.name] = member
        arrays: dict[str, Array] = dict(members)
        said = []
        for name, member in members.items():
            if is_datetime(member.dtype):
                arrays[name], words = from_datetime64(name, member.values)
                said.append(words)
        yield Contents(arrays, notes=tuple(said))
