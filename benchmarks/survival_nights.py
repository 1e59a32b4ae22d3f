"""Nights without anyone: parts ``nights`` and ``twenty`` of `survival.py`."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import Figure, figure
from survival_bench import Place, Started

from drivers.protocols import OpenContext
from labctl.__main__ import main
from labctl.clock import played_at
from mock_hardware import BenchConfig, backends

FIRST = dt.datetime(2026, 12, 1, 2, tzinfo=dt.UTC)
FADING_PER_NIGHT = 0.001
"""Of the source's power, by which it becomes weaker from night to night [1]."""
KNOCK_PX = 0.8
FALSE_ALARMS = 1
PRODUCTS = 512
"""So many that χ² and coverage of a bench that is well lie within the station's limits by four standard deviations."""
WIRE_FAULTS = ("drop@200", "delay@300:1.0", "disconnect@400", "stale@350", "duplicate@250")
"""What may go wrong between the camera and the program; each of them is mended or ends as a fault."""


@dataclass(frozen=True)
class Night:
    """What is done to one night, and the verdicts that are right then."""

    number: int
    expected: frozenset[str]
    event: str = ""
    changes: tuple[str, ...] = ()
    knocked: bool = False

    @contextlib.contextmanager
    def bench(self) -> Iterator[None]:
        """The mock bench as it is that night: no key of the station says so, as on a real one."""
        usual = backends._config

        def tonight(context: OpenContext) -> BenchConfig:
            config = usual(context)
            source = replace(config.source, power_mw=config.source.power_mw * (1 - FADING_PER_NIGHT * self.number))
            slm = replace(config.slm, offset_x_px=config.slm.offset_x_px + KNOCK_PX * self.knocked)
            return replace(config, seed=config.seed + self.number, source=source, slm=slm)

        backends._config = tonight
        try:
            yield
        finally:
            backends._config = usual


@dataclass
class Watched:
    """Memory and open files of the processes of a night, at their highest."""

    memory_mb: dict[str, float] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)

    def look(self, name: str, pid: int) -> None:
        """Take a process into account; one that has just ended is none."""
        with contextlib.suppress(OSError, IndexError):
            resident = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
            self.memory_mb[name] = max(self.memory_mb.get(name, 0.0), resident)
            self.files[name] = max(self.files.get(name, 0), sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))


def plan(nights: int) -> list[Night]:
    """Slow drift all the time, one knock that stays, two dead devices, one full disk."""
    knock, dead, full = nights * 6 // 10, {nights // 3, nights * 8 // 10}, nights // 2
    found = []
    for number in range(nights):
        if number in dead:
            night = Night(number, frozenset({"fault"}), "dead device", ("mock.faults=['disconnect%1.0']",))
        elif number == full:
            night = Night(number, frozenset({"storage"}), "full disk", ("mock.faults=['disk-full@200']",))
        elif number == knock:
            night = Night(number, frozenset({"out_of_spec", "drift"}), "knock")
        else:
            night = Night(number, frozenset({"ok"}))
        found.append(replace(night, knocked=number >= knock))
    return found


def ninety(here: Path, count: int) -> list[Figure]:
    """Every night in this process, at its own date."""
    place = Place.make(here / "bench", "survival-nights", PRODUCTS)
    right, events, alarms = 0, {}, 0
    for night in plan(count):
        with played_at(FIRST + dt.timedelta(days=night.number)), night.bench():
            document = _in_process(place, night.changes)
        verdict = str(document.get("verdict"))
        outside = [m["name"] for m in document.get("metrics", []) if m["verdict"] not in ("ok", "info")]
        print(f"night {night.number}: {night.event or 'as ever'}, {verdict} {outside}", file=sys.stderr)
        right += verdict in night.expected
        if night.event:
            events[f"night {night.number}, {night.event}: {verdict}"] = verdict in night.expected
        elif verdict in ("drift", "out_of_spec", "fault", "interlock", "storage"):
            alarms += 1
    return [
        figure("nights", count, "1"),
        figure("nights with the right verdict", right, "1"),
        figure("alarms on nights without an event", alarms, "1", f"≤ {FALSE_ALARMS}", alarms <= FALSE_ALARMS),
        *(figure(words, float(found), "1", "1", found) for words, found in events.items()),
    ]


def _in_process(place: Place, changes: tuple[str, ...]) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    options = [word for change in changes for word in ("--set", change)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main([*place.measure("--maintain", *options), "--json"])
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def twenty(here: Path, count: int) -> list[Figure]:
    """Real processes, one night after the other; every second one over real protocols."""
    import served_loop

    from drivers.libraries.xserver import DummyX
    from labctl.station import load_station

    rng = random.Random(20)
    place = Place.make(here / "bench", "survival-twenty", PRODUCTS)
    mock = load_station(place.station).station.mock
    panels = [served_loop.mock_shape(mock, role) for role in ("display", "slm")]
    watched, right = [], 0
    for number in range(count):
        fault = rng.choice(("", *WIRE_FAULTS))
        change = [f"mock.faults=['{fault}']"] if fault else []
        seen = Watched()
        if number % 2:
            with DummyX([served_loop.DESKTOP, *panels]) as screen:
                folder = here / f"served{number}"
                folder.mkdir()
                source = folder / "faulty.toml"
                faults = f"[mock]\nfaults = {[fault] * bool(fault)}"
                source.write_text(place.station.read_text().replace("[mock]", faults))
                environment = {**os.environ, **screen.environment}
                os.environ.update(screen.environment)
                with served_loop.served(environment, source, folder) as other:
                    words = ["measure", str(place.products), "--bench", str(other), "--runs", str(place.runs)]
                    verdict = _watched(words, seen)
        else:
            verdict = _watched(place.measure(*(w for key in change for w in ("--set", key))), seen)
        expected = {"ok"} if not fault else {"ok", "fault"}
        right += verdict in expected
        watched.append(seen)
        print(f"night {number}: {fault or 'no fault'}, {verdict}, {seen.memory_mb}", file=sys.stderr)
    found = [figure(f"nights with the right verdict (of {count})", right, "1", "all", right == count)]
    for name in ("supervisor", "worker"):
        memory = [seen.memory_mb.get(name, np.nan) for seen in watched]
        files = [seen.files.get(name, 0) for seen in watched]
        found += [
            figure(f"{name}: memory, slope per night", float(np.polyfit(range(count), memory, 1)[0]), "MB"),
            figure(f"{name}: memory, highest", float(np.nanmax(memory)), "MB"),
            figure(f"{name}: open files, slope per night", float(np.polyfit(range(count), files, 1)[0]), "1"),
            figure(f"{name}: open files, highest", max(files), "1"),
        ]
    return found


def _watched(words: list[str], seen: Watched) -> str:
    started = Started(words)
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            seen.look("supervisor", started.process.pid)
            worker = started.worker()
            if worker is not None:
                seen.look("worker", worker)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        _, out, _ = started.ended(600.0)
    finally:
        over.set()
        watcher.join()
    try:
        return str(json.loads(out)["verdict"])
    except (json.JSONDecodeError, KeyError):
        return "none"
