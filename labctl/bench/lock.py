"""One process per bench: an operating-system lock, by the bench's name, that a kill releases."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.archive.atomic import storage
from labctl.errors import BenchBusy
from labctl.osal import process_lives, state_directory


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
    holder = note_path(bench)
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
                seen=_words(bench),
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


@dataclass(frozen=True)
class Holder:
    """Who has written down that he holds a bench: ``Holder("mock", "20260101T000000Z-mock-k7f2", 4711)``."""

    bench: str
    who: str
    process: int

    @property
    def lives(self) -> bool:
        """Whether the process exists; one that was killed has left the note behind, and perhaps a light on."""
        return process_lives(self.process)


def holder_of(bench: str) -> Holder | None:
    """Who holds a bench or was killed while he did; None where nobody has written that down."""
    try:
        about = json.loads(note_path(bench).read_bytes())
        return Holder(bench, str(about["run_id"]), int(about["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def living_holders() -> list[Holder]:
    """Who holds any bench of this computer now."""
    notes = sorted((state_directory() / "benches").glob("*.json"))
    found = (holder_of(note.stem) for note in notes)
    return [holder for holder in found if holder is not None and holder.lives]


def note_path(bench: str) -> Path:
    """Where the holder of a bench writes down who he is."""
    return lock_path(bench).with_suffix(".json")


def _words(bench: str) -> str:
    """Who holds the bench, as far as that was written down."""
    holder = holder_of(bench)
    return f"run {holder.who}, process {holder.process}" if holder else "a process that left no name"
