"""What a worker leaves behind that stalled or died: the bench is made safe, and its run sealed.

For the supervisor, and for the guardian where the supervisor is gone, too. Nothing here is slow to import: what takes
more is done by fresh processes (`labctl.engine.safe_state`, `labctl.engine.aftermath`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from groundwork.opening.json_text import read_json
from labctl.engine import fresh
from labctl.locks import BenchFiles, KernelLock, lock_of_run, take

SAFE_STATE_S = 20.0
SEAL_S = 120.0
_LOCK_S = 1.0

CLOSED, SAFE, UNKNOWN = "closed", "safe", "unknown"
"""How devices are left: they were not in use, they were opened again and made safe, or nobody knows."""


def made_safe(benches: Iterable[str], worker: int) -> str:
    """Make safe what this worker has left open; returns how the devices are now."""
    left = [bench for bench in benches if _left_open(bench, worker)]
    made = [is_made_safe(bench, str(worker)) for bench in left]
    return CLOSED if not left else SAFE if all(made) else UNKNOWN


def is_made_safe(bench: str, *worker: str, stdout: int | None = None) -> bool:
    """Make safe what was left open of a bench, in a fresh process; with a worker, only what that one has left."""
    arguments = (bench, *worker)
    return fresh.unstopped("labctl.engine.safe_state", *arguments, limit_s=SAFE_STATE_S, stdout=stdout) == 0


def _left_open(bench: str, worker: int) -> bool:
    """Whether there is a mark of this worker, or one that cannot be read."""
    mark = BenchFiles(bench).mark
    if not mark.exists():
        return False
    try:
        return int(read_json(mark)["process"]) == worker
    except (OSError, ValueError, KeyError, TypeError):
        return True


def lock_run(run: str | None) -> KernelLock | None:
    """The lock of the worker's run, before anybody else can find a run that nobody writes.

    None where there is no run, or the worker is still there, or its folder is gone.
    """
    try:
        return take(lock_of_run(Path(run)), _LOCK_S) if run else None
    except OSError:
        return None


def seal(run: str, reason: str, devices: str, lock: KernelLock | None, document: BinaryIO | None = None) -> int:
    """Seal a run as a fault and say so; returns the exit code.

    Parameters
    ----------
    lock
        Of the run, where it is held already.
    document
        Where the document goes; None where none is wanted.
    """
    given = (str(lock.descriptor), (lock.descriptor,)) if lock else ("", ())
    return _told(("seal", run, reason, devices, given[0]), document, given[1])


def tell_lost(number: int, reason: str, devices: str, document: BinaryIO | None = None) -> int:
    """Say that a worker ended that had no run; returns the exit code."""
    return _told(("lost", str(number), reason, devices, ""), document, ())


def _told(words: tuple[str, ...], document: BinaryIO | None, pass_fds: tuple[int, ...]) -> int:
    arguments = (*words, "--json") if document else words
    return fresh.unstopped(
        "labctl.engine.aftermath", *arguments, limit_s=SEAL_S, pass_fds=pass_fds, stdout=document or None
    )
