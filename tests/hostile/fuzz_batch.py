"""Reads damaged files one by one in a process of its own, so that a signal, a hang and too much memory are seen.

``python fuzz_batch.py FOLDER FORMAT:FIRST:COUNT …`` prints a line before each mutation, one after it. The seed of a
mutation is its format and its number: ``python fuzz_batch.py FOLDER workload:1234:1`` does that one again, and its file
is left in the folder.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np

from groundwork.errors import CodedError

HEADROOM_BYTES = 3 * 2**30


def main() -> None:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for job in sys.argv[2:]:
        name, first, count = job.split(":")
        folder = Path(sys.argv[1]) / name
        folder.mkdir(exist_ok=True)
        batch(name, int(first), int(count), folder)


def batch(name: str, first: int, count: int, folder: Path) -> None:
    """Mutations ``first`` … of one format."""
    from fuzz_samples import FORMATS

    form = FORMATS[name]
    path = form.make(folder)
    whole = path.read_bytes()
    reading = form.read(path)
    limit = _status("VmSize") + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    for number in range(first, first + count):
        rng = np.random.default_rng([zlib.crc32(name.encode()), number])
        path.write_bytes(form.damaged(whole, rng))
        form.settle(path)
        _say({"format": name, "begin": number})
        Path("/proc/self/clear_refs").write_text("5")
        before, since = _status("VmRSS"), time.process_time()
        outcome, words = "same", ""
        try:
            if form.read(path) != reading:
                outcome = "other"
        except CodedError as error:
            outcome, words = "refused", f"{error.code} {error}"
        except Exception as error:
            outcome, words = "uncoded", f"{type(error).__name__}: {error}"
        spent, peak = time.process_time() - since, _status("VmHWM") - before
        _say(
            {
                "format": name,
                "end": number,
                "outcome": outcome,
                "words": words[:300],
                "seconds": spent,
                "peak_bytes": peak,
            }
        )


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _say(record: dict[str, object]) -> None:
    print(json.dumps(record), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
