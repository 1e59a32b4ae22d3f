"""Files that are whole or absent, also when their writer is killed."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groundwork.opening.regular import require_kind

PATIENCE_S = 2.0
"""For somebody who reads the file that is to be replaced, on Windows [s]."""
_LOOK_AGAIN_S = 0.02


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well.

    The block writes and closes the file. What it wrote is on the disk before the file is renamed; the folder is made if
    there is none. On any exception the temporary file is removed, and an older file at ``path`` stays as it was.

    Raises
    ------
    OSError
        Disk full, not writable, or a folder, pipe or device is there, which stays what it is.
    """
    _require_no_other_kind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("r+b") as stream:
            os.fsync(stream.fileno())
        _take_the_place_of(path, temporary)
    finally:
        temporary.unlink(missing_ok=True)


def _require_no_other_kind(path: Path) -> None:
    """A rename puts a file in the place of whatever it finds, also of ``/dev/null``."""
    try:
        about = path.stat()
    except OSError:
        return  # nothing is there, or the write will say what is wrong
    require_kind(path, about)


def _take_the_place_of(path: Path, temporary: Path) -> None:
    """Rename. Windows refuses that while somebody reads the older file, which takes milliseconds: it is tried again."""
    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.replace(temporary, path)  # noqa: PTH105 — one system call, the same on Windows
            return
        except PermissionError:
            if not _is_windows() or time.monotonic() >= until_s:
                raise
            time.sleep(_LOOK_AGAIN_S)


def _is_windows() -> bool:
    return os.name == "nt"


def write_whole(path: Path, raw: bytes) -> None:
    """Replace ``path`` by ``raw``, as `whole_file` does."""
    with whole_file(path) as temporary:
        temporary.write_bytes(raw)
