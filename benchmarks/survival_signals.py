"""Signals at every state of a run, to every process of it: parts ``sigint`` and ``signals`` of `survival.py`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from _common import Figure, figure
from survival_bench import Place, Started, run, wait_until

from labctl.archive.progress import PROGRESS
from labctl.locks import BenchFiles

JOBS = 2
"""Benches that are disturbed side by side."""
DEADLINE_S = 90.0
DARK_S = 5.0
BLOCKS = 29
"""Segments of a whole run of this bench."""
TIMES = (1, 2, 20)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
TARGETS = ("worker", "supervisor", "both", "group")
_CLEANERS = (b"labctl.engine.safe_state", b"labctl.engine.aftermath")
_COMPLETE = {(0, "ok"), (10, "out_of_spec")}
_FAULT = {(20, "fault")}
_EXITS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGQUIT: 143}


@dataclass(frozen=True)
class Stage:
    """A state of a run, and how it is told from outside.

    Attributes
    ----------
    keys
        Of the station: what brings it about.
    is_now
        Whether a run is in it.
    crashes
        The worker is killed first, in the middle.
    after_fault
        Something has gone wrong before the signal comes: that stays the verdict.
    """

    is_now: Callable[[Place, Started], bool]
    keys: tuple[str, ...] = ()
    crashes: bool = False
    after_fault: bool = False


def _blocks(place: Place) -> int:
    return len(list(place.runs.rglob("segments/*.h5")))


def _is_open(place: Place) -> bool:
    return BenchFiles(place.bench).mark.exists()


def _does(place: Place, state: str) -> bool:
    """Whether the run says that it does so."""
    for path in place.runs.rglob(PROGRESS):
        try:
            return bool(json.loads(path.read_bytes())["state"] == state)
        except (OSError, ValueError, KeyError):
            return False
    return False


def _is_cleaned_up(place: Place, started: Started) -> bool:
    lines = []
    for pid in started.living():
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            continue
    return any(name in line for line in lines for name in _CLEANERS)


STAGES = {
    "before there is a run": Stage(lambda place, started: started.worker() is not None),
    "devices are opened": Stage(lambda place, started: _is_open(place)),
    "first steps": Stage(lambda place, started: _blocks(place) >= 1),
    "in the middle": Stage(lambda place, started: _blocks(place) >= BLOCKS // 2),
    "a node is fitted": Stage(lambda place, started: _blocks(place) >= 3 and _does(place, "fitting")),
    "report": Stage(lambda place, started: _blocks(place) >= BLOCKS and not _is_open(place)),
    "clean-up after a hang": Stage(_is_cleaned_up, ("mock.faults=['hang@300']", "acquisition.stall_s=4.0"),
                                   after_fault=True),
    "clean-up after a crash": Stage(_is_cleaned_up, crashes=True, after_fault=True),
}  # fmt: skip


@dataclass(frozen=True)
class Blow:
    """Signals at one state of a run, and what came of them.

    Attributes
    ----------
    came
        The state was seen, and a process was there to hear the signal.
    ending
        Exit code and verdict of the run, empty where there is none.
    right
        That is one of those that it may be.
    true
        The run, where there is one, is sealed and intact; its seal, the document and the exit code say the same.
    documents
        One was printed, or nobody was left to do so.
    dark_s
        From the signal until the light was off for good.
    took_s
        From the signal until no process was left.
    """

    came: bool
    ending: tuple[int, str] = (0, "")
    right: bool = False
    true: bool = False
    documents: bool = False
    dark_s: float = 0.0
    took_s: float = 0.0


def sigint(here: Path) -> list[Figure]:
    """Ctrl-C once, twice, twenty times at every state, as a terminal sends it: to the foreground group."""
    names = [(stage, count) for stage in STAGES for count in TIMES]
    tasks = [(here / f"{number}", stage, signal.SIGINT, "group", count) for number, (stage, count) in enumerate(names)]
    rows = _struck(here, tasks)
    return [
        entry
        for (stage, count), row in zip(names, rows, strict=True)
        for entry in _said(f"SIGINT {count} × {stage}", row)
    ]


def matrix(here: Path) -> list[Figure]:
    """Each signal to each process at every state."""
    names = [(number, stage, target) for number in SIGNALS for stage in STAGES for target in TARGETS]
    tasks = [(here / f"{i}", stage, number, target, 1) for i, (number, stage, target) in enumerate(names)]
    rows = _struck(here, tasks)
    return [
        entry
        for (number, stage, target), row in zip(names, rows, strict=True)
        if row.came
        for entry in _said(f"{number.name} to {target}, {stage}", row)
    ]


def _struck(here: Path, tasks: list[tuple[Path, str, signal.Signals, str, int]]) -> list[Blow]:
    run(Place.make(here / "first", "survival-first").measure())  # compiles the mock's loops
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(lambda task: _strike(*task), tasks))


def _strike(folder: Path, name: str, number: signal.Signals, target: str, count: int) -> Blow:
    stage = STAGES[name]
    place = Place.make(folder, f"survival-blow-{folder.name}")
    started = Started(place.measure(*(word for key in stage.keys for word in ("--set", key))))
    if stage.crashes:
        wait_until(lambda: _blocks(place) >= BLOCKS // 2 or started.process.poll() is not None)
        started.kill(started.worker())
    wait_until(lambda: stage.is_now(place, started) or started.process.poll() is not None)
    if stage.after_fault and target in ("worker", "both"):  # there is no worker any more
        started.ended()
        return Blow(False)
    came = [_send(started, number, target) for _ in range(count)]
    struck_s, struck_at = time.monotonic(), time.time()
    code, out, err = started.ended()
    wait_until(lambda: not started.living())
    took_s = time.monotonic() - struck_s
    started.end()
    left = place.newest()
    status = left.status if left else ""
    dark_s = max(0.0, place.light.stat().st_mtime - struck_at) if place.has_been_lit() else 0.0
    dark_s = dark_s if place.is_dark() else float("inf")
    killed = number == signal.SIGKILL and target != "worker"
    text = out.strip()
    said = json.loads(text) if text.startswith("{") else {}
    true = left is None or (left.seal is not None and left.verify().intact)
    true = true and (killed or said.get("exit_code") == code)
    true = true and (killed or left is None or said.get("verdict") == status)
    blow = Blow(came[0], (code, status), (code, status) in _may_end(stage, number, target, status), true,
                bool(said) or killed, dark_s, took_s)  # fmt: skip
    print(f"{number.name} {count} × to {target}, {name}: {blow}", file=sys.stderr)
    if not (blow.right and blow.true and blow.documents):
        print(err[-1500:], file=sys.stderr)
    return blow


def _send(started: Started, number: signal.Signals, target: str) -> bool:
    """Whether there was somebody to send it to."""
    supervisor, worker = started.process.pid, started.worker()
    time.sleep(0.01)
    try:
        if target == "group":
            os.killpg(supervisor, number)
        if target in ("supervisor", "both"):
            os.kill(supervisor, number)
        if target in ("worker", "both") and worker is not None:
            os.kill(worker, number)
    except ProcessLookupError:
        return False
    return target != "worker" or worker is not None


def _may_end(stage: Stage, number: signal.Signals, target: str, status: str) -> set[tuple[int, str]]:
    """Exit code and verdict that are right; none that says a fault was well."""
    if number == signal.SIGKILL:
        if target != "worker":  # the worker closes the bench by itself, or the guardian does both
            return {(-9, ""), (-9, "fault"), *({(-9, "aborted")} if not stage.after_fault else ())}
        return _FAULT | {(1, "")} | (_COMPLETE if status != "fault" else set())
    if stage.after_fault:
        return _FAULT
    if number == signal.SIGHUP:  # nobody watches: it goes on without its terminal
        return _COMPLETE
    stopped = {(_EXITS[number], "aborted"), (_EXITS[number], "")}
    return stopped | (_COMPLETE if stage is STAGES["report"] else set())


def _said(what: str, row: Blow) -> list[Figure]:
    code, status = row.ending
    well = row.true and row.documents and row.took_s <= DEADLINE_S
    return [
        figure(f"{what}: {status or 'no run'}, exit code", code, "1", "its verdict", row.came and row.right),
        figure(f"{what}: sealed, one document, in time", float(well), "1", "1", well),
        figure(f"{what}: light off for good after", row.dark_s, "s", f"≤ {DARK_S:g} s",
               row.dark_s <= DARK_S or row.ending in _COMPLETE),
    ]  # fmt: skip
