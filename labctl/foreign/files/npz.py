"""Read ``*.npz``: sizes from the headers first, numbers only, never a pickle."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Contents, check_numbers, too_large, unreadable

_SAVE_AGAIN = "save it again: np.savez(FILE, inputs=…, weights=…, readings=…)"
_MOST_MEMBERS = 1000
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
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"npy format {version}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, self._fortran, self.dtype = read(stream)
            self._start = stream.tell()

    def check(self) -> None:
        """Refuse types other than numbers, and sizes that the entry does not have or memory cannot hold."""
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
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise unreadable(path, "not an npz file, or only part of one", error, _SAVE_AGAIN) from error
    with archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(infos) > _MOST_MEMBERS:
            raise unreadable(path, f"the npz file has more than {_MOST_MEMBERS} members", len(infos))
        members = {}
        for info in infos:
            try:
                member = Member(path, archive, info)
            except _BROKEN as error:
                raise unreadable(path, f"member {info.filename!r} is damaged", error, _SAVE_AGAIN) from error
            members[member.name] = member
        yield Contents(members)
