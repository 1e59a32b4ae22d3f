"""What differs between operating systems, each with a POSIX and a Windows answer."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

_SAME_STOP_S = 1.0
_STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    _STOP_SIGNALS.append(signal.SIGBREAK)


class Terminated(KeyboardInterrupt):
    """The service manager, not the keyboard, asked for the stop: exit code 143."""


def fsync_directory(path: Path) -> None:
    """Make a rename inside ``path`` durable. Windows cannot sync a directory: NTFS journals the rename itself."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def state_directory() -> Path:
    """Where this user's logs go: ``~/.local/state/labctl`` (XDG), on Windows ``%LOCALAPPDATA%\\labctl``."""
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "labctl"


def process_lives(process: int) -> bool:
    """Whether a process of that number exists, be it ours or somebody else's."""
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x100000, False, process)  # SYNCHRONIZE
        if not handle:
            return False
        waiting = ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT: it has not ended
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(waiting)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def die_with_parent() -> None:
    """End this process with the one that started it, even while it is stopped or in a native call.

    Only Linux has that; elsewhere the process must look for itself.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


def can_supervise() -> bool:
    """Whether `labctl.engine.supervisor` works here.

    Not on Windows, where no signal makes a stuck process say what its threads do, and a select does not take pipes:
    there the commands run unsupervised, and a hang is ended in the task manager.
    """
    return os.name == "posix"


def write_line(text: str, stream: TextIO) -> None:
    """Write a line at once. Where nobody reads any more (``labctl … | head``), drop it and all that follows.

    Windows says "invalid argument" of a pipe whose reader has gone.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)):
            raise
        with contextlib.suppress(io.UnsupportedOperation):  # a stream that is no file of the operating system
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def terminate_raises() -> Iterator[None]:
    """SIGTERM (Windows: also Ctrl-Break) raises `Terminated` in the main thread, so that ``finally`` blocks run.

    Ctrl-C raises `KeyboardInterrupt` as ever. Either once: a stop that comes again within a second, sent to the whole
    group and handed on by the supervisor too, must not break into the ``finally`` blocks.
    """
    last_s = -math.inf

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last_s
        before_s, last_s = last_s, time.monotonic()
        if last_s - before_s > _SAME_STOP_S:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    ignored = signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with _handlers(stop, [s for s in _STOP_SIGNALS if not (s == signal.SIGINT and ignored)]):
        yield


@contextmanager
def graceful_stop(announce: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first stop signal into a question, the second into an exception.

    Parameters
    ----------
    announce
        Called at the first signal, to say what happens now and what a second signal does.

    Yields
    ------
    A function that tells whether a stop was asked for; look at it after each block. The second Ctrl-C raises
    `KeyboardInterrupt`, the second SIGTERM `Terminated`.
    """
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        announce()

    with _handlers(stop, _STOP_SIGNALS):
        yield lambda: bool(seen)


@contextmanager
def hang_up_stops() -> Iterator[None]:
    """Where the terminal that closes would end the process at once, it asks for a stop instead, as SIGTERM does.

    Inside of `graceful_stop`. A process that was told to outlive its terminal (``nohup``) goes on.
    """
    if os.name != "posix" or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    with _handlers(lambda number, frame: signal.raise_signal(signal.SIGTERM), [signal.SIGHUP]):
        yield


@contextmanager
def _handlers(stop: Callable[[int, FrameType | None], None], signals: list[signal.Signals]) -> Iterator[None]:
    try:
        before = {number: signal.signal(number, stop) for number in signals}
    except ValueError:  # not the main thread: signals belong to somebody else
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
