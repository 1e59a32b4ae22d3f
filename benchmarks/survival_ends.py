"""How runs end that cannot end well: parts ``twice``, ``faults`` and ``documents`` of `survival.py`."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from xml.etree import ElementTree as Xml

from _common import Figure, figure
from survival_bench import Place, Started, run, wait_until

from labctl.errors import BenchBusy
from labctl.resources import data_path

BUSY_S = 1.0
FAULTS = {
    "hang in native code": (("mock.faults=['hang@300']", "acquisition.stall_s=4.0"), 20, "fault"),
    "full disk": (("mock.faults=['disk-full@300']",), 22, "storage"),
    "camera unplugged for good": (("mock.faults=['disconnect%1.0']", "acquisition.reopen_attempts=1"), 20, "fault"),
    "interlock that stays open": (("mock.faults=['interlock@300']", "acquisition.interlock_wait_s=1.0"), 21,
                                  "interlock"),
}  # fmt: skip
"""What happens → the station's keys, exit code and verdict."""
DEADLINE_S = 90.0
NEVER = {"ok", "drift", "out_of_spec"}


def twice(here: Path) -> list[Figure]:
    """Two runs on one bench: the second is refused while the first measures."""
    place = Place.make(here / "bench", "survival-twice")
    first = Started(place.measure())
    wait_until(lambda: bool(list(place.runs.rglob("segments/*.h5"))))
    holders = first.living()
    began_s = time.monotonic()
    code, document = run(place.measure())
    took_s = time.monotonic() - began_s
    start_s = time.monotonic()
    run(["plan", "--bench", str(place.station), "--runs", str(place.runs)])
    start_s = time.monotonic() - start_s
    first_code, _, _ = first.ended()
    error = document.get("first_error") or {}
    names = any(str(pid) in json.dumps(error) for pid in holders)
    return [
        figure("second of two at once: exit code", code, "1", "75", code == BenchBusy.exit_code),
        figure("it names the holder's process", float(names), "1", "1", names),
        figure("it ended after, beyond the time of labctl plan", took_s - start_s, "s", f"≤ {BUSY_S:g} s",
               took_s - start_s <= BUSY_S),
        figure("first of two: exit code", first_code, "1", "0 or 10", first_code in (0, 10)),
    ]  # fmt: skip


def faults(here: Path) -> list[Figure]:
    """Each fault ends in its verdict and exit code, sealed, dark, and in time."""
    found = []
    for number, (what, (keys, code, verdict)) in enumerate(FAULTS.items()):
        place = Place.make(here / str(number), f"survival-fault-{number}")
        options = [word for key in keys for word in ("--set", key)]
        found += _ended(what, place, Started(place.measure(*options)), {code}, verdict)
    for count in (1, 2, 20):
        place = Place.make(here / f"sigint{count}", f"survival-sigint-{count}")
        started = Started(place.measure())
        wait_until(lambda place=place: bool(list(place.runs.rglob("segments/*.h5"))))
        for _ in range(count):
            started.process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        found += _ended(f"SIGINT {count} times", place, started, {130}, "aborted")
    return found


def _ended(what: str, place: Place, started: Started, codes: set[int], verdict: str) -> list[Figure]:
    began_s = time.monotonic()
    code, _, _ = started.ended()
    took_s = time.monotonic() - began_s
    left = place.newest()
    status = left.status if left else "no run"
    right = code in codes and status == verdict and status not in NEVER
    sealed = left is not None and left.verify().intact and (left.path / "SEAL").exists()
    return [
        figure(f"{what}: {status}, exit code", code, "1", f"{verdict}, {min(codes)}", right),
        figure(f"{what}: sealed and intact, dark, nothing left", float(sealed and place.is_dark()), "1", "1",
               sealed and place.is_dark() and not started.living()),
        figure(f"{what}: ended after", took_s, "s", f"≤ {DEADLINE_S:g} s", took_s <= DEADLINE_S),
    ]  # fmt: skip


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
