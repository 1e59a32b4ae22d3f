"""Hold a bench and open its devices, under a supervisor where there is one: for every command that uses a bench."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.bench.lock import hold_bench
from labctl.bench.marks import alone, mark_of, marked_open
from labctl.engine import supervisor
from labctl.engine.remains import is_made_safe
from labctl.errors import LeftUnsafe
from labctl.lab import Lab
from labctl.locks import BenchFiles
from labctl.station.model import Station


@contextmanager
def holding(
    lab: Lab, bench: str, purpose: str, wait_s: float = 0.0, *, makes_up: bool = True
) -> Iterator[Callable[[str], None]]:
    """`labctl.bench.lock.hold_bench`, the lock kept by the supervisor where there is one.

    Parameters
    ----------
    makes_up
        Do first what a night that was killed has left undone.
    """
    with hold_bench(bench, purpose, wait_s=wait_s, keeper=supervisor.keeper(), say=lab.console.say) as held_by:
        if makes_up:
            lab.made_up_for(lab, bench)
        yield held_by


@contextmanager
def devices_in_use(
    lab: Lab,
    station: Station,
    run: Path | None = None,
    stall_s: float | None = None,
    devices: Collection[str] = (),
) -> Iterator[Callable[[], None]]:
    """Inside the block devices of the held bench may be opened.

    What a killed process has left open is made safe first.

    Yields
    ------
    A function to be called again and again while there is light: it raises `LockGone` where the bench is not held any
    more, because somebody has removed the files of its locks.

    Parameters
    ----------
    run
        Folder of the run.
    stall_s
        The supervisor ends the process after a longer silence [s]; None allows any.
    devices
        Names of those that are opened; empty for all.

    Raises
    ------
    LeftUnsafe
        When what was left open cannot be made safe.
    BenchBusy
        When a process that does not hold the bench still has devices open.
    LockGone
        When the file of the bench's lock is not there.
    """
    require_safe(lab, station.bench.name)
    with alone(station.bench.name) as require_held:
        require_held()
        supervisor.watch(run, stall_s)
        try:
            with marked_open(station, run, devices):
                yield require_held
        finally:
            supervisor.unwatch()


def require_safe(lab: Lab, bench: str) -> None:
    """Make a bench safe, from a fresh process, that a killed one has left open.

    Raises
    ------
    LeftUnsafe
        When that fails.
    """
    if not BenchFiles(bench).mark.exists():
        return
    mark = mark_of(bench)
    who = f"process {mark.process}, which opened it {mark.since}" if mark else "a process whose mark cannot be read"
    lab.console.warn(f"warning: {who}, has not made the bench {bench} safe: that is done first")
    if not is_made_safe(bench, stdout=subprocess.DEVNULL):
        raise LeftUnsafe(
            "its devices were left open by a process that is gone, and could not be made safe",
            device=bench,
            action="making the bench safe",
            expected="every device answers, the light goes off",
            seen=who,
            safe="unknown: check the bench in person, the light source first",
            hint=f"labctl bench safe {bench}   ·   after a look in person: labctl bench safe {bench} --checked",
        )
    lab.console.say(f"the bench {bench} is safe")
