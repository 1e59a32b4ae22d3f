"""What a supervisor hears of its worker: how far it is, and when it has been silent for too long."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.engine import systemd

TICK_S = 0.5
DEADLINE_GRACE_S = 60.0
"""How much longer than its deadline a worker may take: it ends by itself first, after the block that it reads."""
BEGIN_S = 300.0
"""A worker that has not even begun to handle signals for so long never will."""
HEED_S = 60.0
"""How long a worker without open devices may go on after it was told twice to stop."""
QUIET_S = 900.0
"""How long a worker that has neither a run nor devices may be silent: it reads a large model, perhaps. Whoever waits
for a bench says so every minute."""
_OVERSLEPT_S = 1.0
_DESCRIPTORS_MAX = 8


class End(enum.Enum):
    """Why there is nothing more to follow."""

    GONE = "the worker is gone"
    STALLED = "it makes no progress"
    LATE = "its deadline has passed"
    DEAF = "it does not begin, or does not stop"
    QUIET = "it does not get to its run"


@dataclass
class State:
    """What the worker does, as far as it has told.

    Attributes
    ----------
    run
        Folder of the run that it has opened.
    is_ready
        It handles stop signals.
    in_use
        Devices are open.
    stall_s
        A longer silence is a stall [s]; None allows any.
    deadline_s
        By the monotonic clock.
    locks
        Bench → descriptor of its lock, which is held here.
    late_s
        How long ago the deadline was when it was noticed [s].
    afterwards
        A module and its arguments, to be run when the command is over; empty for none.
    kept
        Descriptors of locks that are held until that module has ended.
    """

    run: str | None = None
    is_ready: bool = False
    in_use: bool = False
    stall_s: float | None = None
    deadline_s: float | None = None
    locks: dict[str, int] = field(default_factory=dict)
    late_s: float = 0.0
    afterwards: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def known(self) -> dict[str, object]:
        """What a guardian has to know that starts only now."""
        return {"run": self.run, "benches": list(self.locks)}

    def let_go(self, bench: str | None = None) -> None:
        """Let go of the lock of one bench, or of all."""
        for name in [bench] if bench is not None else list(self.locks):
            descriptor = self.locks.pop(name, None)
            if descriptor is not None:
                os.close(descriptor)


class Follower:
    """Hears what the worker tells.

    Parameters
    ----------
    line
        From the worker.
    worker
        Its process.
    ready
        Called when the worker handles stop signals.
    insisted_s
        Gives when somebody asked for a stop the second time, by the monotonic clock; None where nobody did.
    quiet_s
        How long it may be silent before it has a run or devices [s]; None for any time.
    """

    def __init__(
        self,
        line: socket.socket,
        worker: int,
        ready: Callable[[], None],
        insisted_s: Callable[[], float | None] = lambda: None,
        quiet_s: float | None = None,
    ) -> None:
        self.state = State()
        self._line, self._worker, self._ready, self._insisted_s = line, worker, ready, insisted_s
        self._quiet_s = quiet_s
        self._rest = b""
        self._descriptors: list[int] = []

    def follow(self, tick: Callable[[State], None]) -> End:
        """Hear the worker until it is gone, stalls, or is late; ``tick`` is called about twice a second."""
        progress_s = looked_s = ticked_s = time.monotonic()
        while True:
            ready, _, _ = select.select([self._line], [], [], TICK_S)
            before_s, looked_s = looked_s, time.monotonic()
            if looked_s - before_s > TICK_S + _OVERSLEPT_S:  # the computer slept, or Ctrl-Z stopped us both
                progress_s += looked_s - before_s
            if ready:
                if not self._hear():
                    return End.GONE
                progress_s = looked_s
            elif self._worker_ended():  # a child of its own may still have the line
                return End.GONE
            end = self._overdue(looked_s, progress_s)
            if end is not None:
                return end
            if looked_s - ticked_s >= TICK_S:
                ticked_s = looked_s
                tick(self.state)
                if ready or self.state.stall_s is None:
                    systemd.notify("WATCHDOG=1")

    def tell(self, reason: str) -> None:
        """Tell the worker why it is being ended."""
        with contextlib.suppress(OSError):
            self._line.setblocking(False)
            self._line.sendall(reason.encode())

    def _overdue(self, now_s: float, progress_s: float) -> End | None:
        state = self.state
        if state.stall_s is not None and now_s - progress_s > state.stall_s:
            return End.STALLED
        if state.deadline_s is not None and now_s > state.deadline_s + DEADLINE_GRACE_S:
            state.late_s = now_s - state.deadline_s
            return End.LATE
        if not state.is_ready and now_s - progress_s > BEGIN_S:
            return End.DEAF
        is_quiet = state.is_ready and state.run is None and not state.in_use
        if is_quiet and self._quiet_s is not None and now_s - progress_s > self._quiet_s:
            return End.QUIET
        insisted_s = self._insisted_s()
        if not state.in_use and insisted_s is not None and now_s - max(insisted_s, progress_s) > HEED_S:
            return End.DEAF
        return None

    def _hear(self) -> bool:
        """Take in what there is; False where nobody speaks any more."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._line, 65536, _DESCRIPTORS_MAX)
        except ConnectionResetError:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        self._descriptors += descriptors
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, lines):
            self._take(json.loads(line))
        return bool(data)

    def _take(self, change: dict[str, Any]) -> None:
        state = self.state
        if "lock" in change and self._descriptors:
            state.let_go(change["lock"])
            state.locks[change["lock"]] = self._descriptors.pop(0)
        if "keep" in change and self._descriptors:
            state.kept.append(self._descriptors.pop(0))
        if "unlock" in change:
            state.let_go(change["unlock"])
        if "afterwards" in change:
            state.afterwards = change["afterwards"]
        if "ready" in change:
            state.is_ready = True
            self._ready()
        if "deadline_s" in change:
            given_s = change["deadline_s"]
            state.deadline_s = None if given_s is None else time.monotonic() + given_s
        if "in_use" in change:
            state.in_use, state.stall_s = change["in_use"], change["stall_s"]
        if change.get("run"):
            state.run = change["run"]
            systemd.notify(f"STATUS=run {Path(change['run']).name}")

    def _worker_ended(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self._worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return True
