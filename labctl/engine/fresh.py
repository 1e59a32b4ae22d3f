"""Modules that run in a fresh interpreter, and those that nobody stops: they put right what others have left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

FAILED = 1
_DEAF_TO = frozenset({signal.SIGINT, signal.SIGTERM, *({signal.SIGHUP, signal.SIGQUIT} if os.name == "posix" else ())})


def python(module: str, *arguments: str) -> list[str]:
    """A module in a fresh interpreter; the current folder is on its path only if it is on ours."""
    return [sys.executable, *([] if _here_is_on_path() else ["-P"]), "-m", module, *arguments]


def unstopped(
    module: str, *arguments: str, limit_s: float, pass_fds: Collection[int] = (), stdout: BinaryIO | int | None = None
) -> int:
    """Run a module that an operator's signals do not reach, and return its exit code.

    It has a session of its own, and starts with the stop signals blocked. Where this process is stopped meanwhile, it
    goes on to its end.

    Parameters
    ----------
    limit_s
        After this long it is killed, and has failed; the kernel does that, too, when this process is gone.
    pass_fds
        Descriptors that it inherits.
    stdout
        Where its output goes; None for ours.
    """
    with stops_blocked():
        process = subprocess.Popen(
            python(module, f"{limit_s + 1:.0f}", *arguments),
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
        )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        return FAILED


def end_after(seconds: str) -> None:
    """In such a module: the kernel ends this process then, whatever native call it hangs in."""
    if os.name == "posix":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds))


def unblock_stops() -> None:
    """In such a process, where it handles them: stop signals come now, those that have waited first."""
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _DEAF_TO)


@contextmanager
def stops_blocked() -> Iterator[None]:
    """What is started inside inherits that stop signals wait; for this process they wait until the block ends."""
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _here_is_on_path() -> bool:
    try:
        return bool(sys.path) and sys.path[0] in ("", str(Path.cwd()))
    except OSError:  # the current folder was removed
        return False
