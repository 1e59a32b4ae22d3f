"""Twenty nights in a row, ten of them over real protocols, with a fault in most: part ``twenty`` of `survival.py`.

Which verdict each fault must give stands in `FAULTS`, with what promises it. Every process of a night is looked at
while it lives: its memory and its open files, highest of each night, must not rise from night to night. Since each
night has processes of its own, two long nights at the end show what one that stays does, block for block.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import survival_wire
from _common import Figure, figure
from survival_bench import Place, Started, workload
from survival_memory import Watcher, flat, growth

from drivers.libraries.xserver import DummyX
from labctl.archive import RunReader
from mock_hardware import parse

DESKTOP = 640, 480
PRODUCTS = 96
"""So many that one bad frame is less than the hundredth of them which a run may leave out."""
LONG = {"local": 4096, "served": 384}
"""Products of the nights that show what a process does which stays."""
NIGHT_S = 400.0
ORPHANS_S = 10.0
LAST = 3
"""Segments at the end of a night after which no fault begins: the instruments may not be used any more."""
VERDICTS = {"ok": 0, "fault": 20, "interlock": 21, "storage": 22}
SETTINGS = """[acquisition]
fetch_timeout_s = 3.0
reopen_timeout_s = 15.0
stall_s = 40.0
interlock_wait_s = 3.0
"""
"""How long a bench waits: a night of a benchmark is short."""
LIMITS = """[limits]
chi2_per_dof_min = 0.75
chi2_per_dof_max = 1.25
coverage95_min = 0.91
coverage95_max = 0.99
"""
"""More than four standard deviations of what so few products scatter by when nothing is wrong."""


class Fault(NamedTuple):
    """What goes wrong in a night, what the night must say, and who promises it.

    Attributes
    ----------
    script
        For the mock bench in the process: ``KIND@{at}``. Empty on the served bench, where ``kind`` names it.
    verdict
        The right one, with its exit code.
    trace
        What the run must tell of it beside the verdict: ``retried``, ``reopened DEVICE``, ``suspended DEVICE``,
        ``silent DEVICE``, or the code of the error that ended it; empty where it is mended before the suite sees it.
    """

    kind: str
    script: str
    verdict: str
    trace: str
    why: str


NONE = Fault("", "", "ok", "", "nothing has happened")
LOCAL = (
    Fault("lost frame", "drop@{at}", "ok", "retried", "E-CAM-001 is tried again (mock-bench)"),
    Fault("late frame", "delay@{at}:30", "ok", "retried", "E-DEV-003 is tried again (mock-bench)"),
    Fault("frame twice", "duplicate@{at}", "ok", "", "its number repeats and it is read again, or stays unread"),
    Fault("stale frame", "stale@{product}", "ok", "", "one product is left out, by its residual (mock-bench)"),
    Fault("camera unplugged", "disconnect@{at}", "ok", "reopened camera", "the ladder opens it again (mock-bench)"),
    Fault("camera gone", "disconnect%1.0", "fault", "E-DEV-005", "no rung helps: a fault (ladder)"),
    Fault("native hang", "hang@{at}", "fault", "E-STL-001", "the supervisor ends what makes no progress"),
    Fault("disk full", "disk-full@{at}", "storage", "E-STO-002", "the way out of ENOSPC (mock-bench)"),
    Fault("interlock for a moment", "interlock@{at}:3", "ok", "suspended door", "the step is read again"),
    Fault("interlock stays open", "interlock@{at}", "interlock", "E-INT-001", "acquisition.interlock_wait_s is over"),
)
WIRE = (
    Fault("lost packets", "", "ok", "", "GigE Vision sends packets again that the host asks for"),
    Fault("lost images", "", "ok", "retried", "a missing block is a lost frame: tried again"),
    Fault("packets twice", "", "ok", "", "a network may repeat packets: the second ones are nothing new"),
    Fault("late image", "", "ok", "", "earlier than acquisition.fetch_timeout_s is harmless"),
    Fault("stale images", "", "ok", "", "one or two readings of 390 are left out, by their residuals"),
    Fault("lost answers", "", "ok", "", "a host asks again for what is not acknowledged"),
    Fault("camera unplugged", "", "ok", "reopened camera", "the ladder: opened again once it is back"),
    Fault("camera gone", "", "fault", "E-DEV", "no rung of the ladder helps"),
    Fault("meter hangs up", "", "ok", "reopened power", "a monitor that fails is opened again, and stops nothing"),
    Fault("meter gone", "", "ok", "silent power", "a monitor that fails stops nothing"),
    Fault("laser gone", "", "fault", "E-DEV", "a source that cannot be opened again is a fault"),
    Fault("monitors gone", "", "fault", "E-DEV", "panels that cannot be opened again are a fault"),
)
AMONG_PRODUCTS = frozenset({"stale images"})
"""Faults that only products show by their residuals: ramps and the noise scan are not screened."""


@dataclass(frozen=True)
class Ended:
    """A night at its end."""

    verdict: str
    code: int
    traces: frozenset[str]
    is_dark: bool
    orphans: int
    has_happened: bool
    watcher: Watcher

    def is_right(self, fault: Fault) -> bool:
        """Whether it says what it must, left nothing behind, and the fault did come."""
        told = not fault.trace or any(trace.startswith(fault.trace) for trace in self.traces)
        as_it_must = self.verdict == fault.verdict and self.code == VERDICTS[fault.verdict] and told
        dark = self.is_dark or fault.kind in ("laser gone", "monitors gone")  # nobody can switch it, or ask it
        return as_it_must and dark and not self.orphans and self.has_happened


class Nights:
    """Twenty nights on two benches: one in the process, and the same behind real protocols.

    Parameters
    ----------
    here
        A folder for everything.
    seed
        Of what happens when.
    """

    def __init__(self, here: Path, seed: int) -> None:
        self.here, self.rng = here, random.Random(seed)
        self.place = Place.make(here / "bench", "survival-twenty", PRODUCTS)
        self.place.station.write_text(self.place.station.read_text().replace("[acquisition]\n", LIMITS + SETTINGS))
        self._steps: list[tuple[str, int]] = []
        self._frames, self._product = 0, (0, 0)
        self._served = 0
        self._ends = survival_wire.Ends(here / "laser", survival_wire.free_port())

    def local(self, fault: Fault, products: Path | None = None) -> Ended:
        """A night on the mock bench in the process; the first one must be without a fault."""
        low, high = self._product
        script = fault.script.format(
            at=round(self._frames * self.rng.uniform(0.05, 0.9)), product=self.rng.randint(low, max(low, high))
        )
        options = ["--set", f"mock.faults=['{script}']"] if script else []
        ended, reader = self._night(self.place.station, products, options, None, lambda: self.place.is_dark())
        if not fault.kind and reader is not None and products is None:
            sequences = {kind: _sequences(reader, kind) for kind in ("products", None)}
            self._frames = int(sequences[None].max())
            self._product = int(sequences["products"][5]), int(sequences["products"][-5])
        return ended

    def served(self, fault: Fault, products: Path | None = None) -> Ended:
        """A night over GigE Vision, two monitors, SCPI and a serial line; the first one must be without a fault."""
        folder = self.here / f"served{self._served}"
        folder.mkdir()
        self._served += 1
        serving = survival_wire.served(fault.kind, self.place.station, folder, self._ends)
        with self._screen() as screen, serving as station:
            before = _Moment(fault, folder, self._steps, self.rng, screen)
            ended, reader = self._night(station, products, [], before, lambda: True)
        told = survival_wire.told(folder)
        if not fault.kind and reader is not None and products is None:
            self._steps = _always_measured(reader)
        happened = before.has_come and (told.touched > 0 or fault.kind == "monitors gone")
        print(f"    {told}", file=sys.stderr)
        return Ended(
            ended.verdict, ended.code, ended.traces, told.is_dark, ended.orphans, happened or not fault.kind,
            ended.watcher,
        )  # fmt: skip

    @contextlib.contextmanager
    def _screen(self) -> Iterator[DummyX]:
        mock = parse(_table(self.place.station))
        panels = [(panel.cols, panel.rows) for panel in (mock.display, mock.slm)]
        with DummyX([DESKTOP, *panels]) as screen:
            before = dict(os.environ)
            os.environ.update(screen.environment)
            try:
                yield screen
            finally:
                os.environ.clear()
                os.environ.update(before)

    def _night(
        self, station: Path, products: Path | None, options: list[str], moment: _Moment | None, dark: Any
    ) -> tuple[Ended, RunReader | None]:
        runs, chosen = self.place.runs, products or self.place.products
        known = {path.parent for path in runs.rglob("run.json")} if runs.exists() else set()
        words = ["nightly", "run", "--bench", str(station), "--workload", str(chosen), "--runs", str(runs), *options]
        started = Started(words)
        with Watcher(started) as watcher:
            if moment is not None:
                watcher.also(lambda: moment.look(runs, known))
            code, out, err = started.ended(NIGHT_S)
        reader = next((RunReader(p.parent) for p in runs.rglob("run.json") if p.parent not in known), None)
        try:
            verdict = str(json.loads(out)["verdict"])
        except (json.JSONDecodeError, KeyError):
            verdict = f"none ({err[-400:]})"
        traces = _traces(reader) if reader is not None else frozenset[str]()
        return Ended(verdict, code, traces, dark(), _orphans(started), True, watcher), reader


class _Moment:
    """When the fault of a served night comes: after a step that is drawn among those of a night without one."""

    def __init__(
        self, fault: Fault, folder: Path, steps: list[tuple[str, int]], rng: random.Random, screen: DummyX
    ) -> None:
        self._fault, self._now, self._screen = fault, folder / "now", screen
        is_among = {kind: fault.kind not in AMONG_PRODUCTS or kind == "products" for kind, _ in steps}
        places = [(kind, number) for kind, number in steps if is_among[kind]]
        self.after = rng.choice(places[:-LAST]) if places and fault.kind else None
        self.has_come = False

    def look(self, runs: Path, known: set[Path]) -> None:
        """Let it happen once the run has come so far."""
        if self.after is None or self.has_come:
            return
        kind, number = self.after
        for path in runs.rglob("run.json"):
            if path.parent not in known and _segments(path.parent, kind) >= number:
                self.has_come = True
                self._now.touch()
                if self._fault.kind == "monitors gone":
                    self._screen.stop()


def twenty(here: Path, count: int) -> list[Figure]:
    """The nights, one after the other, and two long ones."""
    nights = Nights(here, 20)
    half = count // 2
    local = [NONE, *nights.rng.sample(LOCAL, min(half - 1, len(LOCAL)))]
    served = [NONE, *nights.rng.sample(WIRE, half - 1)]
    right, ended = 0, dict[str, list[Ended]](local=[], served=[])
    for number, (where, fault) in enumerate(
        (where, fault) for pair in zip(local, served, strict=True) for where, fault in zip(ended, pair, strict=True)
    ):
        began_s = time.monotonic()
        night = nights.local(fault) if where == "local" else nights.served(fault)
        ended[where].append(night)
        is_right = night.is_right(fault)
        right += is_right
        print(
            f"night {number}, {where}: {fault.kind or 'no fault'} → {night.verdict} ({night.code}), must be "
            f"{fault.verdict}: {fault.why}; {'right' if is_right else 'WRONG'}; told {sorted(night.traces)}, dark "
            f"{night.is_dark}, orphans {night.orphans}, came {night.has_happened}; {time.monotonic() - began_s:.0f} s; "
            f"{night.watcher.highest()}",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    found = [figure(f"nights with the right verdict (of {count})", right, "1", "all", right == count)]
    for where, those in ended.items():
        found += flat(where, [night.watcher for night in those if night.code == 0])
    return found + _long(nights, count)


def _long(nights: Nights, count: int) -> list[Figure]:
    found = []
    for where, products in LONG.items():
        path = nights.here / f"long-{where}.h5"
        workload(path, products if count >= 20 else products // 4)
        night = nights.local(NONE, path) if where == "local" else nights.served(NONE, path)
        print(f"long night, {where}: {night.verdict} ({night.code})", file=sys.stderr, flush=True)
        found.append(figure(f"long night, {where}: exit code", night.code, "1", "0", night.code == 0))
        found += growth(where, night.watcher, nights.place.runs)
    return found


def _table(station: Path) -> dict[str, Any]:
    from labctl.station import load_station

    return load_station(station).station.mock


def _sequences(reader: RunReader, kind: str | None) -> np.ndarray[Any, Any]:
    found = [s.arrays["sequence"] for s in reader.segments(kind) if "sequence" in s.arrays]
    return np.concatenate(found)


def _always_measured(reader: RunReader) -> list[tuple[str, int]]:
    """Segments that every night measures, whatever else is due: kind, and which of its kind."""
    found: list[tuple[str, int]] = []
    for line in reader.journal():
        if line["event"] == "segment" and line["kind"] in ("canary", "products"):
            found.append((line["kind"], 1 + sum(kind == line["kind"] for kind, _ in found)))
    return found


def _segments(run: Path, kind: str) -> int:
    with contextlib.suppress(OSError):
        return (run / "journal.jsonl").read_text().count(f'"kind":"{kind}","rows"')
    return 0


def _traces(reader: RunReader) -> frozenset[str]:
    """What the run tells of the fault, beside its verdict."""
    found: set[str] = set()
    for line in reader.journal():
        if line["event"] == "monitor" and "error" in line:
            found.add(f"silent {line['device']}")
    summary = reader.summary()
    if summary is None:
        return frozenset(found)
    if summary.counts.retried:
        found.add("retried")
    found |= {f"{event.event} {event.device}" for event in summary.device_events}
    if summary.first_error is not None:
        found.add(summary.first_error.code)
    if summary.bad_frames:
        found.add(f"{len(summary.bad_frames)} bad frames")
    found |= {f"{metric.name} {metric.verdict}" for metric in summary.metrics if metric.verdict not in ("ok", "info")}
    return frozenset(found)


def _orphans(started: Started) -> int:
    end_s = time.monotonic() + ORPHANS_S
    while started.living() and time.monotonic() < end_s:
        time.sleep(0.1)
    left = started.living()
    for pid in left:
        started.kill(pid)
    return len(left)
