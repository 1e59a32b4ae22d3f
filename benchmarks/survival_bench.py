"""The small bench that `survival.py` kills, starves and plays nights on, and how its runs are looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from simulated.changed_bench import PANELS

from calibration.frames.products import ProductGroup
from labctl.archive import RunReader, find_run
from labctl.workload import write_workload

STATION = """
[bench]
name = "{bench}"
[devices.source]
backend = "mock.source"
options = {{state_file = {state}}}
[devices.door]
role = "interlock"
backend = "mock.interlock"
[layout]
rows = 16
columns = 16
[acquisition]
disk_floor_gb = 0.0
[mock]
seed = 1
threads = 1
[mock.drift]
power_walk_per_sqrt_s = 0.002
"""
END_S = 120.0
"""After a kill nothing of a run may live longer than this."""
_MARK = "LABCTL_SURVIVAL"


def workload(path: Path, count: int, outputs: int = 6) -> None:
    """Random products of one small matrix."""
    rng = np.random.default_rng(7)
    weight = rng.standard_normal((outputs, 8)).astype(np.float32)
    inputs = rng.standard_normal((count, 8)).astype(np.float32)
    positions = np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)
    scale = float(np.percentile(np.abs(weight), 99))
    group = ProductGroup("random", "linear", 0, weight, inputs, inputs @ weight.T, positions, scale)
    write_workload(path, [group], {"model": "random", "text": "none", "seed": 7})


@dataclass(frozen=True)
class Place:
    """Where one bench and its runs lie; its processes are told from all others by a mark in their environment."""

    folder: Path
    bench: str

    @classmethod
    def make(cls, folder: Path, bench: str, products: int = 64) -> Place:
        """Write the station and the workload."""
        folder.mkdir(parents=True)
        place = cls(folder, bench)
        place.station.write_text(STATION.format(bench=bench, state=json.dumps(str(place.light))) + PANELS)
        workload(place.products, products)
        return place

    @property
    def station(self) -> Path:
        return self.folder / "station.toml"

    @property
    def products(self) -> Path:
        return self.folder / "products.h5"

    @property
    def light(self) -> Path:
        """Where the source writes whether it is on."""
        return self.folder / "light.txt"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def measure(self, *options: str) -> list[str]:
        """The words of a whole run."""
        return ["measure", str(self.products), "--bench", str(self.station), "--runs", str(self.runs), *options]

    def night(self, *options: str) -> list[str]:
        """The words of a night."""
        where = ("--bench", str(self.station), "--runs", str(self.runs))
        return ["nightly", "run", "--workload", str(self.products), *where, *options]

    def is_dark(self) -> bool:
        """Whether the source is off, by its own words."""
        return not self.light.exists() or self.light.read_text().splitlines()[-1:] != ["on"]

    def has_been_lit(self) -> bool:
        """Whether the source was on at any time, by its own words."""
        return self.light.exists() and "on" in self.light.read_text().splitlines()

    def sealed(self) -> int:
        """Blocks on the disk."""
        return sum(1 for _ in self.runs.rglob("segments/[0-9]*.h5"))

    def newest(self) -> RunReader | None:
        """The newest run; None where there is none."""
        return RunReader(find_run(self.runs, "latest")) if list(self.runs.rglob("run.json")) else None


class Started:
    """A command that runs in a session of its own, and everything that it starts in turn."""

    def __init__(self, words: list[str], **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "labctl", *words, "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            start_new_session=True, env={**os.environ, **environment, _MARK: self.mark},
        )  # fmt: skip

    def living(self) -> list[int]:
        """Processes that carry the mark, wherever they were handed to."""
        wanted = f"{_MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state = (entry / "stat").read_text().rpartition(") ")[2][:1]
                if state != "Z" and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def worker(self) -> int | None:
        """The process that has the devices: it was started with the same words as its supervisor."""
        words = command_line(self.process.pid)
        rest = words[words.index(b"labctl") :] if b"labctl" in words else []
        for pid in self.living():
            seen = command_line(pid)
            if pid != self.process.pid and rest and seen[-len(rest) :] == rest:
                return pid
        return None

    def kill(self, *pids: int | None) -> bool:
        """SIGKILL; whether all of them were still there."""
        sent = 0
        for pid in pids:
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                sent += 1
        return sent == len(pids)

    def ended(self, limit_s: float = END_S) -> tuple[int, str, str]:
        """Exit code and what it said."""
        try:
            out, err = self.process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.end()
            return -99, "", "it did not end"
        return self.process.returncode, out, err

    def end(self) -> None:
        """Kill what is left of it."""
        for pid in self.living():
            self.kill(pid)
        self.process.communicate()


def command_line(pid: int) -> list[bytes]:
    """Words that a process was started with; none where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


def wait_until(condition: Callable[[], bool], limit_s: float = END_S) -> float | None:
    """Seconds until it is so; None where it does not become so in time."""
    began_s = time.monotonic()
    while not condition():
        if time.monotonic() - began_s > limit_s:
            return None
        time.sleep(0.01)
    return time.monotonic() - began_s


def run(words: list[str]) -> tuple[int, dict[str, Any]]:
    """A command to its end: exit code and document."""
    started = Started(words)
    code, out, err = started.ended()
    try:
        document: dict[str, Any] = json.loads(out)
    except json.JSONDecodeError:
        document = {"verdict": "none", "stderr": err}
    return code, document


@dataclass(frozen=True)
class Ended:
    """A run at its end: hashes of its segments, arrays of its calibration, figures of its nodes."""

    status: str
    segments: list[str]
    arrays: dict[str, Any]
    figures: list[tuple[str, float | None]]

    @classmethod
    def of(cls, reader: RunReader | None) -> Ended:
        """Of a run that may lack anything."""
        summary = reader.summary() if reader else None
        if reader is None or summary is None:
            return cls("none", [], {}, [])
        metrics = [(metric.name, metric.value) for metric in summary.metrics]
        arrays = {}
        if summary.calibration is not None:
            arrays = load_file(Path(summary.calibration.path).with_suffix(".safetensors"))
        return cls(reader.status, [row.sha256 for row in reader.manifest], arrays, metrics)

    def same(self, other: Ended) -> bool:
        """Bit for bit."""
        return (
            (self.status, self.segments, self.figures) == (other.status, other.segments, other.figures)
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(array, other.arrays[name], equal_nan=True) for name, array in self.arrays.items())
        )
