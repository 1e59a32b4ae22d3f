"""Locks that the kernel releases however their holder ends, and the files of a bench that lie beside its lock.

Nothing here is slow to import: the supervisor and the guardian use them, too.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from groundwork.files import write_whole
from groundwork.opening.json_text import read_json
from labctl.clock import utc_now
from labctl.osal import process_lives, state_directory

PATIENCE_S = 0.3
"""For a supervisor that is just letting go of a bench, or somebody who only looks."""
_LOOK_AGAIN_S = 0.02
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe in its place is not waited for
_OF_OTHER_COMPUTERS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "ncpfs"})


class KernelLock:
    """A lock that this process has taken; whoever gets a copy of its descriptor holds it as well.

    Parameters
    ----------
    descriptor
        Of the open file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Let go; another process with a copy of the descriptor goes on holding it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def take(path: Path, wait_s: float = 0.0) -> KernelLock | None:
    """Take the lock of this file within ``wait_s`` seconds; None where somebody else has it for longer than that."""
    descriptor = _opened(path)
    until_s = time.monotonic() + wait_s
    try:
        while not _locked(descriptor):
            if time.monotonic() >= until_s:
                os.close(descriptor)
                return None
            time.sleep(_LOOK_AGAIN_S)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
    return KernelLock(descriptor)


def _opened(path: Path) -> int:
    """A file that another user made is locked as well: its lock asks for no right to write."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o644)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _FLAGS)


def is_taken(path: Path) -> bool:
    """Whether a living process holds the lock of this file; of those who only look, none sees another."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)  # also that of another user
    try:
        return not _shared(descriptor)
    finally:
        os.close(descriptor)


def identity_of(file: Path | int) -> tuple[int, int] | None:
    """What tells a file, by its path or an open descriptor, from any other that takes its name; None where none is."""
    try:
        about = os.fstat(file) if isinstance(file, int) else file.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def file_system_without_locks(folder: Path) -> str | None:
    """The kind of file system where a lock says nothing of other computers; None where locks can be trusted."""
    if sys.platform != "linux":
        return None
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            where, _, what = line.partition(" - ")
            kind = what.split(" ", 1)[0]
            if where.split(" ")[2] == number and kind in _OF_OTHER_COMPUTERS:
                return kind
    return None


if sys.platform == "win32":
    import msvcrt

    def _locked(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    _shared = (
        _locked  # a file region of Windows has one owner: of two who look at once, one may be told that it is taken
    )
else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        return _flocked(descriptor, fcntl.LOCK_EX)

    def _shared(descriptor: int) -> bool:
        return _flocked(descriptor, fcntl.LOCK_SH)

    def _flocked(descriptor: int, kind: int) -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@dataclass(frozen=True)
class BenchFiles:
    """The files of one bench, in one place for all folders of runs, as the devices are the same."""

    bench: str

    @property
    def lock(self) -> Path:
        """Held by whoever has the bench."""
        return self._file("lock")

    @property
    def touch(self) -> Path:
        """Held by the process that has devices open."""
        return self._file("touch")

    @property
    def note(self) -> Path:
        """Who has the bench."""
        return self._file("json")

    @property
    def mark(self) -> Path:
        """Devices were opened, and have not been made safe since."""
        return self._file("open")

    def _file(self, suffix: str) -> Path:
        return benches() / f"{self.bench}.{suffix}"


def benches() -> Path:
    """The folder of these files."""
    return state_directory() / "benches"


def lock_of_run(folder: Path) -> Path:
    """Held by whoever writes the run in this folder."""
    return folder / ".lock"


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

    @classmethod
    def now(cls, bench: str, process: int, purpose: str, until: str = "") -> Holder:
        """From now on."""
        return cls(bench, process, purpose, purpose, _user(), socket.gethostname(), f"{utc_now():%FT%TZ}", until)

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

    def write_down(self) -> None:
        """Where the next one looks who finds the bench busy."""
        write_whole(BenchFiles(self.bench).note, json.dumps(asdict(self), indent=2).encode() + b"\n")

    def cross_out(self) -> None:
        """What is written down, where it still is of this process."""
        written = holder_of(self.bench)
        if written is not None and written.process == self.process:
            BenchFiles(self.bench).note.unlink(missing_ok=True)


def holder_of(bench: str) -> Holder | None:
    """Who holds a bench or was killed while he did; None where nobody has written that down."""
    try:
        about = read_json(BenchFiles(bench).note)
        texts = {key: str(about.get(key, "")) for key in ("purpose", "user", "host", "since", "until")}
        return Holder(bench, int(about["process"]), str(about["who"]), **texts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _user() -> str:
    with contextlib.suppress(OSError, KeyError):  # a number without a name, as in a container
        return getpass.getuser()
    return str(os.getuid()) if hasattr(os, "getuid") else "somebody"
