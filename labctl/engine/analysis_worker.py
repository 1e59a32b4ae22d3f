"""The process that analyses, begun by `labctl.engine.analysis_worker_main`.

It opens no device, writes no reading, and lives exactly as long as the process that started it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import logging.handlers
import os
import pickle
import queue
import select
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from calibration.fit.structured import Tell
from labctl.archive.segments import Segment, SegmentRow, read_segment
from labctl.engine.analyst import Desk
from labctl.engine.apart import Beat, Done, Failed, Request, telling_nobody
from labctl.nodes import registry
from labctl.osal import die_with_parent

WARM = registry.GRAPH
"""Imported before the first question comes, while the other process opens the bench."""


class Worker:
    """Answers questions one after the other, and says meanwhile that there is progress.

    Parameters
    ----------
    pipe
        To the process that asks.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self._desks: dict[int, Desk] = {}

    def serve(self) -> None:
        """Answer until nobody asks any more."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._send(self._answer(self._pipe.recv_bytes()))

    def say(self, words: str) -> None:
        """There was progress."""
        self._send(Beat(words))

    def log(self, record: logging.LogRecord) -> None:
        """Hand a record to the log of the run."""
        self._send(record)

    def _answer(self, question: bytes) -> Done | Failed:
        try:
            request: Request = pickle.loads(question)  # noqa: S301 - from our own parent
            answer: Done | Failed = Done(self._called(request))
            pickle.dumps(answer)
        except Exception as error:
            answer = Failed(_portable(error), traceback.format_exc())
        return answer

    def _called(self, request: Request) -> Any:
        if request.setting is not None and request.desk not in self._desks:
            self._desks[request.desk] = Desk(replace(request.setting, tell=_Teller(self)))
        desk = self._desks[request.desk]
        if request.rows is None:
            return request.function(desk)
        return request.function(desk, self._read(request.segments, request.rows))

    def _read(self, folder: Path, rows: list[SegmentRow]) -> Iterator[Segment]:
        for row in rows:
            yield read_segment(folder, row)
            self._send(Beat())

    def _send(self, message: object) -> None:
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._pipe.send_bytes(data)


class _ToTheRun(logging.handlers.QueueHandler):
    """Hands records over the pipe, exceptions in words."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(queue.SimpleQueue())
        self._worker = worker

    def enqueue(self, record: logging.LogRecord) -> None:
        self._worker.log(record)


class _Teller:
    """Says over the pipe where a fit is; a result that keeps it leaves the process with one that tells nobody."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __call__(self, words: str) -> None:
        self._worker.say(words)

    def __reduce__(self) -> tuple[Callable[[], Tell], tuple[()]]:
        return telling_nobody, ()


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot leave the process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - of our own making
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with(pipe: Connection) -> None:
    """End at once when the other side is gone, whatever the main thread does."""
    poll = select.poll()
    poll.register(pipe.fileno(), 0)  # hanging up is always told
    poll.poll()
    os._exit(0)


def main(argv: list[str]) -> None:
    """Answer questions until nobody asks any more; ``argv`` is the pipe and the dump, both numbers of open files."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # stops are for the process at the bench, and this one ends with it
    pipe, dump = Connection(int(argv[0])), int(argv[1])
    faulthandler.register(signal.SIGUSR1, file=dump, all_threads=True)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    die_with_parent()
    worker = Worker(pipe)
    logging.getLogger().addHandler(_ToTheRun(worker))
    logging.getLogger("labctl").setLevel(logging.INFO)
    worker.serve()
    os._exit(0)
