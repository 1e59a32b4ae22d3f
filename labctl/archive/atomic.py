"""Files that are whole or absent: written under a temporary name, synced, renamed; and journals, appended by lines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from groundwork.errors import FileRefused
from groundwork.files import whole_file
from groundwork.opening.json_text import parse_json
from groundwork.opening.regular import read_regular
from labctl.errors import storage_error
from labctl.osal import fsync_directory


@contextmanager
def storage(path: Path, action: str) -> Iterator[None]:
    """Turn an `OSError` inside the block into the `StorageError` that says what it means for ``path``."""
    try:
        yield
    except FileRefused:
        raise
    except OSError as error:
        raise storage_error(error, path, action) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that gets the final name only when the block ends well.

    The block writes and closes the file; what it wrote is synced to the disk before the rename, and the rename
    after it. On any exception the temporary file is removed and an older file at ``path`` stays as it was.
    """
    with storage(path, "writing"):
        with whole_file(path) as temporary:
            yield temporary
        fsync_directory(path.parent)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``.

    Raises
    ------
    StorageError
        Disk full, not writable, or another answer of the operating system.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, UTF-8 with ``\\n`` line ends everywhere."""
    atomic_write_bytes(path, text.encode())


def atomic_write_json(path: Path, document: Any) -> None:
    """Replace ``path`` by indented JSON; NaN is refused because JSON has none."""
    atomic_write_bytes(path, _json(document, indent=2))


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all.

    Raises
    ------
    StorageError
        When ``source`` cannot be read, or ``target`` not be written.
    """
    with storage(source, "reading"):
        data = read_regular(source)
    atomic_write_bytes(target, data)


def append_line(path: Path, record: Mapping[str, Any], *, sync: bool = False) -> None:
    """Append one JSON line, handed to the operating system at once; with ``sync`` it is on the disk at return."""
    line = _json(record, separators=(",", ":"))
    with storage(path, "appending"), path.open("ab", buffering=0) as stream:
        end = stream.seek(0, os.SEEK_END)
        try:
            if stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                os.fsync(stream.fileno())
        except OSError:
            stream.truncate(end)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a journal, without the torn last line that a kill may leave.

    Raises
    ------
    ValueError
        When a complete line is not a JSON object.
    """
    if not path.exists():
        return []
    with storage(path, "reading"):
        whole, _, _torn = read_regular(path).rpartition(b"\n")
    records = [parse_json(line, path) for line in whole.splitlines()]
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("a line is not a JSON object")
    return records


def drop_torn_line(path: Path) -> None:
    """Cut off the last line if a kill left it unfinished, so that the next one starts on its own line."""
    if not path.exists():
        return
    with storage(path, "repairing"), path.open("r+b") as stream:
        whole, newline, _torn = stream.read().rpartition(b"\n")
        stream.truncate(len(whole) + len(newline))


def _json(document: Any, **form: Any) -> bytes:
    """JSON in UTF-8; what is no text in any encoding, such as some names of files, is written as escapes."""
    try:
        return (json.dumps(document, ensure_ascii=False, allow_nan=False, **form) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(document, allow_nan=False, **form) + "\n").encode()
