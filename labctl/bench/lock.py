"""One process per bench: a lock of the kernel, by the bench's name, that a kill releases; and a note of who it is."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from labctl.archive.atomic import atomic_write_json, storage
from labctl.clock import utc_now
from labctl.errors import BenchBusy, LockUntrusted
from labctl.locks import BenchFiles, KernelLock, benches, file_system_without_locks, take
from labctl.osal import process_lives

_PATIENCE_S = 0.3
"""For a supervisor that is just letting go, or somebody who only looks."""
_TURN_S = 0.5


class Keeper(Protocol):
    """A process that outlives this one and keeps the lock meanwhile."""

    @property
    def process(self) -> int:
        """Its number."""

    def entrust(self, bench: str, lock: KernelLock) -> None:
        """Hand the lock over: it is the keeper's from now on."""

    def give_back(self, bench: str) -> None:
        """The keeper lets go."""


@dataclass(frozen=True)
class Holder:
    """Who has written down that he holds a bench.

    Attributes
    ----------
    bench
        Its name.
    process
        Number of the process that holds the lock.
    who
        The run, or the command where there is no run.
    purpose
        The command.
    user, host
        Of the process.
    since, until
        ISO dates, UTC; until is empty where nobody knows.
    """

    bench: str
    process: int
    who: str
    purpose: str = ""
    user: str = ""
    host: str = ""
    since: str = ""
    until: str = ""

    @property
    def lives(self) -> bool:
        """Whether the process exists; one that was killed has left the note behind."""
        return process_lives(self.process)

    @property
    def words(self) -> str:
        """All that is known of him, in a line."""
        what = f"{self.purpose}, run {self.who}" if self.purpose not in ("", self.who) else self.who
        person = f"{self.user}@{self.host}, " if self.user else ""
        times = f", since {self.since}" if self.since else ""
        times += f", until about {self.until}" if self.until else ""
        return f"{what} ({person}process {self.process}){times}"


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
    process = keeper.process if keeper else os.getpid()
    lock = _taken(files, wait_s, say)
    holder = Holder(bench, process, purpose, purpose, _user(), socket.gethostname(), f"{utc_now():%FT%TZ}", until)

    def held_by(run_id: str) -> None:
        with storage(files.note, "locking the bench"):
            atomic_write_json(files.note, asdict(replace(holder, who=run_id)))

    try:
        held_by(purpose)
        if keeper:
            keeper.entrust(bench, lock)
        yield held_by
    finally:
        written = holder_of(bench)
        if written is not None and written.process == process:
            files.note.unlink(missing_ok=True)
        if keeper:
            keeper.give_back(bench)
        lock.release()


def _taken(files: BenchFiles, wait_s: float, say: Callable[[str], None]) -> KernelLock:
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
        lock = take(files.lock, min(wait_s, _PATIENCE_S) or _PATIENCE_S)
        until_s, said = time.monotonic() + wait_s, False
        while lock is None and time.monotonic() < until_s:
            if not said:
                say(f"waiting for the bench {files.bench}, at most {wait_s:.0f} s: {_words(files.bench)}")
                said = True
            lock = take(files.lock, min(_TURN_S, max(until_s - time.monotonic(), 0.0)))
    if lock is None:
        raise BenchBusy(
            "another process holds the bench",
            device=files.bench,
            action="locking the bench",
            seen=_words(files.bench),
            safe="nothing was touched",
            hint=f"wait for it: --wait 10m   ·   look at it: labctl bench who {files.bench}",
        )
    return lock


def holder_of(bench: str) -> Holder | None:
    """Who holds a bench or was killed while he did; None where nobody has written that down."""
    try:
        about = json.loads(BenchFiles(bench).note.read_bytes())
        texts = {key: str(about.get(key, "")) for key in ("purpose", "user", "host", "since", "until")}
        return Holder(bench, int(about["process"]), str(about["who"]), **texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def living_holders() -> list[Holder]:
    """Who holds any bench of this computer now."""
    found = (holder_of(note.stem) for note in sorted(benches().glob("*.json")))
    return [holder for holder in found if holder is not None and holder.lives]


def _user() -> str:
    with contextlib.suppress(OSError, KeyError):  # a number without a name, as in a container
        return getpass.getuser()
    return str(os.getuid()) if hasattr(os, "getuid") else "somebody"


def _words(bench: str) -> str:
    """Who holds the bench, as far as that was written down."""
    holder = holder_of(bench)
    return holder.words if holder else "a process that left no name"
