"""Analyse in a process of its own: it opens no device, and may hang or die without harm to bench or data.

The two processes speak over a private pair of sockets in pickles. What was measured goes from one to the other over the
disk: a segment is sealed before it is analysed, and read back against its hash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar, cast

from calibration.fit.structured import Tell, untold
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import Segment, SegmentRow
from labctl.engine import supervisor
from labctl.engine.analyst import Desk, Here
from labctl.engine.fresh import python
from labctl.errors import AnalysisLost, storage_error
from labctl.nodes.node import Setting
from labctl.osal import stops

if TYPE_CHECKING:
    from labctl.engine.analyst import Analyst

T = TypeVar("T")

LOOK_S = 0.5
PATIENCE = 2.0
"""How many times ``stall_s`` the supervisor waits meanwhile: the process at the bench is to find a stall first."""
PATIENCE_CLOSED = 10.0
"""How many times ``stall_s`` a silent analysis may take while no device is open."""
DUMP_S = 2.0
GRACE_S = 2.0


class Request(NamedTuple):
    """What is asked of the process that analyses.

    Attributes
    ----------
    desk
        Number of the desk.
    setting
        Of a new desk; None where it is known.
    segments, rows
        A folder, and which of its segments the function gets; None for a function of the desk alone.
    function
        What is called.
    """

    desk: int
    setting: Setting | None
    segments: Path
    rows: list[SegmentRow] | None
    function: Callable[..., Any]


@dataclass(frozen=True)
class Beat:
    """There was progress; of a fit, in words."""

    words: str = ""


@dataclass(frozen=True)
class Done:
    """The function has returned this."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """The function has raised an error: it and its traceback."""

    error: Exception
    traceback: str


class FromAnalysis(Exception):
    """The traceback of an error as the other process saw it: the cause of the one that is raised here."""


class Process:
    """A process that analyses the run in the folder ``run``.

    Parameters
    ----------
    run
        The run folder.
    stall_s
        How long it may be silent while devices are open [s].

    Attributes
    ----------
    devices_open
        Whether they are.
    """

    def __init__(self, run: Path, stall_s: float) -> None:
        self.run, self.devices_open, self._stall_s = run, False, stall_s
        self._desks = 0
        self._dump = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._pipe, theirs = Pipe()
        try:
            self._process = subprocess.Popen(
                python("labctl.engine.analysis_worker_main", str(theirs.fileno()), str(self._dump.fileno())),
                pass_fds=(theirs.fileno(), self._dump.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=2,  # the one document of a command is not its business
                start_new_session=True,  # no Ctrl-C and no closed terminal reaches it: it ends with this process
            )
        except OSError as error:
            raise AnalysisLost(
                "the process that analyses does not start",
                device=run.name,
                seen=error.strerror or str(error),
                safe="no device was opened",
                hint="look at memory and at the number of processes: ulimit -a",
            ) from error
        finally:
            theirs.close()

    def desk(self, setting: Setting) -> Apart:
        """An empty desk."""
        self._desks += 1
        return Apart(self, self._desks, setting)

    def answer(self, request: Request, tell: Callable[[str], None]) -> Any:
        """What the function returns; ``tell`` takes the words of its progress.

        Raises
        ------
        AnalysisLost
            When the process hangs or dies.
        """
        try:
            with self._watched_longer():
                self._send(request)
                return self._answer(tell)
        except BaseException as error:
            if not isinstance(error.__cause__, FromAnalysis):
                self.close()
            raise

    def close(self) -> None:
        """End the process at once: it holds nothing that could be lost."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._pipe.close()
        self._dump.close()

    @contextmanager
    def _watched_longer(self) -> Iterator[None]:
        if not self.devices_open:
            yield
            return
        supervisor.watch(self.run, PATIENCE * self._stall_s)
        try:
            yield
        finally:
            supervisor.watch(self.run, self._stall_s)

    def _send(self, request: Request) -> None:
        if self._pipe.closed:
            self._lost("the process that analyses has ended before")
        data = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        try:
            self._pipe.send_bytes(data)
        except OSError:
            self._died()

    def _answer(self, tell: Callable[[str], None]) -> Any:
        silent_s = 0.0  # counted by looks: a computer that slept, and a Ctrl-Z, are no silence
        limit_s = self._stall_s * (1.0 if self.devices_open else PATIENCE_CLOSED)
        while True:
            stops.heed()
            if not self._pipe.poll(LOOK_S):
                silent_s += LOOK_S
                if silent_s > limit_s:
                    self._keep_threads()
                    self._lost(f"the analysis made no progress for {limit_s:g} s")
                continue
            silent_s = 0.0
            try:
                data = self._pipe.recv_bytes()
            except (EOFError, OSError):
                self._died()
            match pickle.loads(data):  # noqa: S301 - from our own child
                case Beat(words):
                    tell(words)
                case logging.LogRecord() as record:
                    logging.getLogger(record.name).handle(record)
                case Done(value):
                    return value
                case Failed(error, traceback):
                    raise error from FromAnalysis(f"\n{traceback}")

    def _died(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        code = self._process.poll()
        how = "closed its pipe" if code is None else supervisor.ending(code)
        self._lost(f"the process that analyses {how}")

    def _keep_threads(self) -> None:
        """What each thread of the process does now, into the run folder; one that is stopped cannot say."""
        self._process.send_signal(signal.SIGUSR1)
        deadline_s = time.monotonic() + DUMP_S
        while not os.fstat(self._dump.fileno()).st_size and time.monotonic() < deadline_s:
            time.sleep(0.1)
        time.sleep(0.1)
        if os.fstat(self._dump.fileno()).st_size:
            self._dump.seek(0)
            path = self.run / supervisor.THREADS
            try:
                with path.open("wb") as file:
                    shutil.copyfileobj(self._dump, file)
            except OSError as error:
                logging.getLogger("labctl.analysis").warning("%s", storage_error(error, path).what)

    def _lost(self, what: str) -> NoReturn:
        short, threads = self.run.name.rpartition("-")[2], self.run / supervisor.THREADS
        raise AnalysisLost(
            what,
            device=self.run.name,
            action="analysing what was read",
            seen=f"what each thread did: {threads}" if threads.exists() else "",
            safe="all that was read is sealed; the bench is closed and safe",
            hint=f"labctl run resume {short}   ·   or, without the bench: labctl fit {short}",
        )


class Apart:
    """A desk in another process.

    Parameters
    ----------
    process
        That one.
    number
        Of the desk.
    setting
        What the nodes work in.
    """

    def __init__(self, process: Process, number: int, setting: Setting) -> None:
        self._process, self._number, self._tell = process, number, setting.tell
        self._setting: Setting | None = replace(setting, tell=untold)

    def ask(self, function: Callable[[Desk], T]) -> T:
        """What the function makes of the desk; it and its result must pickle."""
        return cast("T", self._answer(None, function))

    def ask_of(self, segments: Iterable[Segment], function: Callable[[Desk, Iterable[Segment]], T]) -> T:
        """As `ask`, with segments that the run has sealed: the other process reads them from the disk."""
        return cast("T", self._answer([segment.row for segment in segments], function))

    def _answer(self, rows: list[SegmentRow] | None, function: Callable[..., Any]) -> Any:
        request = Request(self._number, self._setting, self._process.run / SEGMENTS, rows, function)
        found = self._process.answer(request, self._tell)
        self._setting = None
        return found


def telling_nobody() -> Tell:
    """What a result has in the place of where it told how it went, once it has left the process."""
    return untold


@contextmanager
def analysts(run: Path, stall_s: float) -> Iterator[tuple[Callable[[Setting], Analyst], Callable[[bool], None]]]:
    """Who analyses a run: under a supervisor a process of its own, which ends with the block, and this one elsewhere.

    Yields
    ------
    What makes an analyst for a setting, and what is to be told whether devices are open.
    """
    if not supervisor.is_worker():
        yield Here, lambda devices_open: None
        return
    process = Process(run, stall_s)
    try:
        yield process.desk, partial(setattr, process, "devices_open")
    finally:
        process.close()
