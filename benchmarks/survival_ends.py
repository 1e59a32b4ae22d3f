"""How runs end that cannot end well: parts ``twice``, ``faults`` and ``documents`` of `survival.py`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from _common import Figure, figure
from survival_bench import Place, Started, run, wait_until

from labctl.errors import BenchBusy
from labctl.resources import data_path

BUSY_S = 1.0
DEADLINE_S = 90.0
JUMP = """
import os
if "LABCTL_WORKER" in os.environ:
    import datetime as dt
    from labctl import clock
    from labctl.archive import RunWriter
    write, written = RunWriter.write_segment, []
    def jumping(self, *arguments):
        written.append(0)
        if len(written) == 7:
            clock._ahead += dt.timedelta(hours={hours})
        return write(self, *arguments)
    RunWriter.write_segment = jumping
"""
"""A clock that is set while a run measures."""


@dataclass(frozen=True)
class Trouble:
    """What happens to a run, and how it has to end.

    Attributes
    ----------
    keys
        Of the station.
    endings
        Exit code and verdict.
    event
        That the journal has to tell; empty for none.
    jump_h
        By how much the clock is set [h].
    """

    keys: tuple[str, ...]
    endings: tuple[tuple[int, str], ...]
    event: str = ""
    jump_h: float = 0.0


_SPENT = ((0, "ok"), (10, "out_of_spec"))
FAULTS = {
    "hang in native code": Trouble(("mock.faults=['hang@300']", "acquisition.stall_s=4.0"), ((20, "fault"),)),
    "full disk": Trouble(("mock.faults=['disk-full@300']",), ((22, "storage"),)),
    "camera unplugged for good": Trouble(
        ("mock.faults=['disconnect%1.0']", "acquisition.reopen_attempts=1"), ((20, "fault"),)
    ),
    "interlock that stays open": Trouble(
        ("mock.faults=['interlock@300']", "acquisition.interlock_wait_s=1.0"), ((21, "interlock"),), "suspended"
    ),
    "interlock that flaps, less often than it may": Trouble(
        ("mock.faults=['interlock@100:3','interlock@300:3','interlock@500:3']",), _SPENT, "suspended"
    ),
    "interlock that flaps more often": Trouble(
        ("mock.faults=['interlock@100:3','interlock@300:3','interlock@500:3','interlock@700:3']",),
        ((21, "interlock"),),
        "suspended",
    ),
    "clock set back by an hour": Trouble((), _SPENT, "clock", -1.0),
    "clock set ahead by a day": Trouble((), _SPENT, "clock", 24.0),
}


def twice(here: Path) -> list[Figure]:
    """Two commands on one bench: the second of two runs, and one of two nights that begin at the same moment."""
    place = Place.make(here / "bench", "survival-twice")
    first = Started(place.measure())
    wait_until(lambda: bool(list(place.runs.rglob("segments/*.h5"))))
    holders, began_s = first.living(), time.monotonic()
    second = Started(place.measure())
    found = _refused("measure, the second", second, holders, began_s)
    code, _, _ = first.ended()
    found.append(figure("measure, the first: exit code", code, "1", "0 or 10", code in (0, 10)))
    place = Place.make(here / "nights", "survival-nights-twice", 512)
    began_s = time.monotonic()
    both = [Started(place.night()), Started(place.night())]
    wait_until(lambda: any(one.process.poll() is not None for one in both))
    late, other = sorted(both, key=lambda one: one.process.poll() is None)
    found += _refused("nightly run, one of two at once", late, other.living(), began_s)
    code, _, _ = other.ended()
    return [*found, figure("nightly run, the other: exit code", code, "1", "0, 10 or 11", code in (0, 10, 11))]


def _refused(what: str, started: Started, holders: list[int], began_s: float) -> list[Figure]:
    wait_until(lambda: started.process.poll() is not None)
    took_s = time.monotonic() - began_s
    code, out, _ = started.ended()
    error = (json.loads(out) if out.strip() else {}).get("first_error") or {}
    names = any(f"process {pid}" in str(error.get("seen")) for pid in holders)
    return [
        figure(f"{what}: exit code", code, "1", "75", code == BenchBusy.exit_code),
        figure(f"{what}: names the holder's process", float(names), "1", "1", names),
        figure(f"{what}: ended after", took_s, "s", f"≤ {BUSY_S:g} s", took_s <= BUSY_S),
    ]


def faults(here: Path) -> list[Figure]:
    """Each fault ends in its verdict and exit code, sealed, dark, and in time."""
    found = []
    for number, (what, trouble) in enumerate(FAULTS.items()):
        place = Place.make(here / str(number), f"survival-fault-{number}")
        (place.folder / "sitecustomize.py").write_text(JUMP.format(hours=trouble.jump_h) if trouble.jump_h else "")
        options = [word for key in trouble.keys for word in ("--set", key)]
        started = Started(place.measure(*options), PYTHONPATH=str(place.folder))
        found += _ended(what, place, started, trouble)
    return found


def _ended(what: str, place: Place, started: Started, trouble: Trouble) -> list[Figure]:
    began_s = time.monotonic()
    code, out, _ = started.ended()
    took_s = time.monotonic() - began_s
    left = place.newest()
    status = left.status if left else "no run"
    said = json.loads(out) if out.strip() else {}
    right = (code, status) in trouble.endings and (said.get("exit_code"), said.get("verdict")) == (code, status)
    told = left is not None and (not trouble.event or any(line["event"] == trouble.event for line in left.journal()))
    sealed = left is not None and left.seal is not None and left.verify().intact
    whole = sealed and told and place.is_dark() and not started.living()
    wanted = " or ".join(f"{verdict}, {number}" for number, verdict in trouble.endings)
    return [
        figure(f"{what}: {status}, exit code", code, "1", wanted, right),
        figure(f"{what}: sealed, intact, told in the journal, dark, nothing left", float(whole), "1", "1", whole),
        figure(f"{what}: ended after", took_s, "s", f"≤ {DEADLINE_S:g} s", took_s <= DEADLINE_S),
    ]


def documents(here: Path) -> list[Figure]:
    """What runs of several verdicts leave for other programs, by those programs' own readers."""
    from jsonschema import Draft202012Validator
    from junitparser import JUnitXml
    from prometheus_client.parser import text_string_to_metric_families

    schema = json.loads(data_path("schemas/summary-1.schema.json").read_text())
    found = []
    for name, options in {"ok": (), "storage": ("--set", "mock.faults=['disk-full@300']")}.items():
        place = Place.make(here / name, f"survival-documents-{name}")
        run(place.measure(*options))
        left = place.newest()
        if left is None:
            raise SystemExit(f"no run in {place.runs}")
        errors = list(Draft202012Validator(schema).iter_errors(json.loads((left.path / "summary.json").read_text())))
        cases = sum(len(suite) for suite in _suites(JUnitXml.fromfile(str(left.path / "junit.xml"))))
        series = list(text_string_to_metric_families((left.path / "metrics.prom").read_text()))
        Xml.parse(left.path / "junit.xml")
        found += [
            figure(f"{left.status}: summary.json, errors by its schema", len(errors), "1", "0", not errors),
            figure(f"{left.status}: junit.xml, test cases", cases, "1", "≥ 1", cases >= 1),
            figure(f"{left.status}: metrics.prom, families", len(series), "1", "≥ 1", bool(series)),
        ]
    return found


def _suites(document):  # type: ignore[no-untyped-def]
    return [document] if hasattr(document, "testcase") else list(document)
