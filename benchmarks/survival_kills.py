"""What a kill at any moment leaves behind: part ``kills`` of `survival.py`."""

from __future__ import annotations

import fcntl
import random
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from _common import Figure, figure
from survival_bench import END_S, Ended, Place, Started, run, wait_until

from labctl.archive import RunReader
from labctl.locks import BenchFiles

START_S = 3.0
"""From a worker's first moment to its first block, about."""
JOBS = 2
"""Benches that are killed side by side."""
LOCK_S = 1.0
"""Within which the lock of a bench is free again after its holder was killed."""


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes
    ----------
    whom
        ``worker``, ``supervisor`` or ``both``.
    blocks
        Blocks that the journal had when everything had ended, before it was resumed.
    midway
        Some blocks had been sealed by then, and some not.
    lit
        The source had been on before the kill: only then does it say something that it is off.
    resumed
        It had to be resumed to come to its end.
    kept
        All of them are in the manifest of the resumed run, unchanged and once.
    lock_s
        From the kill until the lock was free; None where it never was.
    gone_s
        From the kill until no process of the run was left; None where one stayed.
    dark
        The source was off then, before anything else was started.
    same
        The resumed run ended as the one that nobody killed, bit for bit; None where there was no run yet.
    """

    whom: str
    blocks: int
    midway: bool
    lit: bool
    resumed: bool
    kept: bool
    lock_s: float | None
    gone_s: float | None
    dark: bool
    same: bool | None


@dataclass(frozen=True)
class Moment:
    """When to kill: so long after so many blocks, whatever else the machine does meanwhile.

    Attributes
    ----------
    blocks
        Blocks that the run has on the disk; 0: from the worker's first moment on.
    after_s
        How long after that [s].
    """

    blocks: int
    after_s: float

    @classmethod
    def drawn(cls, rng: random.Random, count: int, block_s: float) -> Moment:
        """Anywhere in a run of ``count`` blocks of ``block_s`` each; one in eight while it starts."""
        if rng.random() < 1 / 8:
            return cls(0, rng.uniform(0, START_S))
        return cls(rng.randrange(count), rng.uniform(0, 2 * block_s))


def figures(here: Path, kills: dict[str, int]) -> list[Figure]:
    """Kill, look, resume, compare.

    Parameters
    ----------
    kills
        ``worker``, ``supervisor``, ``both`` → how often.
    """
    rng = random.Random(20261129)
    first = Place.make(here / "whole", "survival-whole")
    run(first.measure())  # compiles the mock's loops
    began_s = time.monotonic()
    whole = Ended.of(_measured(Place.make(here / "again", "survival-again")))
    whole_s = time.monotonic() - began_s
    wanted = [whom for whom, count in kills.items() for _ in range(count)]
    count = len(whole.segments)
    moments = [Moment.drawn(rng, count, whole_s / count) for _ in wanted]
    tasks = [(i, whom, moment) for i, (whom, moment) in enumerate(zip(wanted, moments, strict=True))]
    with ThreadPoolExecutor(JOBS) as pool:
        rows = list(pool.map(lambda task: _killed(here / f"kill{task[0]}", whole, *task), tasks))
    done = [row for row in rows if row is not None]
    found = []
    for whom in kills:
        found += _said(whom, [row for row in done if row.whom == whom])
    return [*found, figure("segments of the whole run", len(whole.segments), "1")]


def _measured(place: Place) -> RunReader | None:
    code, document = run(place.measure())
    if code not in (0, 10):
        raise SystemExit(f"the run that nobody kills ended with exit code {code}: {document}")
    return place.newest()


def _killed(folder: Path, whole: Ended, number: int, whom: str, moment: Moment) -> Kill | None:
    """One kill; None where the run had ended before."""
    place = Place.make(folder, f"survival-{number}")
    started = Started(place.measure())
    wait_until(lambda: started.worker() is not None or started.process.poll() is not None)
    wait_until(lambda: place.sealed() >= moment.blocks or started.process.poll() is not None)
    time.sleep(moment.after_s)
    worker = started.worker()
    pids = {"worker": [worker], "supervisor": [started.process.pid], "both": [started.process.pid, worker]}[whom]
    if worker is None or started.process.poll() is not None or not started.kill(*pids):
        started.ended()
        return None
    killed_s = time.monotonic()
    lit = place.has_been_lit()
    lock_s = None if wait_until(lambda: _is_free(place.bench)) is None else time.monotonic() - killed_s
    gone_s = None if wait_until(lambda: not started.living()) is None else time.monotonic() - killed_s
    started.end()
    dark = place.is_dark()
    left = place.newest()
    if left is None:
        return Kill(whom, 0, False, lit, False, True, lock_s, gone_s, dark, None)
    blocks = [line["file"] for line in left.journal() if line["event"] == "segment"]
    rows = {row.file: row.sha256 for row in left.manifest}
    resumed = left.status not in ("ok", "out_of_spec")
    if resumed:
        code, document = run(["run", "resume", "latest", "--runs", str(place.runs)])
        if code not in (0, 10):
            print(f"not resumed: {document.get('first_error')}", file=sys.stderr)
    after = place.newest()
    files = Counter(row.file for row in after.manifest) if after else Counter()
    again = {row.file: row.sha256 for row in after.manifest} if after else {}
    kept = all(files[name] == 1 and again[name] == rows.get(name) for name in blocks)
    same = Ended.of(after).same(whole)
    when = f"{moment.after_s:.2f} s after {moment.blocks} blocks, {len(blocks)} sealed"
    found = f"{'same' if same else 'DIFFERENT'}, {'dark' if dark else 'LIT'}, lock free after {lock_s}"
    print(f"{whom} killed {when}: {found}", file=sys.stderr)
    midway = 0 < len(blocks) < len(whole.segments)
    return Kill(whom, len(blocks), midway, lit, resumed, kept, lock_s, gone_s, dark, same)


def _is_free(bench: str) -> bool:
    """Whether nobody holds a bench: the kernel's answer."""
    try:
        with BenchFiles(bench).lock.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _said(whom: str, rows: list[Kill]) -> list[Figure]:
    count = len(rows)
    if not rows:
        return [figure(f"{whom}: kills", 0, "1", "> 0", False)]
    locks = [row.lock_s if row.lock_s is not None else float("inf") for row in rows]
    late = sum(lock > LOCK_S for lock in locks)
    judged = [row for row in rows if row.same is not None]

    def all_of(name: str, values: list[bool]) -> Figure:
        return figure(f"{whom}: {name} (of {len(values)})", sum(values), "1", "all", bool(values) and all(values))

    return [
        figure(f"{whom}: kills", count, "1"),
        figure(f"{whom}: of them before there was a run", count - len(judged), "1"),
        figure(f"{whom}: of them between the first and the last block", sum(row.midway for row in rows), "1"),
        figure(f"{whom}: of them resumed", sum(row.resumed for row in rows), "1"),
        all_of("ended bit for bit as the whole run", [bool(row.same) for row in judged]),
        all_of("journalled blocks kept, none twice", [row.kept for row in judged]),
        all_of("safe state reached after the light had been on", [row.dark for row in rows if row.lit]),
        all_of("no process left", [row.gone_s is not None for row in rows]),
        figure(f"{whom}: lock free, latest", max(locks), "s", f"≤ {LOCK_S:g} s", late == 0),
        figure(f"{whom}: last process gone, latest", max(row.gone_s or END_S for row in rows), "s"),
    ]
