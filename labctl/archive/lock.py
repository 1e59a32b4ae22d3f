"""One writer per run: an operating-system lock that a kill releases."""

from __future__ import annotations

from pathlib import Path

from labctl.archive.atomic import storage
from labctl.errors import RunInUse
from labctl.locks import KernelLock, is_taken, lock_of_run, take

_WAIT_S = 1.0


def hold(folder: Path) -> KernelLock:
    """Take the lock of a run folder; `release` gives it back, and so does the end of the process.

    Raises
    ------
    RunInUse
        When another process holds it.
    """
    with storage(lock_of_run(folder), "locking"):
        lock = take(lock_of_run(folder), _WAIT_S)
    if lock is None:
        raise RunInUse(
            "another process writes this run",
            device=folder.name,
            safe="nothing was changed",
            hint=f"wait for it, or look at it: labctl run show {folder.name.rpartition('-')[2]}",
        )
    return lock


def is_held(folder: Path) -> bool:
    """Whether a living process writes the run now."""
    try:
        return is_taken(lock_of_run(folder))
    except OSError:  # no file, or one that nobody but its user may look at
        return False
