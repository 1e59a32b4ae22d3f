"""What does a channel fit cost at the sizes of real benches, in time and memory?

One capture of a smooth and of a free gain map at each size, fitted in a process of its own with one thread.

    python benchmarks/channel_cost.py [--json] [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _common import Figure, figure, own_peak_mb, parser, show
from channel_bound import fitted, scans_of
from simulated.cal_bench import bench

SIZES = (128, 128), (240, 240)
MEMORY_MAX_MB = 1024


def once(rows: int, columns: int, structure: str) -> dict[str, float]:
    """Time on the clock, time of the processor, peak memory of the process, frames, of a capture and its fit."""
    truth = bench((rows, columns), structure, flicker=0.004)
    rng = np.random.default_rng(0)
    frames = sum(len(scan) for scan in scans_of(truth.shape, rng).values())
    start, worked = time.perf_counter(), time.process_time()
    fitted(truth, rng)
    return {
        "wall_s": time.perf_counter() - start,
        "processor_s": time.process_time() - worked,
        "peak_mb": own_peak_mb(),
        "frames": frames,
    }


def apart(*arguments: object) -> dict[str, float]:
    """`once` in a fresh process with one thread."""
    call = f"import json, channel_cost; print(json.dumps(channel_cost.once{arguments!r}))"
    child = subprocess.run(
        [sys.executable, "-c", call],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {name: float(value) for name, value in json.loads(child.stdout).items()}


def figures(quick: bool) -> list[Figure]:
    found = []
    for rows, columns in SIZES[:1] if quick else SIZES:
        for structure in ("smooth", "full"):
            cost = apart(rows, columns, structure)
            name = f"{rows} × {columns}, {structure} gain"
            found += [
                figure(f"fit, {name}: processor time", cost["processor_s"], "s"),
                figure(f"fit, {name}: time on the clock", cost["wall_s"], "s"),
                figure(f"fit, {name}: peak memory", cost["peak_mb"], "MB", "< 1024", cost["peak_mb"] < MEMORY_MAX_MB),
            ]
        found.append(figure(f"frames of the channel's scans, {rows} × {columns}", cost["frames"], "1"))
    return found


def main() -> None:
    options = parser(__doc__).parse_args()
    show("channel_cost", lambda: figures(options.quick), options.json)


if __name__ == "__main__":
    main()
