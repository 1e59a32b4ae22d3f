"""The calibration graph: which nodes a bench has, on what each rests, and whether its last result still holds.

A node holds as long as it is young enough, came out in spec, its part of the station and its code are the same, and all
its parents hold and are not younger than it. Everything here is read from run folders; no device is touched.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.archive import RunReader, list_runs
from labctl.archive.provenance import source_hashes
from labctl.errors import LabError
from labctl.station.loading import LoadedStation

MAX_RUNS = 50
HARDWARE = ("devices", "layout", "mock")


@dataclass(frozen=True)
class GraphNode:
    """One node: parents, how long it holds [h], and the station's keys and the modules that it depends on.

    ``max_age_h`` None: measured in every run.
    """

    name: str
    parents: tuple[str, ...]
    max_age_h: float | None
    keys: tuple[str, ...]
    modules: tuple[str, ...]


GRAPH = (
    GraphNode(
        "dark",
        (),
        12.0,
        ("devices.camera", "mock", "acquisition.exposure_s", "acquisition.dark_frames"),
        ("calibration.bench.dark",),
    ),
    GraphNode("timing", ("dark",), 168.0, (*HARDWARE, "acquisition.exposure_s"), ("calibration.bench.timing",)),
    GraphNode(
        "registration", ("timing",), 24.0, HARDWARE, ("calibration.bench.registration", "calibration.bench.regions")
    ),
    GraphNode(
        "lut",
        ("registration",),
        168.0,
        (*HARDWARE, "acquisition.exposure_s"),
        ("calibration.bench.lut_fit", "calibration.machine.lut", "calibration.frames.probes"),
    ),
    GraphNode(
        "noise",
        ("lut",),
        24.0,
        (*HARDWARE, "acquisition.exposure_s", "acquisition.noise_repeats"),
        ("calibration.fit.noise", "calibration.frames.probes"),
    ),
    GraphNode(
        "gain",
        ("noise",),
        24.0,
        (*HARDWARE, "acquisition.exposure_s", "acquisition.gain_repeats"),
        (
            "calibration.fit.gain_forms",
            "calibration.fit.structured",
            "calibration.fit.channel",
            "calibration.frames.probes",
        ),
    ),
    GraphNode(
        "crosstalk",
        ("gain",),
        24.0,
        (*HARDWARE, "acquisition.exposure_s", "acquisition.crosstalk_repeats"),
        ("calibration.fit.crosstalk_forms", "calibration.fit.channel", "calibration.frames.probes"),
    ),
    GraphNode(
        "couplings",
        ("crosstalk",),
        24.0,
        (*HARDWARE, "acquisition.exposure_s"),
        ("calibration.fit.couplings", "calibration.frames.probes"),
    ),
    GraphNode(
        "validation", ("couplings",), None, ("limits",), ("calibration.judge.validation", "calibration.fit.bad_frames")
    ),
    GraphNode("export", ("validation",), None, ("calibration",), ("calibration.machine.artefact",)),
)


@dataclass(frozen=True)
class NodeStatus:
    """One node now.

    Attributes
    ----------
    name
        Of the node.
    due
        Whether it has to be measured.
    because
        Why it is due, or until when it holds.
    measured, run_id
        When it last came out in spec, and in which run; None where it never has.
    age_h
        Since then [h].
    """

    name: str
    due: bool
    because: str
    measured: str | None = None
    run_id: str | None = None
    age_h: float | None = None


@dataclass(frozen=True)
class _Result:
    """The last result of a node, and the station and the code that it came from."""

    run_id: str
    at: dt.datetime
    failed: str
    values: Mapping[str, Any]
    sources: Mapping[str, str]


def statuses(runs: Path, loaded: LoadedStation, now: dt.datetime | None = None) -> list[NodeStatus]:
    """Every node of the bench, in the order of the graph."""
    now = now or dt.datetime.now(dt.UTC)
    results = _results(runs, loaded.station.bench.name)
    values, sources = loaded.values(), source_hashes()
    found: dict[str, NodeStatus] = {}
    for node in GRAPH:
        last = results.get(node.name)
        why = _why_due(node, last, found, results, values, sources, now)
        until = None if last is None or node.max_age_h is None else last.at + dt.timedelta(hours=node.max_age_h)
        found[node.name] = NodeStatus(
            node.name,
            bool(why),
            why or (f"valid until {until:%Y-%m-%d %H:%M} UTC" if until else ""),
            last.at.isoformat() if last else None,
            last.run_id if last else None,
            round((now - last.at).total_seconds() / 3600, 3) if last else None,
        )
    return list(found.values())


def _why_due(
    node: GraphNode,
    last: _Result | None,
    found: Mapping[str, NodeStatus],
    results: Mapping[str, _Result],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
    now: dt.datetime,
) -> str:
    """The first reason that holds; empty while the node does."""
    if last is None:
        return "never measured"
    if last.failed:
        return f"{last.failed} in {_short(last.run_id)}"
    if node.max_age_h is None:
        return "measured in every run"
    age_h = (now - last.at).total_seconds() / 3600
    if age_h > node.max_age_h:
        return f"{age_h:.1f} h old, holds for {node.max_age_h:g} h"
    changed = sorted(
        key
        for key in {*values, *last.values}
        if any(key == k or key.startswith(f"{k}.") for k in node.keys) and values.get(key) != last.values.get(key)
    )
    if changed:
        return f"station changed: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}"
    modules = [name for name in node.modules if last.sources.get(name) != sources.get(name)]
    if modules:
        return f"code changed: {', '.join(modules)}"
    for parent in node.parents:
        if found[parent].due:
            return f"parent {parent} is due"
        if results[parent].at > last.at:
            return f"parent {parent} was measured again since"
    return ""


def _results(runs: Path, bench: str) -> dict[str, _Result]:
    """The last result of each node, from the newest runs of the bench."""
    results: dict[str, _Result] = {}
    for reader in _runs_of(runs, bench):
        summary = reader.summary()
        if summary is None or summary.started is None:
            continue
        values: Mapping[str, Any] | None = None
        for node in summary.nodes:
            if node.name in results or node.state not in ("done", "failed"):
                continue
            if values is None:
                values, sources = reader.station().values(), _sources(reader.path)
            bad = node.check in ("out_of_spec", "bad_data") or node.state == "failed"
            failed = f"{(node.check or 'failed').replace('_', ' ')}" if bad else ""
            results[node.name] = _Result(reader.run_id, summary.started, failed, values, sources)
    return results


def _runs_of(runs: Path, bench: str) -> Iterator[RunReader]:
    """Sealed runs of the bench, newest first; what cannot be read says nothing."""
    rows = [row for row in list_runs(runs) if row.bench == bench and row.finished]
    for row in rows[:MAX_RUNS]:
        try:
            reader = RunReader(row.path)
            reader.summary(), reader.station()
        except LabError:
            continue
        yield reader


def _sources(folder: Path) -> Mapping[str, str]:
    try:
        found = json.loads((folder / "code.json").read_bytes()).get("sources")
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _short(run_id: str) -> str:
    return run_id.rpartition("-")[2]
