"""What differs between operating systems, each with a POSIX and a Windows answer."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

_SAME_STOP_S = 1.0
_STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if sys.platform == "win32":
    _STOP_SIGNALS.append(signal.SIGBREAK)
else:
    _STOP_SIGNALS.append(signal.SIGQUIT)

PART = "LABCTL_PART"
"""In the environment of a command that another one has started, and which tells by itself that both were stopped."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, not the keyboard, asked for the stop: exit code 143."""


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
    """Where this user's logs go: ``~/.local/state/labctl`` (XDG), on Windows ``%LOCALAPPDATA%\\labctl``.

    A user without a home, as in a container, has a folder among the temporary files.
    """
    base = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_STATE_HOME")
    if base:
        return Path(base) / "labctl"
    home = home_directory()
    if home is None:
        return Path(tempfile.gettempdir()) / f"labctl-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    return home.joinpath(*(("AppData", "Local") if os.name == "nt" else (".local", "state")), "labctl")


def home_directory() -> Path | None:
    """The user's; None for a number that no table of users knows, and that was given none."""
    try:
        return Path.home()
    except RuntimeError:
        return None


def process_lives(process: int) -> bool:
    """Whether a process of that number exists, be it ours or somebody else's."""
    if not 0 < process < 2**31:
        return False
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


def die_with_parent(parent: int | None = None) -> None:
    """End this process with the one that started it, even while it is stopped or in a native call.

    Only Linux has that; elsewhere the process must look for itself.

    Parameters
    ----------
    parent
        Its pid, where it is known: had it died before this was called, nothing would ever tell.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
        if parent is not None and os.getppid() != parent:
            os._exit(1)


def is_attended() -> bool:
    """Whether somebody sits at a terminal who would miss the command: not under ``nohup``, cron, or a service."""
    if os.name != "posix" or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return False
    return any(os.isatty(descriptor) for descriptor in (0, 1, 2))


def leave_terminal() -> None:
    """The terminal is gone: what is written to it from now on is dropped."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor) or _hung_up(descriptor):
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, descriptor)
                os.close(null)


def _hung_up(descriptor: int) -> bool:
    """Whether it is a terminal that was closed: such a one does not say any more that it is a terminal."""
    try:
        os.ttyname(descriptor)
    except OSError as error:
        return error.errno == errno.EIO
    return False


def fill_closed_streams() -> None:
    """Where a command was started with a closed standard stream, nothing else gets its number.

    The next file that is opened would, be it a line to another process or a block of data, and then take what is
    printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))


def can_supervise() -> bool:
    """Whether `labctl.engine.supervisor` works here.

    Not on Windows, where no signal makes a stuck process say what its threads do, and a select does not take pipes:
    there the commands run unsupervised, and a hang is ended in the task manager.
    """
    return os.name == "posix"


def write_line(text: str, stream: TextIO) -> None:
    """Write a line at once. Where nobody reads any more (``labctl … | head``), drop it and all that follows.

    Windows says "invalid argument" of a pipe whose reader has gone, and a terminal that was closed has an I/O error.
    """
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        gone = errno.EINVAL if os.name == "nt" else errno.EIO
        if not (isinstance(error, BrokenPipeError) or error.errno == gone):
            with contextlib.suppress(io.UnsupportedOperation):
                error.filename = f"/dev/fd/{stream.fileno()}"  # a full disk is the one that is written to, not this one
            raise
        with contextlib.suppress(io.UnsupportedOperation):  # a stream that is no file of the operating system
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Stops:
    """The stop signals of this process: the first asks where somebody looks, the second stops, and more change nothing.

    Ctrl-C raises `KeyboardInterrupt`; SIGTERM, SIGQUIT, a terminal that closes and Ctrl-Break of Windows raise
    `Terminated`, so that ``finally`` blocks run. Once one of them was raised, no further signal breaks into those
    blocks.

    Attributes
    ----------
    asked
        The signal that asked for a stop; None where none did.
    because
        Why the process is being ended, in words, where it is no wish of a person but a fault; empty otherwise.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.because = ""
        self._announce: Callable[[], None] | None = None
        self._installed = self._raised = self._at_once = False
        self._terminated_s = -math.inf

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Signals are handled so inside the block, which is one command."""
        self._reset()
        ignored = signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)
        signals = [s for s in _STOP_SIGNALS if not (s == signal.SIGINT and ignored)]
        with _handlers(self._handle, signals) as self._installed, _hang_up_stops():
            try:
                yield
            finally:
                self._installed = False

    @contextmanager
    def graceful(self, announce: Callable[[], None]) -> Iterator[None]:
        """Inside the block the first signal raises nothing: look at `asked` after each piece of work.

        Parameters
        ----------
        announce
            Called at the first signal, to say what happens now and what a second signal does.
        """
        if not self._installed:
            self._reset()
        before, self._announce = self._announce, announce
        try:
            with nullcontext() if self._installed else _handlers(self._handle, _STOP_SIGNALS):
                yield
        finally:
            self._announce = before

    def at_once(self, because: str = "") -> None:
        """From now on the first signal raises everywhere: nobody is left to wait for, or it is a fault that ends us."""
        self._at_once, self.because = True, because

    def require_somebody(self) -> None:
        """Raise where `at_once` was said before signals were handled."""
        if self._at_once:
            self.stop()

    def heed(self) -> None:
        """Raise what the signal that asked stands for; nothing where none did."""
        if self.asked is not None:
            self.stop()

    def stop(self) -> NoReturn:
        """Raise what the signal that asked stands for."""
        self._raised = True
        raise KeyboardInterrupt if self.asked == signal.SIGINT else Terminated

    def _reset(self) -> None:
        self.asked, self._raised = None, False
        self._terminated_s = -math.inf

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._raised or self._is_same(number):
            return
        first, self.asked = self.asked is None, number
        if first and self._announce is not None and not self._at_once:
            with contextlib.suppress(RuntimeError):  # the stream is in the middle of another line
                self._announce()
            return
        self.stop()

    def _is_same(self, number: int) -> bool:
        """Whether a service manager has sent its SIGTERM to the supervisor, which handed it on, and to us."""
        if number != signal.SIGTERM or self._at_once:
            return False
        before_s, self._terminated_s = self._terminated_s, time.monotonic()
        return self._terminated_s - before_s < _SAME_STOP_S


stops = Stops()
"""Those of this process."""


@contextmanager
def _hang_up_stops() -> Iterator[None]:
    """Where the terminal that closes would end the process at once, it asks for a stop instead, as SIGTERM does.

    A process that was told to outlive its terminal (``nohup``) goes on, and one that is supervised hears of a stop by
    its supervisor.
    """
    if os.name != "posix" or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    with _handlers(lambda number, frame: signal.raise_signal(signal.SIGTERM), [signal.SIGHUP]):
        yield


@contextmanager
def _handlers(stop: Callable[[int, FrameType | None], None], signals: list[signal.Signals]) -> Iterator[bool]:
    """Handle signals inside the block; gives whether that is possible: outside of the main thread it is not."""
    try:
        before = {number: signal.signal(number, stop) for number in signals}
    except ValueError:
        yield False
        return
    try:
        yield True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def absolute(path: Path) -> Path:
    """``/lab/runs`` for ``/lab/today/../runs``: unless ``today`` is a link, where the two are not the same."""
    whole = path.absolute()
    short = Path(os.path.normpath(whole))
    return short if os.path.realpath(short) == os.path.realpath(whole) else whole
