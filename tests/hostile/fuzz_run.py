"""Run batches of mutations in children, and say what became of each."""

from __future__ import annotations

import collections
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LONGEST_S = 10.0
MOST_BYTES = 10**9
START_S = 240.0
_HANGS_AFTER_S = 45.0


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation: ``same``, ``other``, ``refused``, ``uncoded``, ``hang``, ``signal``, ``memory``."""

    number: int
    kind: str
    words: str


def outcomes(name: str, first: int, count: int, folder: Path) -> list[Outcome]:
    """Of mutations ``first`` … of a format; a child that dies or hangs is replaced by one that goes on behind it."""
    found: list[Outcome] = []
    while len(found) < count:
        found += _one_child(name, first + len(found), count - len(found), folder)
    return found


def _one_child(name: str, first: int, count: int, folder: Path) -> list[Outcome]:
    paths = [str(HERE), str(HERE.parents[1] / "benchmarks" / "simulated"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, str(HERE / "fuzz_batch.py"), name, str(first), str(count), str(folder)]
    errors = (folder / "stderr.txt").open("wb")
    with errors, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, env=environment) as child:
        found, begun = [], None
        try:
            assert child.stdout is not None
            while len(found) < count:
                if not select.select([child.stdout], [], [], START_S if begun is None else _HANGS_AFTER_S)[0]:
                    return [*found, Outcome(first + len(found), "hang", "no answer")]
                line = child.stdout.readline()
                if not line:
                    code = child.wait()
                    if begun is None:
                        raise AssertionError(f"no sample of {name}: {(folder / 'stderr.txt').read_text()[-2000:]}")
                    return [*found, Outcome(begun, "signal", f"exit {code}")]
                record = json.loads(line)
                begun = record.get("begin", begun)
                if "end" in record:
                    found.append(_judged(record))
        finally:
            child.kill()
    return found


def _judged(record: dict[str, object]) -> Outcome:
    number, words = int(str(record["end"])), str(record["words"])
    if float(str(record["seconds"])) > LONGEST_S:
        return Outcome(number, "hang", f"{record['seconds']} s; {words}")
    if int(str(record["peak_bytes"])) > MOST_BYTES:
        return Outcome(number, "memory", f"{record['peak_bytes']} bytes; {words}")
    if "MemoryError" in words:
        return Outcome(number, "memory", words)
    return Outcome(number, str(record["outcome"]), words)


def main() -> None:
    """``python fuzz_run.py COUNT FORMAT …`` prints the counts of each, and one of each kind of bad end."""
    import tempfile

    count, names = int(sys.argv[1]), sys.argv[2:]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = outcomes(name, 0, count, Path(folder))
            except AssertionError as error:
                print(name, "NOT READ", str(error)[-300:], flush=True)
                continue
        print(name, dict(collections.Counter(one.kind for one in found)), flush=True)
        said: collections.Counter[str] = collections.Counter()
        for one in found:
            if one.kind not in ("same", "refused"):
                said[one.kind] += 1
                if (said[one.kind] <= 12 and one.kind != "other") or (one.kind == "other" and said[one.kind] <= 4):
                    print("   ", one, flush=True)


if __name__ == "__main__":
    main()
