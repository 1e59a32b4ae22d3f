"""What do fifty people who watch the live page cost an acquisition?

A process acquires frames of the mock bench as a run does, with progress and preview in its run folder, once at 60 Hz
and once as fast as the mock computes, which is the hardest case. Beside it `labctl serve` runs. Phases with fifty
connections that follow every event and fetch every picture alternate with phases in which nobody watches; the figure is
the change of the mean frame period between them. Who watches runs on this computer, too, as the last in line for its
processor: in a lab it would be another one. On a computer that has other work the change drowns in it; the processor
time of the page does not.

    python benchmarks/live_page.py [--json] [--quick] [--clients 50]
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from _common import figure, parser, show
from numpy.typing import NDArray

STATION = """
[bench]
name = "live-page"
[mock]
threads = 1
[mock.slm]
rows = 540
cols = 960
[mock.display]
rows = 540
cols = 960
[mock.camera]
rows = 540
cols = 960
"""
RATE_HZ = 60.0
SETTLING_S = 2.0
"""At the beginning of each phase that is left out: connections are made and ended."""


def acquire(folder: Path, rate_hz: float) -> None:
    """Acquire until ``stop`` lies in the folder; then write when each frame came, and how long handing over took."""
    from drivers.protocols import Roi
    from labctl.archive import RunWriter
    from labctl.bench.bench import open_bench
    from labctl.engine.onlooker import Onlooker
    from labctl.engine.tracker import Tracker
    from labctl.station.loading import load_station

    loaded = load_station(folder / "station.toml")
    rng = np.random.default_rng(0)
    came_s, handed_s = [], []
    with RunWriter.create(folder / "runs", "benchmark", loaded) as run, open_bench(loaded.station) as bench:
        onlooker, tracker = Onlooker(run.path, bench.camera), Tracker(run.path)
        rows, columns = bench.camera.shape
        bench.camera.roi = Roi(0, 0, columns, rows)
        tracker.begin_node("gain")
        pictures = rng.integers(0, 256, (4, *bench.display.shape), dtype=np.uint8)
        due_s = time.monotonic()
        while len(came_s) % 32 or not (folder / "stop").exists():
            bench.display.show(pictures[len(came_s) % 4])
            bench.camera.arm(1)
            block = bench.camera.fetch(10.0)
            began_s = time.perf_counter()
            onlooker.see(block)
            handed_s.append(time.perf_counter() - began_s)
            tracker.advance(1)
            if rate_hz:
                due_s = max(due_s + 1 / rate_hz, time.monotonic() - 1)
                time.sleep(max(0.0, due_s - time.monotonic()))
            came_s.append(time.monotonic())
        onlooker.close()
    np.savez(folder / "times.npz", came_s=came_s, handed_s=handed_s)


async def watch(url: str, seconds: float) -> None:
    """One visitor: follow the events and fetch each new picture."""
    there = urlsplit(url)

    async def ask(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(there.hostname, there.port, limit=2**22)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {there.netloc}\r\nConnection: close\r\n\r\n".encode())
        return reader, writer

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            events, writer = await ask("/events")
            try:
                while line := await events.readline():
                    if found := re.search(rb"/runs/[\w-]+/camera\.png\?v=\w+", line):
                        picture, other = await ask(found[0].decode())
                        await picture.read()
                        other.close()
            finally:
                writer.close()


async def crowd(url: str, seconds: float, clients: int) -> None:
    """All of them."""
    await asyncio.gather(*(watch(url, seconds) for _ in range(clients)))


def processor_s(process: int) -> float:
    """Processor time that a process has used [s]; NaN where the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """The page of the folder's archive: its address, and its process."""
    command = [sys.executable, "-m", "labctl", "serve", "--port", "0", "--json", "--runs", str(folder / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        said += process.stdout.readline()
    try:
        yield str(json.loads(said)["url"]), process.pid
    finally:
        process.terminate()
        process.wait(30)


def periods_s(folder: Path, rate_hz: float, phases: int, phase_s: float, clients: int) -> tuple[Any, Any, Any, Any]:
    """Frame periods of each phase without and with visitors, and how long handing over took [s].

    Last the share of a core that the page used in each phase with visitors.
    """
    (folder / "station.toml").write_text(STATION)
    here = [sys.executable, __file__]
    acquiring = subprocess.Popen([*here, "--acquire", str(folder), "--rate", str(rate_hz)])
    try:
        while not list(folder.glob("runs/*/*/*/*/preview.npz")):
            assert acquiring.poll() is None
            time.sleep(0.2)
        spans: list[tuple[float, float, bool]] = []
        shares: list[float] = []
        with served(folder) as (url, page):
            for phase in range(2 * phases):
                watched = phase % 2 == 1
                began_s, used_s = time.monotonic(), processor_s(page)
                if watched:
                    crowding = [*here, "--watch", url, "--seconds", str(phase_s), "--clients", str(clients)]
                    subprocess.run(crowding, check=True, preexec_fn=lambda: os.nice(19))
                    shares.append((processor_s(page) - used_s) / (time.monotonic() - began_s))
                else:
                    time.sleep(phase_s)
                spans.append((began_s + SETTLING_S, began_s + phase_s, watched))
    finally:
        (folder / "stop").touch()
        acquiring.wait(60)
    with np.load(folder / "times.npz") as times:
        came_s, handed_s = times["came_s"], times["handed_s"]
    found: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    for begin_s, end_s, watched in spans:
        found[watched].append(np.diff(came_s[(came_s >= begin_s) & (came_s < end_s)]))
    return found[False], found[True], handed_s, shares


def figures(quick: bool, clients: int) -> list[dict[str, Any]]:
    phases, phase_s = (2, 5.0) if quick else (6, 10.0)
    found: list[dict[str, Any]] = []
    for name, rate_hz in ((f"{RATE_HZ:g} Hz", RATE_HZ), ("as fast as it goes", 0.0)):
        with tempfile.TemporaryDirectory() as folder:
            quiet, watched, handed_s, shares = periods_s(Path(folder), rate_hz, phases, phase_s, clients)
        means = [np.array([part.mean() for part in parts]) for parts in (quiet, watched)]
        change = 100 * (means[1] / means[0] - 1)  # of each pair of neighbours: what else the computer does drifts
        error = float(change.std(ddof=1) / np.sqrt(len(change)))
        found += [
            figure(f"{name}: frame period, nobody watches", 1e3 * float(means[0].mean()), "ms", "", None),
            figure(f"{name}: frame period, {clients} watch", 1e3 * float(means[1].mean()), "ms", "", None),
            figure(f"{name}: change", float(change.mean()), "%", "< 2", bool(change.mean() < 2)),
            figure(f"{name}: standard error of the change", error, "%", "", None),
            figure(f"{name}: 99th percentile, nobody watches", 1e3 * _late(quiet), "ms", "", None),
            figure(f"{name}: 99th percentile, {clients} watch", 1e3 * _late(watched), "ms", "", None),
            figure(f"{name}: processor time of the page, of a core", 100 * float(np.mean(shares)), "%", "", None),
            figure(f"{name}: handing a frame over, mean", 1e6 * float(handed_s.mean()), "µs", "", None),
        ]
    return found


def _late(parts: list[NDArray[np.float64]]) -> float:
    return float(np.percentile(np.concatenate(parts), 99))


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--acquire", type=Path)
    options.add_argument("--rate", type=float, default=RATE_HZ)
    options.add_argument("--watch")
    options.add_argument("--seconds", type=float, default=10.0)
    chosen = options.parse_args()
    if chosen.acquire:
        acquire(chosen.acquire, chosen.rate)
    elif chosen.watch:
        asyncio.run(crowd(chosen.watch, chosen.seconds, chosen.clients))
    else:
        show("live_page", lambda: figures(chosen.quick, chosen.clients), chosen.json)


if __name__ == "__main__":
    main()
