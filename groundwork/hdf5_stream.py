"""A file that HDF5 writes into, also where the disk gets full."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class _Patient(io.FileIO):
    """Keeps the first error of a write to itself: HDF5 cannot close a file that refuses, and the process dies of it."""

    failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        """All of it: a disk that is nearly full takes a part and reports no error, and h5py does not ask how much."""
        bytes_ = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(bytes_):
                written += super().write(bytes_[written:])
        except OSError as error:
            self.failed = self.failed or error
        return len(bytes_)

    def truncate(self, size: int | None = None, /) -> int:
        """As of any file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return self.tell() if size is None else size


@contextmanager
def hdf5_stream(path: Path) -> Iterator[io.FileIO]:
    """Open a new file for HDF5; what the system refused while it was written is raised once it is closed.

    Raises
    ------
    OSError
        When the disk is full, or the file cannot be written for another reason.
    """
    with _Patient(path, "w+") as stream:
        try:
            yield stream
        except Exception:
            if stream.failed:
                raise stream.failed from None  # what came of it says less
            raise
    if stream.failed:
        raise stream.failed
