"""Nights without anyone: part ``nights`` of `survival.py`."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _common import Figure, figure
from survival_bench import Place

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
