"""One writer per run: an operating-system lock that a kill releases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.archive.atomic import storage
from labctl.errors import RunInUse

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"


def hold(folder: Path) -> BaseFileLock:
    """Take the lock of a run folder; `release` gives it back, and so does the end of the process.

    Raises
    ------
    RunInUse
        When another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    with storage(folder / LOCK, "locking"):
        try:
            lock.acquire(timeout=1)
        except Timeout as error:
            raise RunInUse(
                "another process writes this run",
                device=folder.name,
                safe="nothing was changed",
                hint=f"wait for it, or look at it: labctl run show {folder.name.rpartition('-')[2]}",
            ) from error
    return lock


def is_held(folder: Path) -> bool:
    """Whether a living process writes the run now."""
    from filelock import FileLock, Timeout

    if not (folder / LOCK).exists() or not os.access(folder / LOCK, os.W_OK):
        return False
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # a read-only copy of the archive: nobody writes there
        return False
    lock.release()
    return False
