"""One process per bench: a lock of the kernel, by the bench's name, that a kill releases; and a note of who it is."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from labctl.archive.atomic import storage
from labctl.errors import BenchBusy, LockUntrusted
from labctl.locks import PATIENCE_S, BenchFiles, Holder, KernelLock, benches, file_system_without_locks, holder_of, take

_TURN_S = 0.5
SAY_EVERY_S = 60.0
"""So often whoever waits is told that this goes on, and for whom [s]."""
_NAMELESS = "a process that left no name"


class Keeper(Protocol):
    """A process that outlives this one and keeps the lock meanwhile."""

    @property
    def process(self) -> int:
        """Its number."""

    def has(self, bench: str) -> bool:
        """Whether it holds the bench already, for this process."""

    def entrust(self, bench: str, lock: KernelLock) -> None:
        """Hand the lock over: it is the keeper's from now on."""

    def waits(self) -> None:
        """Hear that this process waits for a bench, and does not hang."""

    def give_back(self, bench: str) -> None:
        """The keeper lets go."""


@contextmanager
def hold_bench(
    bench: str,
    purpose: str = "",
    *,
    wait_s: float = 0.0,
    until: str = "",
    keeper: Keeper | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Iterator[Callable[[str], None]]:
    """Hold a bench for as long as the block takes.

    Parameters
    ----------
    purpose
        The command, for whoever finds the bench busy.
    wait_s
        How long to wait for another process.
    until
        When it will be free again, as far as that is known.
    keeper
        Keeps the lock, also where this process is killed.
    say
        Is told for whom the command waits.

    Yields
    ------
    A function to be told the run that holds it, for whoever finds it busy.

    Raises
    ------
    BenchBusy
        When another process holds it; exit code 75.
    LockUntrusted
        When the state folder lies on another computer.
    """
    files = BenchFiles(bench)
    lock = None if keeper and keeper.has(bench) else _taken(files, wait_s, say, keeper)
    holder = Holder.now(bench, keeper.process if keeper else os.getpid(), purpose, until)

    def held_by(run_id: str) -> None:
        with storage(files.note, "locking the bench"):
            replace(holder, who=run_id).write_down()

    try:
        held_by(purpose)
        if keeper and lock:
            keeper.entrust(bench, lock)
        yield held_by
    finally:
        holder.cross_out()
        if keeper:
            keeper.give_back(bench)
        if lock:
            lock.release()


def _taken(files: BenchFiles, wait_s: float, say: Callable[[str], None], keeper: Keeper | None) -> KernelLock:
    """The lock, as soon as it is free."""
    with storage(files.lock, "locking the bench"):
        files.lock.parent.mkdir(parents=True, exist_ok=True)
        if kind := file_system_without_locks(files.lock.parent):
            raise LockUntrusted(
                f"the state folder lies on a file system of another computer ({kind}), where locks cannot be trusted",
                device=files.bench,
                action="locking the bench",
                expected="a local folder",
                seen=str(files.lock.parent),
                safe="nothing was touched",
                hint="export XDG_STATE_HOME=/a/local/folder, the same for all who use the bench",
            )
        lock = take(files.lock, min(wait_s, PATIENCE_S) or PATIENCE_S)
        until_s, told_s = time.monotonic() + wait_s, -math.inf
        while lock is None and time.monotonic() < until_s:
            if time.monotonic() - told_s >= SAY_EVERY_S:
                told_s = time.monotonic()
                if keeper:
                    keeper.waits()
                who = f"held by {_who(files.bench)}"
                say(f"waiting for the bench {files.bench}, {_in_words(until_s - told_s)} at most: {who}")
            lock = take(files.lock, min(_TURN_S, max(until_s - time.monotonic(), 0.0)))
    if lock is None:
        raise busy(files.bench)
    return lock


def busy(bench: str) -> BenchBusy:
    """That another process holds the bench, and who it is as far as that was written down."""
    return BenchBusy(
        "another process holds the bench",
        device=bench,
        action="locking the bench",
        seen=_who(bench),
        safe="nothing was touched",
        hint=f"wait for it: --wait 10m   ·   look at it: labctl bench who {bench}",
    )


def living_holders() -> list[Holder]:
    """Who holds any bench of this computer now."""
    found = (holder_of(note.stem) for note in sorted(benches().glob("*.json")))
    return [holder for holder in found if holder is not None and holder.lives]


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _who(bench: str) -> str:
    holder = holder_of(bench)
    return holder.words if holder else _NAMELESS
