"""Whether the last result of each node of a bench still holds.

A node holds as long as it is young enough, came out in spec, its part of the station and its code are the same, and all
its parents hold and are not younger than it. Everything here is read from run folders; no device is touched.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundwork.opening.json_text import read_json
from labctl.archive import RunReader, list_runs
from labctl.archive.removal import REMOVED
from labctl.archive.seal import SEGMENTS
from labctl.clock import is_future, utc_now
from labctl.engine.code import modules_of, source_hashes
from labctl.errors import LabError
from labctl.nodes.node import Node
from labctl.nodes.registry import BY_DAY
from labctl.station.loading import LoadedStation
from labctl.summary import Node as Passed

MAX_RUNS = 50
"""The newest runs of a bench that are looked at; more only for what these have kept from earlier ones."""
_REMOVED = "readings removed by retention"
HANDLING = ("reset", "reset_timeout_s")
"""Keys of a device that say how it is brought back, not what it is: nothing that was measured depends on them."""


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
        Since then, or since a quick check confirmed it [h].
    aged
        Whether age, its own or that of a parent, is all that makes it due: quick checks may confirm it.
    old
        Whether its own age makes it due.
    until
        When it will be, by its age alone; ISO 8601.
    """

    name: str
    due: bool
    because: str
    measured: str | None = None
    run_id: str | None = None
    age_h: float | None = None
    aged: bool = False
    old: bool = False
    until: str | None = None


@dataclass(frozen=True)
class _Result:
    """The last result of a node, and the station and the code that it came from.

    Attributes
    ----------
    run_id, at
        Where and when it was measured.
    holds, fresh
        The newest run that holds its readings, and when that confirmed the result.
    """

    run_id: str
    at: dt.datetime
    holds: str
    fresh: dt.datetime
    failed: str
    values: Mapping[str, Any]
    sources: Mapping[str, str]


def statuses(
    runs: Path, loaded: LoadedStation, now: dt.datetime | None = None, ahead_h: float = 0.0
) -> list[NodeStatus]:
    """Every node of the bench that is not for nights only, in the order of the graph.

    Parameters
    ----------
    ahead_h
        What will be too old within this time counts as too old [h].
    """
    now = now or utc_now()
    results = _results(runs, loaded.station.bench.name, now)
    values, sources = loaded.values(), source_hashes()
    found: dict[str, NodeStatus] = {}
    for node in BY_DAY:
        last = results.get(node.name)
        if last is None:
            found[node.name] = NodeStatus(node.name, True, "never measured")
            continue
        changed = _why_changed(node, last, found, results, values, sources)
        old = _why_old(node, last, now, ahead_h)
        aged = next((f"parent {p.name} is due" for p in node.parents if found[p.name].aged), "")
        until = _until(node, last, found)
        found[node.name] = NodeStatus(
            node.name,
            bool(changed or old or aged),
            changed or old or aged or (f"valid until {until:%Y-%m-%d %H:%M} UTC" if until else "as old as its parents"),
            last.at.isoformat(),
            last.holds,
            max(0.0, round((now - last.fresh).total_seconds() / 3600, 3)),
            aged=bool(old or aged) and not changed and node.max_age_h is not None,
            old=bool(old),
            until=until.isoformat() if until else None,
        )
    return list(found.values())


def _until(node: Node[Any], last: _Result, found: Mapping[str, NodeStatus]) -> dt.datetime | None:
    """When age will make a node due: its own, or, where it reads nothing, that of what it rests on."""
    if node.max_age_h is None:
        return None
    if node.reads:
        return last.fresh + dt.timedelta(hours=node.max_age_h)
    known = [until for parent in node.parents if (until := found[parent.name].until) is not None]
    return min(map(dt.datetime.fromisoformat, known), default=None)


def changed_keys(keys: Iterable[str], values: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Which of a station's keys are not what they were; how a device is brought back counts for nothing.

    Parameters
    ----------
    keys
        As `Node.keys`.
    values, before
        Dotted key → value, of now and of then.
    """
    named = {name for key in keys for found_in in (values, before) for name in _by_name(key, found_in)}
    return sorted(
        key
        for key in {*values, *before}
        if any(key == k or key.startswith(f"{k}.") for k in named)
        and values.get(key) != before.get(key)
        and not _is_handling(key)
    )


def _why_changed(
    node: Node[Any],
    last: _Result,
    found: Mapping[str, NodeStatus],
    results: Mapping[str, _Result],
    values: Mapping[str, Any],
    sources: Mapping[str, str],
) -> str:
    """The first thing, age left out, that makes an old result void; empty where nothing does."""
    if last.failed:
        return f"{last.failed} in {_short(last.run_id)}"
    if changed := changed_keys(node.keys, values, last.values):
        return f"station changed: {', '.join(changed[:3])}{', …' if len(changed) > 3 else ''}"
    modules = sorted(name for name in modules_of(node) if last.sources.get(name) != sources.get(name))
    if modules:
        return f"code changed: {', '.join(modules[:3])}{', …' if len(modules) > 3 else ''}"
    for parent in node.parents:
        if found[parent.name].due and not found[parent.name].aged:
            return f"parent {parent.name} is due"
        if results[parent.name].at > last.at and results[parent.name].run_id != last.run_id:
            return f"parent {parent.name} was measured again since"
    return ""


def _is_handling(key: str) -> bool:
    table, *rest = key.split(".")
    return table == "devices" and len(rest) == 2 and rest[1] in HANDLING


def _by_name(key: str, values: Mapping[str, Any]) -> list[str]:
    """A key of the station; ``devices.ROLE`` as the keys of the devices that fill the role."""
    table, _, role = key.partition(".")
    if table != "devices" or not role:
        return [key]
    return [name.removesuffix(".role") for name, value in values.items() if name.endswith(".role") and value == role]


def _why_old(node: Node[Any], last: _Result, now: dt.datetime, ahead_h: float) -> str:
    if node.max_age_h is None:
        return "measured in every run"
    if not node.reads:
        return ""
    age_h = (now - last.fresh).total_seconds() / 3600
    if age_h + ahead_h <= node.max_age_h:
        return ""
    more = "" if age_h > node.max_age_h else f", not {ahead_h:g} h more"
    return f"{age_h:.1f} h old, holds for {node.max_age_h:g} h{more}"


def _results(runs: Path, bench: str, now: dt.datetime) -> dict[str, _Result]:
    """The last result of each node: the one measured last, whenever its run began.

    What claims to have been measured in the future says nothing: some clock was wrong.
    """
    results: dict[str, _Result] = {}
    confirmed: dict[str, tuple[dt.datetime, str]] = {}
    rests_on: set[str] = set()
    for number, reader in enumerate(runs_of(runs, bench, None)):
        if number >= MAX_RUNS and rests_on <= results.keys():
            break
        summary = reader.summary()
        if summary is None or summary.started is None:
            continue
        removed = (reader.path / REMOVED).exists()
        if not removed and not _is_there(reader):
            continue
        values, sources = reader.station().values(), _sources(reader.path)
        for node in summary.nodes:
            at = node.at or summary.started
            if is_future(at, now):
                continue
            if node.state in ("kept", "checked"):
                rests_on.add(node.name)
            if node.state == "checked":
                if removed:
                    continue
                confirmed[node.name] = max(confirmed.get(node.name, (at, "")), (at, reader.run_id))
            elif _says_something(node) and (node.name not in results or at > results[node.name].at):
                failed = str(node.check).replace("_", " ") if node.check in ("out_of_spec", "bad_data") else ""
                failed = failed or (_REMOVED if removed else "")
                results[node.name] = _Result(reader.run_id, at, reader.run_id, at, failed, values, sources)
    for name, (at, run_id) in confirmed.items():
        if name in results and at > results[name].at:
            failed = results[name].failed.removeprefix(_REMOVED)  # the run that confirmed it holds them too
            results[name] = replace(results[name], holds=run_id, fresh=at, failed=failed)
    return results


def _says_something(node: Passed) -> bool:
    """Whether the node was measured; one that a device or an interlock stopped leaves the earlier result as it was."""
    return node.state == "done" or (node.state == "failed" and node.check == "bad_data")


def _is_there(reader: RunReader) -> bool:
    """Whether the files of a run's segments are all there, by name and size; their hashes are checked on reading."""
    folder = reader.path / SEGMENTS
    try:
        return all((folder / row.file).stat().st_size == row.bytes for row in reader.manifest)
    except (OSError, LabError):
        return False


def runs_of(runs: Path, bench: str, most: int | None = MAX_RUNS) -> Iterator[RunReader]:
    """Sealed runs of the bench, newest first, at most so many; what cannot be read says nothing."""
    rows = [row for row in list_runs(runs) if row.bench == bench and row.finished]
    for row in rows[:most]:
        try:
            reader = RunReader(row.path)
            reader.summary(), reader.station()
        except LabError:
            continue
        yield reader


def _sources(folder: Path) -> Mapping[str, str]:
    try:
        found = read_json(folder / "code.json").get("sources")
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _short(run_id: str) -> str:
    return run_id.rpartition("-")[2]
