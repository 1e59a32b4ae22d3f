"""Run batches of mutations in children, and say what became of each."""

from __future__ import annotations

import collections
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
DAMAGES = int(os.environ.get("LABCTL_DAMAGES", "2000"))
"""Mutations of each format in the slow tests."""
FEW = 20
"""Mutations of each format in the tests of every day."""
LONGEST_S = 10.0
MOST_BYTES = 10**9
START_S = 240.0
HANGS_AFTER_S = 45.0
"""Without an answer, of a child that may have to wait for a processor; its own time is judged by `LONGEST_S`."""

Job = tuple[str, int, int]
"""Format, number of the first mutation, number of mutations."""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation: ``same``, ``other``, ``refused``, ``uncoded``, ``hang``, ``signal``, ``memory``."""

    format: str
    number: int
    kind: str
    words: str


def outcomes(jobs: Sequence[Job], folder: Path) -> list[Outcome]:
    """Of all jobs; a child that dies or hangs is replaced by one that goes on behind the mutation that did it."""
    found: list[Outcome] = []
    waiting = list(jobs)
    while waiting:
        done = _one_child(waiting, folder)
        found += done
        passed = collections.Counter(one.format for one in done)
        waiting = [(name, first + passed[name], count - passed[name]) for name, first, count in waiting]
        waiting = [job for job in waiting if job[2] > 0]
    return found


def side_by_side(name: str, count: int, folder: Path) -> list[Outcome]:
    """Of the first mutations of one format, by two children."""
    half = count // 2
    folders = [folder / "a", folder / "b"]
    for one in folders:
        one.mkdir()
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(outcomes, [[(name, 0, half)], [(name, half, count - half)]], folders)
        return [one for part in halves for one in part]


def bad(found: Sequence[Outcome], sealed: Mapping[str, bool]) -> list[Outcome]:
    """What must not be: no coded error, and no valid reading."""
    return [one for one in found if one.kind not in ("same", "refused") and (one.kind != "other" or sealed[one.format])]


def _one_child(jobs: Sequence[Job], folder: Path) -> list[Outcome]:
    paths = [str(HERE), str(HERE.parents[1] / "benchmarks" / "simulated"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, str(HERE / "fuzz_batch.py"), str(folder), *(":".join(map(str, job)) for job in jobs)]
    errors = folder / "stderr.txt"
    with (
        errors.open("wb") as written,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=written, env=environment, bufsize=0) as child,
    ):
        try:
            return _followed(child, jobs, errors)
        finally:
            child.kill()


def _followed(child: subprocess.Popen[bytes], jobs: Sequence[Job], errors: Path) -> list[Outcome]:
    assert child.stdout is not None
    wanted = sum(count for _, _, count in jobs)
    found: list[Outcome] = []
    begun: tuple[str, int] | None = None
    while len(found) < wanted:
        patience = START_S if begun is None else HANGS_AFTER_S
        if not select.select([child.stdout], [], [], patience)[0]:
            if begun is None:
                raise AssertionError(f"the sample of {jobs[0][0]} takes for ever")
            return [*found, Outcome(*begun, "hang", "no answer")]
        line = child.stdout.readline()
        if not line:
            if begun is None:
                raise AssertionError(f"no sample of {jobs[0][0]}: {errors.read_text(errors='replace')[-2000:]}")
            return [*found, Outcome(*begun, "signal", f"exit {child.wait()}")]
        record = json.loads(line)
        if "begin" in record:
            begun = record["format"], record["begin"]
        else:
            found.append(_judged(record))
            begun = None
    return found


def _judged(record: Mapping[str, object]) -> Outcome:
    words, kind = str(record["words"]), str(record["outcome"])
    if float(str(record["seconds"])) > LONGEST_S:
        kind, words = "hang", f"{record['seconds']} s; {words}"
    elif int(str(record["peak_bytes"])) > MOST_BYTES or "MemoryError" in words:
        kind, words = "memory", f"{record['peak_bytes']} bytes; {words}"
    return Outcome(str(record["format"]), int(str(record["end"])), kind, words)


def main() -> None:
    """``python fuzz_run.py COUNT FORMAT …`` prints the counts of each, and some of each kind of bad end."""
    count = int(sys.argv[1])
    for name in sys.argv[2:]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = outcomes([(name, 0, count)], Path(folder))
            except AssertionError as error:
                print(name, "is not read:", str(error)[-200:], flush=True)
                continue
        print(name, dict(collections.Counter(one.kind for one in found)), flush=True)
        said: collections.Counter[str] = collections.Counter()
        for one in found:
            said[one.kind] += 1
            if one.kind not in ("same", "refused") and said[one.kind] <= 8:
                print("   ", one, flush=True)


if __name__ == "__main__":
    main()
