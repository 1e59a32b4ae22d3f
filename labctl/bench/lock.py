"""One process per bench: an operating-system lock, by the bench's name, that a kill releases."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.archive.atomic import storage
from labctl.errors import BenchBusy
from labctl.osal import state_directory


def lock_path(bench: str) -> Path:
    """Where the lock of a bench lies: one place for all folders of runs, as the devices are the same."""
    return state_directory() / "benches" / f"{bench}.lock"


@contextmanager
def hold_bench(bench: str) -> Iterator[Callable[[str], None]]:
    """Hold a bench for as long as the block takes.

    Yields
    ------
    A function to be told the run that holds it, for whoever finds it busy.

    Raises
    ------
    BenchBusy
        When another process holds it; exit code 75.
    """
    from filelock import FileLock, Timeout

    path = lock_path(bench)
    holder = path.with_suffix(".json")
    lock = FileLock(path)
    with storage(path, "locking the bench"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise BenchBusy(
                "another process holds the bench",
                device=bench,
                action="locking the bench",
                seen=_words(holder),
                safe="nothing was touched",
                hint="wait for it, or look at it: labctl run list",
            ) from error

    def held_by(run_id: str) -> None:
        with storage(holder, "locking the bench"):
            holder.write_text(json.dumps({"run_id": run_id, "pid": os.getpid()}), encoding="utf-8")

    try:
        yield held_by
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _words(holder: Path) -> str:
    """Who holds the bench, as far as that was written down."""
    try:
        about = json.loads(holder.read_bytes())
        return f"run {about['run_id']}, process {about['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that left no name"
