"""What a list of thousands of runs costs, with the index and without."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import figure, parser, show

from labctl.archive import RunWriter, index, list_runs
from labctl.archive.ids import new_run_id, run_folder
from labctl.archive.rows import forget
from labctl.clock import utc_now
from labctl.engine.graph import statuses
from labctl.station.loading import load_station
from labctl.summary import Summary
from labctl.verdicts import Verdict

SEGMENTS = 30
GOAL_S = 0.2
AN_HOUR_AGO_NS = time.time_ns() - 3_600_000_000_000


def archive(runs: Path, count: int) -> None:
    """So many sealed runs, one every two hours until now: each a copy of one, with its own id."""
    with RunWriter.create(runs / "pattern", "demo", load_station()) as run:
        for _ in range(SEGMENTS):
            run.write_segment("dark", {"signal_dn": np.zeros((2, 4), np.uint16)})
        run.finish(Verdict.OK, Summary(run_id=run.run_id, verdict=Verdict.OK, started=utc_now()))
    for name in ("SEAL", "run.json"):
        os.utime(run.path / name, ns=(AN_HOUR_AGO_NS, AN_HOUR_AGO_NS))
    for number in range(count):
        target = run_folder(runs, new_run_id("demo", utc_now() - dt.timedelta(hours=2 * number + 1)))
        shutil.copytree(run.path, target, ignore=lambda folder, names: [n for n in names if n.endswith(".h5")])
    shutil.rmtree(runs / "pattern")


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The shortest of some repetitions."""
    found = []
    for _ in range(repeats):
        began = time.monotonic()
        work()
        found.append(time.monotonic() - began)
    return min(found)


def figures(quick: bool) -> list[dict[str, Any]]:
    count, repeats = (200, 1) if quick else (2000, 3)
    loaded, worth = load_station(), index.WORTH
    found = []
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        archive(runs, count)
        index.WORTH = count + 1
        without = list_runs(runs)
        for name, work in (("list", lambda: list_runs(runs)), ("statuses", lambda: statuses(runs, loaded))):
            found.append(figure(f"{name} of {count} runs, no index", seconds(work, repeats), "s"))
        index.WORTH = worth
        forget(runs)
        found.append(figure(f"list of {count} runs, making the index", seconds(lambda: list_runs(runs), 1), "s"))
        for name, work in (("list", lambda: list_runs(runs)), ("statuses", lambda: statuses(runs, loaded))):
            value = seconds(work, repeats)
            found.append(figure(f"{name} of {count} runs", value, "s", f"< {GOAL_S:g}", value < GOAL_S))
        same = list_runs(runs) == without
        found.append(figure("rows that differ from the folders", float(not same), "1", "= 0", same))
    return found


if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    show("run_index", lambda: figures(options.quick), options.json)
