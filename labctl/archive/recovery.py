"""Runs that died: without a seal, and nobody writes them. They are settled, checked, and sealed as ``crashed``."""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from groundwork.opening.json_text import read_json
from labctl.archive import lock as run_lock
from labctl.archive.atomic import atomic_write_json
from labctl.archive.ids import is_run_id
from labctl.archive.index import list_runs
from labctl.archive.progress import read_progress
from labctl.archive.reader import JOURNAL, RunReader
from labctl.archive.run import RunWriter
from labctl.archive.seal import SEAL, SEGMENTS, verify_run
from labctl.clock import utc_now
from labctl.errors import LabError, RunDamaged, RunInUse, Stalled
from labctl.locks import lock_of_run
from labctl.summary import Counts, FirstError, Node, Summary
from labctl.verdicts import COMPLETE, Verdict

_OF_A_NODE = ("measuring", "suspended in", "fitting")
_DOING = {
    "opening": "opening its devices",
    "measuring": "measuring",
    "suspended": "suspended in",
    "fitting": "fitting",
    "closing": "closing its devices",
}
BEGINNING_S = 60.0
"""A folder without ``run.json`` that was touched since then may be that of a run that just begins [s]."""
log = logging.getLogger(__name__)

_OF_RUNS = ("run.json", JOURNAL, SEGMENTS, SEAL)
"""What no folder has in which there is no run yet."""
DAMAGED = "damaged.json"
"""In the archive: dead runs that cannot be sealed as they are."""


@dataclass(frozen=True)
class Recovered:
    """What `recover` found of one run.

    Attributes
    ----------
    status
        The verdict that it is sealed with now.
    changed
        Whether it was sealed here, rather than before.
    journalled, recovered
        Blocks that the journal lists, and how many of them are whole on the disk. A block that was written and not yet
        journalled counts among neither.
    resume
        The command that goes on with it; empty where nothing can go on.
    """

    run_id: str
    bench: str
    status: str
    changed: bool
    journalled: int = 0
    recovered: int = 0
    resume: str = ""


def recover(folder: Path) -> Recovered:
    """Seal a run whose process is gone as ``crashed``; a sealed one is left as it is.

    Torn lines and blocks that no manifest lists are dropped, as resuming drops them. Then every block is hashed.

    Raises
    ------
    RunInUse
        When a process writes it.
    RunDamaged
        When a block is missing or altered, or no summary can be made of the journal: nothing is changed then.
    """
    reader = RunReader(folder)
    bench = _bench_of(reader)
    if reader.seal is not None:
        left = "" if reader.seal.verdict in COMPLETE else _resume(reader)
        return Recovered(reader.run_id, bench, reader.status, changed=False, resume=left)
    if reader.status != "running":
        verify_run(folder).raise_if_damaged()  # before anything is changed
    summary = reached(reader).model_copy(update={"first_error": death_of(reader)})
    with RunWriter.resume(folder, event="recovering") as run:
        whole = {row.file for row in run.segments.rows}
        journalled = {line["file"] for line in reader.journal() if line.get("event") in ("segment", "adopted")}
        run.finish(Verdict.CRASHED, summary)
    return Recovered(
        reader.run_id, bench, str(Verdict.CRASHED), True, len(journalled), len(journalled & whole), _resume(reader)
    )


def _bench_of(reader: RunReader) -> str:
    if not isinstance(bench := reader.info.get("bench"), str):
        raise RunDamaged(
            "run.json names no bench", device=str(reader.path), action="recovering", hint="restore run.json from a copy"
        )
    return bench


def death_of(reader: RunReader) -> FirstError:
    """How a run died, as far as what it left behind says so, and what to do about it."""
    at = read_progress(reader.path) or {}
    node, doing = str(at.get("node") or ""), _DOING.get(str(at.get("state")), "")
    while_ = f" while {doing}{f' {node}' if node and doing in _OF_A_NODE else ''}" if doing else ""
    return FirstError(
        code=Stalled.code,
        message=f"killed with its supervisor{while_}",
        device=str(reader.info.get("bench") or ""),
        safe="what was sealed is intact; the light may have been left on: look",
        hint=_resume(reader),
    )


def remove_unbegun(runs: Path) -> None:
    """Remove folders whose process died before there was a run in them: they have a lock, and no ``run.json``.

    One that holds anything which only a run has, has lost its ``run.json`` in another way: it stays.
    """
    for lock in runs.glob(str(lock_of_run(Path("*/*/*/*")))):
        folder = lock.parent
        holds_a_run = any(os.path.lexists(folder / name) for name in _OF_RUNS)
        if not is_run_id(folder.name) or holds_a_run or run_lock.is_held(folder):
            continue
        with suppress(OSError):
            if utc_now().timestamp() - folder.stat().st_mtime > BEGINNING_S:
                shutil.rmtree(folder)


def settle_crashed(runs: Path, bench: str) -> list[Recovered]:
    """`recover` every run of a bench that died; one that cannot be recovered is logged, and is nobody's obstacle.

    What was found damaged is not hashed again before one of its files changes: ``RUNS/damaged.json`` remembers it.
    """
    remove_unbegun(runs)
    settled, seen = [], _damaged(runs)
    known = dict(seen)
    for row in list_runs(runs):
        if row.bench != bench or row.status != Verdict.CRASHED or row.finished is not None:
            continue
        state = _state_of(row.path)
        if known.get(row.run_id, {}).get("state") != state:
            known.pop(row.run_id, None)
            try:
                settled.append(recover(row.path))
            except RunInUse:
                continue
            except RunDamaged as error:
                known[row.run_id] = {"state": state, "why": str(error)}
            except LabError as error:
                log.warning("%s died and cannot be sealed: %s", row.run_id, error)
            else:
                log.warning("%s had died; it is sealed as crashed now", row.run_id)
        if row.run_id in known:
            log.warning("%s died and cannot be sealed: %s", row.run_id, known[row.run_id]["why"])
    if known != seen:
        with suppress(LabError):  # it costs time, and nothing else
            atomic_write_json(runs / DAMAGED, known)
    return settled


def _damaged(runs: Path) -> dict[str, dict[str, str]]:
    """Run → what its files were like when it was found damaged, and why; empty where nothing good is noted."""
    try:
        noted = read_json(runs / DAMAGED)
        return {str(run): {"state": str(row["state"]), "why": str(row["why"])} for run, row in noted.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _state_of(folder: Path) -> str:
    """Changes with any file of a run, without reading one; but not with its lock, which looking at it touches."""
    lock = lock_of_run(folder)
    states = [path.stat() for path in sorted(folder.rglob("*")) if path != lock and path.is_file()]
    newest = max((state.st_mtime_ns for state in states), default=0)
    return f"{len(states)} files, {sum(state.st_size for state in states)} bytes, {newest}"


def reached(reader: RunReader) -> Summary:
    """The summary of a run that ended without one: the nodes are those that its journal lists, each as it was last.

    Raises
    ------
    RunDamaged
        When ``run.json`` or the journal does not hold what each run's does.
    """
    try:
        return _reached(reader, reader.journal())
    except (KeyError, TypeError, ValueError) as error:
        raise RunDamaged(
            "no summary can be made of run.json and the journal", device=str(reader.path), seen=repr(error)
        ) from error


def _reached(reader: RunReader, lines: list[dict[str, Any]]) -> Summary:
    events = {line["name"]: line for line in lines if line.get("event") == "node"}
    nodes = [Node(**{key: v for key, v in line.items() if key in Node.model_fields}) for line in events.values()]
    return Summary(
        run_id=reader.run_id,
        bench=reader.info["bench"],
        mode=reader.info["mode"],
        verdict=Verdict.CRASHED,
        started=datetime.fromisoformat(reader.info["started"]),
        finished=datetime.fromisoformat(lines[-1]["at"]) if lines else None,
        nodes=nodes,
        counts=Counts(**reader.info["counts"]),
    )


def _resume(reader: RunReader) -> str:
    return f"labctl run resume {reader.run_id.rpartition('-')[2]}" if reader.info.get("job") else ""
