"""What is tried when a device fails, rung by rung: again, opened again, reset by a hook of the station; then a fault.

Each rung is one line of the journal, and all are bounded: by number, and by the time that they take together. What
they may take is counted for each step of a run, so that a loose contact cannot keep a run for ever.

The light. A device that has to be opened again has left the bench in a state that nobody knows, perhaps for a minute,
and perhaps with a person coming to look at its cable; a reset hook may cut the power of whatever hangs on one hub. So
the source is switched off before any device is closed, and is switched on again only when everything else is back and
every interlock is closed. A source that does not obey is opened again, too: opening leaves it off. Where that does not
help, the fault ends the run, and the bench is made safe once more as the devices are closed. A monitor alone is opened
again with the light on: nothing that makes light depends on it.

What several devices share. The first time a device is closed and opened alone: what it shares with others stays open
in their hands, and these notice nothing. Where that does not help, the shared thing itself may be what is dead, and
all that hold it are closed, so that it closes, and are opened again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeVar

from drivers.errors import BrokenBackend, CapabilityError, DeviceError, RoleError, UnknownBackend
from labctl.archive import RunWriter
from labctl.bench.bench import Bench
from labctl.osal import stops
from labctl.station.model import Acquisition, DeviceTable

T = TypeVar("T")

ATTEMPTS = 3
PAUSES_S = (0.0, 1.0, 3.0, 5.0)
"""Waits before a device is opened again, for the first time and so on: one that was plugged in again needs seconds."""
HOPELESS = (CapabilityError, RoleError, UnknownBackend, BrokenBackend)
"""What is wrong with the request, not with the device: no rung helps."""
TOLD_BYTES = 500
_KILL_S = 2.0


class _Rung(Enum):
    """A rung above trying the same again."""

    REOPEN = auto()
    RESET = auto()


class Restoring(NamedTuple):
    """Something that a device which was opened again needs: whose it is, and how it is done."""

    device: str
    do: Callable[[], object]


class Ladder:
    """The rungs for one bench.

    Parameters
    ----------
    bench
        Whose devices are opened again.
    run
        Takes the journal.
    settings
        How many rungs, and how long.
    restore
        What brings the bench back to where it was once devices of the names given are open: settings, pictures, and at
        last the light.
    beat
        Called at each rung: something is being done.
    """

    def __init__(
        self,
        bench: Bench,
        run: RunWriter,
        settings: Acquisition,
        restore: Callable[[set[str]], Iterable[Restoring]],
        beat: Callable[[], None],
    ) -> None:
        self.bench, self.run, self.settings, self._restore, self._beat = bench, run, settings, restore, beat
        self._reopened, self._spent_s = 0, 0.0
        self._was_reset: set[str] = set()
        self._tried: list[str] = []

    def begin_step(self) -> None:
        """A new step begins: it has all rungs before it."""
        self._reopened, self._spent_s = 0, 0.0
        self._was_reset.clear()

    def climb(self, device: str, action: Callable[[], T], again: Callable[[], None] = lambda: None) -> T:
        """Do something with a device, and whatever it takes to get it done.

        Parameters
        ----------
        device
            The one that is to blame when it fails; empty for the one that the error names.
        again
            Called before the action is tried again.

        Raises
        ------
        DeviceError
            When no rung has helped; the error says which were tried.
        """
        failed = 0
        self._tried.clear()
        while True:
            try:
                return action()
            except DeviceError as error:
                blamed = device or error.device
                failed += 1
                if error.retryable and failed < ATTEMPTS:
                    self.run.journal("retry", device=blamed, attempt=failed, code=error.code, what=error.what)
                    self._tried.append("again")
                    self._beat()
                else:
                    self._recover(blamed, error)
                    failed = 0
                again()

    def revive(self, device: str) -> bool:
        """Open a monitor again, once, with the light as it is; returns whether that went well. Nothing is raised."""
        try:
            self.bench.reopen({device})
        except DeviceError as error:
            self.run.journal("reopen", device=device, opened=False, code=error.code, what=error.what)
            return False
        self.run.journal("reopen", device=device, opened=True)
        return True

    def _recover(self, device: str, error: DeviceError) -> None:
        """The higher rungs: the device is opened again, with all that was set and shown; else ``error`` goes up."""
        if isinstance(error, HOPELESS) or device not in self.bench.devices:
            raise error
        failed = {device}
        while rung := self._next(device):
            stops.heed()
            began_s = time.monotonic()
            try:
                self._reopen(failed, device if rung is _Rung.RESET else None)
                return
            except DeviceError as another:
                failed |= {another.device} & set(self.bench.devices)
                self._tried[-1] += f" ({another.code} {another.what})"
                self.run.journal("reopen", devices=sorted(failed), opened=False, code=another.code, what=another.what)
            finally:
                self._spent_s += time.monotonic() - began_s
                self._beat()
        raise self._fault(error)

    def _next(self, device: str) -> _Rung | None:
        """The rung that is to be tried now, after its pause; None where none is left."""
        attempts, limit_s = self.settings.reopen_attempts, self.settings.reopen_timeout_s
        if self._reopened < attempts and self._spent_s < limit_s:
            pause_s = min(PAUSES_S[min(self._reopened, len(PAUSES_S) - 1)], limit_s - self._spent_s)
            time.sleep(pause_s)
            self._reopened += 1
            self._spent_s += pause_s
            return _Rung.REOPEN
        if self._table(device).reset and device not in self._was_reset:
            self._was_reset.add(device)
            return _Rung.RESET
        return None

    def _reopen(self, failed: set[str], reset: str | None) -> None:
        """One rung: dark, closed, perhaps reset, opened, and back to where it was."""
        alone = self._reopened == 1 and reset is None
        names = (failed if alone else self.bench.opener.sharing(failed)) | self._darken()
        self._tried.append(f"opened again: {', '.join(sorted(names))}")
        if reset is not None:
            table = self._table(reset)
            answer = run_hook(table.reset, table.reset_timeout_s)
            self._tried[-1] = f"reset: {answer}; {self._tried[-1]}"
            self.run.journal("reset", device=reset, command=table.reset, answer=answer)
            self._beat()
        self.run.journal("reopen", devices=sorted(names), attempt=self._reopened)
        self.bench.reopen(names)
        self._beat()
        for device, do in self._restore(names):
            with blaming(device):
                do()
        self.run.journal("reopen", sync=True, devices=sorted(names), opened=True)

    def _darken(self) -> set[str]:
        """Switch the light off; the source, where it does not obey."""
        source = self.bench.source
        try:
            source.off()
        except CapabilityError:
            return set()  # a light that no program can switch, as the station says
        except DeviceError as error:
            self.run.journal("light", device=source.name, off=False, code=error.code, what=error.what)
            return {source.name}
        return set()

    def _table(self, device: str) -> DeviceTable:
        return self.bench.opener.station.devices[device]

    def _fault(self, error: DeviceError) -> DeviceError:
        """The error, with all that was tried; whether the light is off, closing the bench says."""
        words = "; ".join(f"{i}. {rung}" for i, rung in enumerate(self._tried, 1))
        error.seen = "; ".join(filter(None, (error.seen, words and f"tried: {words}")))
        error.hint = error.hint or f"labctl devices list   ·   then: labctl run resume {self.run.run_id[-4:]}"
        self.run.journal("fault", device=error.device, code=error.code, what=error.what, tried=list(self._tried))
        return error


def run_hook(command: Sequence[str], timeout_s: float) -> str:
    """Run a program with its arguments, no shell, for at most ``timeout_s``; returns how it ended, in words."""
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"did not start: {error}"
        try:
            ended = f"exit code {process.wait(timeout_s)}"
        except subprocess.TimeoutExpired:
            ended = f"ended after {timeout_s:g} s"
        finally:
            _end(process)
        output.seek(0, os.SEEK_END)
        output.seek(max(output.tell() - TOLD_BYTES, 0))
        said = output.read().decode(errors="replace").strip()
    return f"{ended}, said {said!r}" if said else ended


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program, and what it has started, if it still runs."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_S)


@contextlib.contextmanager
def blaming(device: str) -> Iterator[None]:
    """An error raised in here is this device's."""
    try:
        yield
    except DeviceError as error:
        error.device = device
        raise
