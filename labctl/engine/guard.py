"""The supervisor's side of the guardian: started, started again where it was killed, told that all is over."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence

STARTS_MAX = 5
"""How often a guardian is started; nobody kills so many by accident."""
END = b"end\n"
_END_S = 2.0


class Guard:
    """A guardian for the length of the block.

    Parameters
    ----------
    command
        That starts it, without its argument.
    worker
        The process that it watches.
    heard
        Descriptor on which the worker tells it things; closed with the block.
    known
        What is known when it starts, before the worker has told anything.
    """

    def __init__(self, command: Sequence[str], worker: int, heard: int, known: Mapping[str, object]) -> None:
        self._command, self._worker, self._heard, self._known = command, worker, heard, known
        self._theirs, self._ours = os.pipe()
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guard:
        self._start(self._known)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            os.write(self._ours, END)
        os.close(self._ours)
        if self._process is not None:
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        os.close(self._theirs)
        os.close(self._heard)

    def check(self, known: Mapping[str, object]) -> None:
        """Start another where the guardian is gone; it is told what is known so far."""
        if (self._process is None or self._process.poll() is not None) and self._starts < STARTS_MAX:
            self._start(known)

    def _start(self, known: Mapping[str, object]) -> None:
        """A guardian that does not start is none; the command goes on without it."""
        self._starts += 1
        about = {"supervisor": self._theirs, "heard": self._heard, "worker": self._worker, **known}
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [*self._command, json.dumps(about)],
                pass_fds=(self._theirs, self._heard),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
