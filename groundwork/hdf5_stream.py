"""A file that HDF5 writes into, also where the disk gets full."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Patient(io.FileIO):
    """Takes whatever is written: what the disk refuses is kept in memory, and is there when it is read.

    HDF5 cannot close a file that refuses a write, or that does not give back what was written. What it leaves open then
    is written at the end of the process into a stream that is closed, and takes the process along.

    Attributes
    ----------
    failed
        The first refusal; None where there was none.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failed: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []
        self._end = 0

    def require_taken(self) -> None:
        """Raise the first refusal: whoever has much to write need not write all of it into memory.

        Raises
        ------
        OSError
            Where there was one.
        """
        if self.failed:
            raise self.failed

    def write(self, data: Any, /) -> int:
        """All of it: a disk that is nearly full takes a part and reports no error, and h5py does not ask how much."""
        bytes_, at, written = memoryview(data).cast("B"), self.tell(), 0
        try:
            while written < len(bytes_) and not self.failed:
                written += super().write(bytes_[written:])
        except OSError as error:
            self.failed = error
        if written < len(bytes_):
            self._kept.append((at + written, bytes(bytes_[written:])))
            self.seek(at + len(bytes_))
        self._end = max(self._end, at + len(bytes_))
        return len(bytes_)

    def truncate(self, size: int | None = None, /) -> int:
        """As of any file."""
        self._end = self.tell() if size is None else size
        try:
            return self._end if self.failed else super().truncate(self._end)
        except OSError as error:
            self.failed = error
            return self._end

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """As of any file; it ends where the last write has ended, wherever that went."""
        return super().seek(self._end + offset) if whence == os.SEEK_END else super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        """What was written, to the disk and to memory."""
        at = self.tell()
        left = max(self._end - at, 0)
        size = left if size is None or size < 0 else min(size, left)
        found = bytearray(size)
        part = super().read(size) or b""
        found[: len(part)] = part
        for begin, kept in self._kept:
            first, last = max(begin, at), min(begin + len(kept), at + size)
            if first < last:
                found[first - at : last - at] = kept[first - begin : last - begin]
        self.seek(at + size)
        return bytes(found)

    def readinto(self, buffer: Any, /) -> int:
        """The same, into a buffer."""
        into = memoryview(buffer).cast("B")
        found = self.read(len(into))
        into[: len(found)] = found
        return len(found)


@contextmanager
def hdf5_stream(path: Path) -> Iterator[Patient]:
    """Open a new file for HDF5; what the system refused while it was written is raised once it is closed.

    Raises
    ------
    OSError
        When the disk is full, or the file cannot be written for another reason.
    """
    with Patient(path) as stream:
        try:
            yield stream
        except Exception:
            stream.require_taken()  # what came of it says less
            raise
    stream.require_taken()
