"""Files that are whole or absent, also when their writer is killed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well.

    The block writes and closes the file. What it wrote is on the disk before the file is renamed; the folder is made if
    there is none. On any exception the temporary file is removed, and an older file at ``path`` stays as it was.

    Raises
    ------
    OSError
        Disk full, or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)  # noqa: PTH105 — one system call, the same on Windows
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, raw: bytes) -> None:
    """Replace ``path`` by ``raw``, as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_bytes(raw)
