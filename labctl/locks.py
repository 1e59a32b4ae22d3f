"""Locks that the kernel releases however their holder ends, and the files of a bench that lie beside its lock.

Standard library only: the supervisor and the guardian use them, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from labctl.osal import state_directory

_LOOK_AGAIN_S = 0.02
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
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
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


def is_taken(path: Path) -> bool:
    """Whether a living process holds the lock of this file."""
    if not path.exists():
        return False
    lock = take(path)
    if lock is None:
        return True
    lock.release()
    return False


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
else:
    import fcntl

    def _locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
