"""``runs/index.sqlite``: the rows of sealed runs, so that a list of thousands need not read thousands of folders.

The folders are the truth. A row counts only while SEAL and run.json of its folder have the size and the time that were
noted with it; an index that is missing, locked, damaged or of another version costs speed and never an answer.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from labctl.archive.seal import SEAL

INDEX = "index.sqlite"
WORTH = 50
"""Fewer runs than this are read as quickly without an index."""
_WAIT_S = 0.2
_SETTLED_NS = 2_000_000_000
"""What changed less long ago may change again without another time or size."""


Rows = dict[str, tuple[str, str]]
"""Folder inside the archive → its stamp and its row."""
_memory: ContextVar[dict[Path, Rows] | None] = ContextVar("rows in memory", default=None)


@contextmanager
def kept_in_memory(memory: dict[Path, Rows]) -> Iterator[None]:
    """Inside the block rows are noted in ``memory``, archive by archive, and nothing is written to the disk."""
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)


def stamp(folder: Path) -> str | None:
    """Size and time of the files that a row rests on; None for a run that is not sealed, or was so just now."""
    try:
        states = [(folder / name).stat() for name in (SEAL, "run.json")]
    except OSError:
        return None
    if max(state.st_mtime_ns for state in states) > time.time_ns() - _SETTLED_NS:
        return None
    return " ".join(f"{state.st_mtime_ns} {state.st_size}" for state in states)


def read_rows(root: Path, fields: Iterable[str]) -> Rows:
    """Folder inside the archive → its stamp and its row as it was noted; nothing where there is no good index.

    Parameters
    ----------
    root
        The archive.
    fields
        What a row consists of: one of other fields is another version.
    """
    memory = _memory.get()
    if memory is not None and root in memory:
        return memory[root]
    path = root / INDEX
    if not path.is_file():
        return {}
    try:
        address = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S)) as index:
            if index.execute("PRAGMA user_version").fetchone()[0] != _version(fields):
                return {}
            found = index.execute("SELECT folder, stamp, line FROM runs")
            return {str(folder): (str(noted), str(line)) for folder, noted, line in found}
    except (sqlite3.OperationalError, OSError):
        return {}
    except sqlite3.Error:
        forget(root)
        return {}


def write_rows(root: Path, fields: Iterable[str], rows: Mapping[str, tuple[str, str]]) -> bool:
    """Note rows, as `read_rows` gives them; whether that was possible."""
    memory = _memory.get()
    if memory is not None:
        memory[root] = {**read_rows(root, fields), **rows}
        return True
    version = _version(fields)
    try:
        with closing(sqlite3.connect(root / INDEX, timeout=_WAIT_S)) as index, index:
            index.execute("BEGIN IMMEDIATE")
            if index.execute("PRAGMA user_version").fetchone()[0] != version:
                index.execute("DROP TABLE IF EXISTS runs")
                index.execute(f"PRAGMA user_version = {version}")
            index.execute("CREATE TABLE IF NOT EXISTS runs (folder TEXT PRIMARY KEY, stamp TEXT, line TEXT)")
            lines = [(folder, noted, line) for folder, (noted, line) in rows.items()]
            index.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", lines)
    except (sqlite3.Error, OSError):
        return False
    return True


def forget(root: Path) -> None:
    """Remove the index; the next list makes it anew."""
    memory = _memory.get()
    if memory is not None:
        memory.pop(root, None)
        return
    with suppress(OSError):
        (root / INDEX).unlink(missing_ok=True)


def _version(fields: Iterable[str]) -> int:
    return zlib.crc32(" ".join(fields).encode()) & 0x7FFFFFFF
