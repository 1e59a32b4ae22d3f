"""A run folder as a `Record`: what was measured, with the bench's settings before and after, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.opening.json_text import read_json
from groundwork.opening.regular import read_regular
from labctl.archive.atomic import storage
from labctl.archive.reader import RunReader, read_code_json
from labctl.doors.record import Array, Record, Stream, clean, column, described, free_name, plain_name, rows_of, unit_of
from labctl.doors.segments import Segments
from labctl.errors import RunDamaged
from labctl.summary import Metric, Node, Summary
from labctl.verdicts import COMPLETE, VERDICTS, Verdict

SNAPSHOTS = ("snapshot-start.json", "snapshot-end.json")
_TEXTS = ("config.toml", "code.json", "summary.json", "journal.jsonl")
_STOPPED = frozenset({Verdict.ABORTED, Verdict.PARTIAL})
NOT_HELD = {
    "report.html": "the report and its figures",
    "log.jsonl": "the log",
    "workload.h5": "the operands of workload.h5",
    "preview.npz": "preview.npz",
}
"""Files of a run that no door hands on, and what they are called."""


def record_of_run(run: RunReader) -> Record:
    """Everything that a run folder holds of its measurement.

    Raises
    ------
    RunInUse
        When it is still being measured.
    RunDamaged
        When something in it was altered, is missing, or cannot be read.
    """
    run.require_ended()
    run.require_as_sealed(*_TEXTS, *SNAPSHOTS)
    run.require_manifest_as_sealed()
    run.require_segments_as_journalled()
    try:
        return _record(run)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunDamaged(
            "what the run holds does not fit together",
            device=run.run_id,
            action="reading it for another system",
            seen=f"{type(error).__name__}: {error}",
            hint=f"labctl run verify {run.run_id.rpartition('-')[2]}",
        ) from error


def outcome_of(run: RunReader) -> tuple[str, str]:
    """``success``, ``abort`` or ``fail``, and why: success is for what was measured whole, be it in spec or not."""
    verdict = Verdict(run.status)
    meaning = next(row.meaning for row in VERDICTS if row.verdict is verdict)
    outcome = "success" if verdict in COMPLETE else "abort" if verdict in _STOPPED else "fail"
    return outcome, f"{verdict}: {meaning}"


def _record(run: RunReader) -> Record:
    summary, outcome, reason = run.summary(), *outcome_of(run)
    started_s = _epoch_s(run.info["started"])
    segments = list(Segments(run).streams())
    finished = run.info.get("finished") or (run.seal.finished if run.seal else None)
    ended_s = _epoch_s(finished) if finished else _last_s(segments, started_s)
    taken: set[str] = {stream.name for stream in segments}
    results = [] if summary is None else list(_results(summary, ended_s, taken))
    return Record(
        run.run_id,
        clean(f"{run.info.get('purpose', 'run')} on {run.info.get('bench', 'a bench')}"),
        clean(str(run.info.get("bench", ""))),
        clean(_about(run, summary)),
        started_s,
        ended_s,
        outcome,
        reason,
        [*_baseline(run), *segments, *results],
        {name: _text(run.path / name) for name in _TEXTS if (run.path / name).exists()},
        tuple(words for name, words in NOT_HELD.items() if (run.path / name).exists()),
    )


def _about(run: RunReader, summary: Summary | None) -> dict[str, Any]:
    code = read_code_json(run.path) if (run.path / "code.json").exists() else {}
    found = summary.calibration if summary else None
    return {
        "run_id": run.run_id,
        "purpose": str(run.info.get("purpose", "")),
        "bench": str(run.info.get("bench", "")),
        "mode": str(run.info.get("mode", "")),
        "verdict": run.status,
        "sealed": run.seal is not None,
        "seal_digest": run.seal.digest if run.seal else "",
        "config_sha256": str(run.info.get("config_sha256", "")),
        "calibration_id": found.id if found else "",
        "calibration_parent": str((found.parent if found else run.info.get("calibration_parent")) or ""),
        "software": {
            "name": "labctl",
            "version": code.get("labctl") or "",
            "commit": (code.get("git") or {}).get("commit") or "",
            "python": code.get("python") or "",
            "packages": [f"{name} {version}" for name, version in (code.get("packages") or {}).items() if version],
        },
        "folder": str(run.path.resolve()),
    }


def _baseline(run: RunReader) -> Iterator[Stream]:
    """The devices' settings as read back before and after, one row each."""
    found = [
        (_epoch_s(document["at"]), document["devices"])
        for name in SNAPSHOTS
        if (run.path / name).exists() and isinstance(document := _json(run.path / name), dict)
    ]
    if not found:
        return
    flat = [dict(_leaves(devices)) for _, devices in found]
    names = dict.fromkeys(name for row in flat for name in row)
    arrays: dict[str, Array] = {}
    fields = {}
    for path in names:
        name = free_name("_".join(path), arrays)
        arrays[name] = column([row.get(path) for row in flat])
        unit = next((unit for part in reversed(path) if (unit := unit_of(part)) != "1"), "1")
        fields[name] = described(arrays[name], unit=unit)
    times = np.array([at_s for at_s, _ in found])
    station = run.station().station
    about = {"roles": {plain_name(name): station.devices.role(name) for name in sorted({path[0] for path in names})}}
    yield rows_of("baseline", "settings of the devices, as read back", "look", arrays, fields, times, about=about)


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value below a mapping, with the keys that lead to it; those of identity and settings are left out."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            skipped = len(path) == 1 and key in ("identity", "settings")
            yield from _leaves(inner, path if skipped and isinstance(inner, Mapping) else (*path, str(key)))
    else:
        yield path, value


def _results(summary: Summary, ended_s: float, taken: set[str]) -> Iterator[Stream]:
    """What each node has found: one row, with each metric, its error, its limit, and whether it is in spec."""
    for node in summary.nodes:
        values: dict[str, tuple[Any, str, str | None]] = {
            "state": (node.state, "", None),
            "check": (node.check or "", "", None),
            "reason": (node.reason, "", None),
            "duration_s": (float("nan") if node.duration_s is None else node.duration_s, "s", None),
        }
        for metric in node.metrics:
            values |= _of_metric(metric)
        arrays = {name: column([value]) for name, (value, _, _) in values.items()}
        fields = {n: described(arrays[n], unit=unit, stderr=stderr) for n, (_, unit, stderr) in values.items()}
        name = free_name(f"result_{node.name}", taken)
        taken.add(name)
        yield rows_of(
            name, f"what the node {node.name} has found", "", arrays, fields, np.array([_node_s(node, ended_s)])
        )


def _of_metric(metric: Metric) -> dict[str, tuple[Any, str, str | None]]:
    """Columns of a metric: value, unit, and the column of its standard error."""
    name, unit = plain_name(metric.name), metric.unit or "1"
    value = float("nan") if metric.value is None else metric.value
    found: dict[str, tuple[Any, str, str | None]] = {name: (value, unit, None)}
    if metric.stderr is not None:
        found = {name: (value, unit, f"{name}_stderr"), f"{name}_stderr": (metric.stderr, unit, None)}
    if metric.limit is not None:
        for end in ("min", "max"):
            if (limit := getattr(metric.limit, end)) is not None:
                found[f"{name}_limit_{end}"] = (float(limit), unit, None)
        found[f"{name}_verdict"] = (str(metric.verdict), "", None)
    return found


def _node_s(node: Node, ended_s: float) -> float:
    return ended_s if node.at is None else node.at.timestamp()


def _last_s(streams: list[Stream], started_s: float) -> float:
    """When a run that wrote no end was last heard of."""
    listed = next((stream for stream in streams if stream.row == "segment"), None)
    return max([started_s, *(float(part.time_s.max()) for part in (listed.parts() if listed else ()))])


def _epoch_s(at: Any) -> float:
    return datetime.fromisoformat(str(at)).timestamp()


def _json(path: Path) -> Any:
    try:
        with storage(path, "reading"):
            return read_json(path)
    except ValueError as error:
        raise RunDamaged(f"{path.name} cannot be read", device=str(path), expected="JSON", seen=str(error)) from error


def _text(path: Path) -> str:
    with storage(path, "reading"):
        return str(clean(read_regular(path).decode(errors="replace")))
