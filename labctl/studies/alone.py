"""One command at a time for each place that results go to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.errors import RunInUse
from labctl.locks import KernelLock, identity_of, take


@contextmanager
def alone(output: Path, action: str) -> Iterator[None]:
    """While open, no other process does the same for ``output``, whose folder exists.

    The lock is a hidden file beside it. The kernel lets go of it however its holder ends.

    Raises
    ------
    RunInUse
        When another process has it.
    OSError
        When the folder cannot be written.
    """
    path = output.with_name(f".{output.name}.lock")
    lock = _taken(path)
    if lock is None:
        raise RunInUse(
            "another command writes there",
            device=str(output),
            action=action,
            expected="one command at a time for each output",
            seen=f"{path.name}, which a living process holds",
            safe="nothing was touched",
            hint=f"wait until it has ended, or choose another output than {output}",
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _taken(path: Path) -> KernelLock | None:
    """The lock of the file that has this name now, and not of one that its last holder has just removed."""
    while (lock := take(path)) is not None:
        if identity_of(lock.descriptor) == identity_of(path):
            return lock
        lock.release()
    return None
