"""What the supervisor starts when a worker has stalled or died: seal the run as a fault, and say how it ended.

``python -m labctl.engine.aftermath SECONDS seal RUN REASON DEVICES LOCK [--json]``, where LOCK is the descriptor of the
run's lock, or empty, and, where there was no run, ``… SECONDS lost SIGNAL REASON DEVICES '' [--json]``: each in a fresh
process. `labctl.engine.safe_state` has made the bench safe before.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from groundwork.errors import CodedError
from labctl import hints
from labctl.archive import RunReader, RunWriter
from labctl.archive.recovery import reached
from labctl.archive.seal import Seal
from labctl.console import Console
from labctl.engine.fresh import end_after
from labctl.engine.remains import CLOSED, SAFE, UNKNOWN
from labctl.engine.supervisor import THREADS
from labctl.errors import Aborted, LabError, ServiceStop, Stalled, as_coded, render
from labctl.locks import KernelLock
from labctl.summary import Summary, failure
from labctl.verdicts import verdict_of

DEVICES = {
    SAFE: "devices opened again and made safe",
    CLOSED: "no device was in use",
    UNKNOWN: "unknown: check the bench in person, the light first",
}
"""How the devices were left, and what the operator is told."""


def seal(folder: Path, reason: str, devices: str, lock: KernelLock | None = None) -> tuple[Summary, LabError]:
    """Seal an unfinished run as a fault, with the nodes that its journal lists.

    Parameters
    ----------
    devices
        A key of `DEVICES`.
    lock
        Of the run, where it is held already.
    """
    reader = RunReader(folder)
    before = reached(reader)
    threads = folder / THREADS
    error = Stalled(
        reason,
        device=str(reader.info["bench"]),
        action=f"after {before.nodes[-1].name}" if before.nodes else "before the first node",
        seen=f"{len(reader.manifest)} segments sealed",
        safe=DEVICES[devices],
        hint=f"what each thread did: {threads}" if threads.exists() else _look_at(reason, devices),
    )
    summary = failure(error, error.exit_code, before)
    with RunWriter.resume(folder, lock=lock) as run:
        run.journal("stalled", reason=reason, safe=devices != UNKNOWN)
        run.finish(verdict_of(error.exit_code), summary, error.exit_code)
    return summary, error


def _look_at(reason: str, devices: str) -> str:
    if reason.endswith("SIGKILL"):
        return "out of memory? The kernel's log says whom it killed: dmesg"
    return "what the system says of it: dmesg" if devices == CLOSED else "labctl devices list"


def lost(console: Console, number: int, reason: str, devices: str) -> int:
    """Say that a worker ended that had no run; returns the exit code."""
    error: LabError
    if devices != CLOSED:
        error = Stalled(reason, action="with devices open", safe=DEVICES[devices], hint=_look_at(reason, devices))
    elif number == 0:  # the supervisor has ended it
        error = Stalled(reason, action="before a run", safe=DEVICES[CLOSED], hint="labctl doctor")
    elif number == signal.SIGINT:
        error = Aborted("stopped by Ctrl-C", safe="no run was begun")
    elif number == signal.SIGTERM:
        error = ServiceStop("stopped by SIGTERM", safe="no run was begun")
    else:
        error = LabError(reason, action="before a run", safe=DEVICES[CLOSED], hint=_look_at(reason, CLOSED))
    console.warn(render(error))
    if console.json_mode:
        console.result(failure(error, error.exit_code))
    return error.exit_code


def _sealed_already(console: Console, reader: RunReader, seal: Seal, reason: str) -> int:
    """The run is over, and its verdict stands: only the last words of the worker are missing."""
    look = f"labctl run show {reader.run_id.rpartition('-')[2]}"
    console.warn(f"warning: {reason} after it had sealed the run as {seal.verdict}   ·   {look}")
    if console.json_mode:
        console.result(reader.summary())
    return Stalled.exit_code if seal.exit_code is None else seal.exit_code


def main(argv: Sequence[str]) -> int:
    """One of the two programs; errors are shown, and never more than that. Returns the command's exit code."""
    seconds, what, folder, reason, devices, descriptor, *rest = argv
    end_after(seconds)
    archive = Path(folder).parents[3] if what == "seal" else None
    console = Console(json_mode="--json" in rest, options=hints.given(None, archive))
    if what == "lost":
        return lost(console, int(folder), reason, devices)
    lock = KernelLock(int(descriptor)) if descriptor else None
    try:
        reader = RunReader(Path(folder))
        if reader.seal is not None:
            return _sealed_already(console, reader, reader.seal, reason)
        summary, error = seal(Path(folder), reason, devices, lock)
    except Exception as failed:
        coded = as_coded(failed, Path(folder))
        console.warn(render(coded) if isinstance(coded, CodedError) else f"the run could not be sealed: {failed}")
        stalled = Stalled(reason, safe=DEVICES[devices])
        console.warn(render(stalled))
        if console.json_mode:
            console.result(failure(stalled, stalled.exit_code))
        return stalled.exit_code
    console.warn(render(error, summary.run_id, goes_on=bool(reader.info.get("job"))))
    if console.json_mode:
        console.result(summary)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
