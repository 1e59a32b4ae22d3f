"""Does a run that is killed at any moment go on, and end as one that nobody interrupted, bit for bit?

`labctl measure` on a small mock bench whose source drifts, killed with SIGKILL (supervisor and worker at once) at
random moments spread over the whole run, then `labctl run resume`. Compared are all segments, all arrays of the
calibration, and every figure of the summary; what a kill costs is the segments that had to be read again, one at most.

    python benchmarks/kill_and_resume.py [--json] [--quick] [--kills 20]
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _common import Figure, figure, parser, show
from bench_runs import STATION, workload
from safetensors.numpy import load_file

from labctl.archive import RunReader, find_run

DRIFT = "\n[mock.drift]\npower_walk_per_sqrt_s = 0.002\n"


@dataclass(frozen=True)
class Ended:
    """A run at its end: hashes of its segments, arrays of its calibration, figures of its nodes."""

    status: str
    segments: list[str]
    arrays: dict[str, Any]
    figures: list[tuple[str, float | None]]

    @classmethod
    def of(cls, runs: Path) -> Ended:
        run = RunReader(find_run(runs, "latest"))
        summary = run.summary()
        assert summary is not None
        assert summary.calibration is not None
        arrays = load_file(Path(summary.calibration.path).with_suffix(".safetensors"))
        return cls(
            run.status, [row.sha256 for row in run.manifest], arrays, [(m.name, m.value) for m in summary.metrics]
        )

    def same(self, other: Ended) -> bool:
        """Bit for bit."""
        return (
            (self.status, self.segments, self.figures) == (other.status, other.segments, other.figures)
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(array, other.arrays[name], equal_nan=True) for name, array in self.arrays.items())
        )


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "labctl", *words, "--quiet"]


def killed_after(words: list[str], runs: Path, segments: int, delay_s: float) -> bool:
    """Start a command, kill its whole group some time after that many segments; whether it was still running."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list(runs.rglob("segments/*.h5"))) < segments:
        time.sleep(0.005)
    time.sleep(delay_s)
    alive = process.poll() is None
    if alive:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while list(runs.rglob("run.json")) and RunReader(find_run(runs, "latest")).status == "running":
        time.sleep(0.05)
    return alive


def figures(kills: int) -> list[Figure]:
    rng, same, lost, before_a_segment = random.Random(20261128), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        station, products = here / "small.toml", here / "products.h5"
        station.write_text(STATION + DRIFT)
        workload(products)
        measure = ["measure", str(products), "--bench", str(station), "--runs"]
        subprocess.run(command(*measure, str(here / "whole")), check=True, stdout=subprocess.DEVNULL)
        whole = Ended.of(here / "whole")
        places = sorted(rng.sample(range(len(whole.segments)), min(kills, len(whole.segments))))
        done = 0
        for i, place in enumerate(places):
            runs = here / f"killed{i}"
            if not killed_after(command(*measure, str(runs)), runs, place, rng.random() * 0.3):
                continue
            if not list(runs.rglob("run.json")):
                continue
            done += 1
            sealed = len(RunReader(find_run(runs, "latest")).manifest)
            before_a_segment += sealed == 0
            subprocess.run(command("run", "resume", "latest", "--runs", str(runs)), check=False, capture_output=True)
            after = Ended.of(runs)
            is_same = after.same(whole)
            same += is_same
            lost += sealed < place - 1  # the newest file may not have been listed yet
            words = "the same" if is_same else "DIFFERENT"
            print(f"killed with {sealed} of {len(whole.segments)} segments sealed: {words}", file=sys.stderr)
    return [
        figure("kills", done, "1", f"≥ {kills - 2}", done >= kills - 2),
        figure("ended bit for bit as the whole run", same, "1", "all", same == done),
        figure("sealed segments lost", lost, "1", "0", lost == 0),
        figure("of them killed before the first segment", before_a_segment, "1"),
        figure("segments of the whole run", len(whole.segments), "1"),
    ]


def main() -> None:
    found = parser(__doc__)
    found.add_argument("--kills", type=int, default=20, help="how many")
    options = found.parse_args()
    show("kill_and_resume", lambda: figures(5 if options.quick else options.kills), options.json)


if __name__ == "__main__":
    main()
