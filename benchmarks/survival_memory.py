"""Memory and open files of the processes of a night, while they live and from night to night."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from _common import Figure, figure
from numpy.typing import NDArray
from survival_bench import Started, command_line

from labctl.archive import RunReader

LOOK_S = 0.2
ROLES = ("supervisor", "bench worker", "analysis worker", "guardian")
BLOCKS = 10
"""Into which the products of a long night are cut: the means of so many are independent of each other."""
SLOPE_MB = 0.5
"""Per night: what the kernel counts of shared pages differs from start to start by a few hundred kilobytes."""
GROWTH_MB = 1.0
"""Per 1000 frames: ten times what a frame's readings take that the suite keeps for the fit."""
SIGMAS = 3.0


class Look(NamedTuple):
    """One process at one moment: wall-clock time [s], resident memory [MB], open files."""

    at_s: float
    memory_mb: float
    files: int


class Watcher:
    """Looks at every process of a command until the ``with`` block ends.

    Attributes
    ----------
    looks
        By role, in order.
    """

    def __init__(self, started: Started) -> None:
        self.looks: dict[str, list[Look]] = defaultdict(list)
        self._started, self._over = started, threading.Event()
        self._also: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10.0)

    def also(self, action: Callable[[], None]) -> None:
        """Do this at each look, too."""
        self._also.append(action)

    def highest(self) -> dict[str, tuple[float, int]]:
        """Of each role: memory [MB] and open files."""
        return {
            role: (round(max(look.memory_mb for look in looks), 1), max(look.files for look in looks))
            for role, looks in self.looks.items()
        }

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            words = command_line(self._started.process.pid)  # at first those of this program: a fork before its exec
            for pid in self._started.living():
                role = self._role(pid, words)
                if role is not None:
                    self._look(role, pid)
            for action in self._also:
                with contextlib.suppress(OSError):
                    action()

    def _role(self, pid: int, words: list[bytes]) -> str | None:
        seen = command_line(pid)
        if pid == self._started.process.pid:
            return "supervisor"
        if b"labctl.engine.analysis_worker_main" in seen:
            return "analysis worker"
        if b"labctl.engine.guardian" in seen:
            return "guardian"
        rest = words[words.index(b"labctl") :] if b"labctl" in words else []
        return "bench worker" if rest and seen[-len(rest) :] == rest else None

    def _look(self, role: str, pid: int) -> None:
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{pid}/status").read_text()
            resident_mb = int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6
            files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            self.looks[role].append(Look(time.time(), resident_mb, files))


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of the straight line through the points, and its standard error; NaN with fewer than three."""
    if len(x) < 3:
        return float("nan"), float("nan")
    away = np.asarray(x, np.float64) - np.mean(x)
    slope = float(away @ np.asarray(y) / (away @ away))
    rest = np.asarray(y) - np.mean(y) - slope * away
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (away @ away)))


def flat(where: str, watchers: Sequence[Watcher]) -> list[Figure]:
    """From night to night: slopes of each role's highest memory and open files, and the highest of all.

    Parameters
    ----------
    watchers
        Of the nights that ran to their end; the first one, which has everything to calibrate, is left out.
    """
    found = []
    highest = [watcher.highest() for watcher in watchers[1:]]
    for role in ROLES:
        seen = [(float(i), *night[role]) for i, night in enumerate(highest) if role in night]
        if not seen:
            continue
        nights, memory, files = zip(*seen, strict=True)
        for what, values, unit, limit in (("memory", memory, "MB", SLOPE_MB), ("open files", files, "1", 0.0)):
            slope, error = line(nights, values)
            is_flat = slope <= limit + SIGMAS * error if np.isfinite(slope) else None
            words = f"{where}, {role}: {what}, slope per night ± {error:.2g} ({len(seen)} nights)"
            found.append(figure(words, slope, unit, f"≤ {limit:g} + {SIGMAS:g} σ", is_flat))
            found.append(figure(f"{where}, {role}: {what}, highest", max(values), unit))
    return found


def growth(where: str, watcher: Watcher, runs: Path) -> list[Figure]:
    """Within one long night: by how much each process grows per 1000 frames of the products."""
    run = max(runs.rglob("run.json"), key=lambda path: path.stat().st_mtime).parent
    at_s, frames = products_by_time(RunReader(run))
    found = []
    for role, looks in watcher.looks.items():
        inside = [look for look in looks if at_s[0] <= look.at_s <= at_s[-1]]
        if len(inside) < BLOCKS:
            continue
        number = np.interp([look.at_s for look in inside], at_s, frames)
        blocks = np.array_split(np.arange(len(inside)), BLOCKS)
        x = [float(number[block].mean()) / 1000 for block in blocks]
        for what, name, unit, limit in (
            ("memory", "memory_mb", "MB", GROWTH_MB), ("open files", "files", "1", 0.0),
        ):  # fmt: skip
            y = [float(np.mean([getattr(inside[i], name) for i in block])) for block in blocks]
            slope, error = line(x, y)
            words = f"long night, {where}, {role}: {what}, slope per 1000 frames of {frames[-1]:.0f} ± {error:.2g}"
            found.append(figure(words, slope, unit, f"≤ {limit:g} + {SIGMAS:g} σ", slope <= limit + SIGMAS * error))
    return found


def products_by_time(reader: RunReader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wall-clock times at which the segments of products were sealed [s], and frames up to there."""
    rows = [
        (dt.datetime.fromisoformat(entry["at"]).timestamp(), entry["rows"])
        for entry in reader.journal()
        if entry["event"] == "segment" and entry["kind"] == "products"
    ]
    at_s, counts = zip(*rows, strict=True)
    return np.array(at_s, np.float64), np.cumsum(counts).astype(np.float64)
