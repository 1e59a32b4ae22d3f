"""What remains when the supervisor is killed: end its worker, make the bench safe, seal the run; then end.

``python -m labctl.engine.guardian {…}``: a session of its own, standard library only. It waits on two pipes, whose
other ends are the supervisor's and the worker's, and lives exactly as long as the supervisor where all goes well. The
worker notices by itself that its supervisor is gone, and closes the bench; the guardian is for where that fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labctl.engine import remains
from labctl.engine.guard import END

GRACE_S = 3.0
_KILLED_S = 5.0
REASON = "the supervisor was killed"


class Guardian:
    """Hears both.

    Parameters
    ----------
    about
        The descriptors of both, the worker's process, and what is known so far.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self._supervisor, self._heard, self._worker = about["supervisor"], about["heard"], about["worker"]
        self._run: str | None = about["run"]
        self._benches: list[str] = list(about["benches"])
        self._rest = b""
        self._worker_lives = True

    def guard(self) -> None:
        """Wait for the end of the supervisor, and do what is left to do."""
        ended = b""
        while True:
            open_ends = [self._supervisor, *([self._heard] if self._worker_lives else [])]
            ready, _, _ = select.select(open_ends, [], [])
            if self._heard in ready:
                self._hear()
            if self._supervisor in ready:
                data = os.read(self._supervisor, 64)
                ended += data
                if END in ended:
                    return
                if not data:
                    break
        self._end_worker()
        self._clean_up()

    def _hear(self) -> None:
        data = os.read(self._heard, 65536)
        self._worker_lives = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, lines):
            change = json.loads(line)
            self._run = change.get("run") or self._run
            if "lock" in change and change["lock"] not in self._benches:
                self._benches.append(change["lock"])

    def _end_worker(self) -> None:
        """SIGTERM, a little time, SIGKILL to all of its group."""
        for number, limit_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, _KILLED_S)):
            if self._worker_lives:
                self._signal(number)
            self._wait(limit_s)
        self._signal(signal.SIGKILL)  # what the worker itself has started

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self._worker, number)
            else:
                os.kill(self._worker, number)

    def _wait(self, limit_s: float) -> None:
        until_s = time.monotonic() + limit_s
        while self._worker_lives and (left_s := until_s - time.monotonic()) > 0:
            if select.select([self._heard], [], [], left_s)[0]:
                self._hear()

    def _clean_up(self) -> None:
        """As the supervisor would have done it, but only what this worker has left: others may have the bench."""
        lock = remains.lock_run(self._run)
        devices = remains.made_safe(self._benches, self._worker)
        if self._run is not None and not (Path(self._run) / "SEAL").exists():
            remains.seal(self._run, REASON, devices, lock)


def main(argv: Sequence[str]) -> None:
    """Stop signals are for the others: this process ends when both have."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    Guardian(json.loads(argv[0])).guard()


if __name__ == "__main__":
    main(sys.argv[1:])
