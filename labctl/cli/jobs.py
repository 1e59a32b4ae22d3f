"""What bench commands do inside a run: the same whether the run is new or goes on after an interruption."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from groundwork.opening.regular import read_regular
from labctl.errors import RunChanged, RunDamaged, RunNotFound, UsageError
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.archive import RunReader
    from labctl.engine.budget import Budget
    from labctl.engine.session import Session
    from labctl.engine.walk import Walk
    from labctl.workload import Workload

log = logging.getLogger("labctl.report")

Job = Mapping[str, Any]
Work = Callable[["Session"], Path | None]


def calibrate(job: Job) -> Work:
    """Take the nodes that the job lists, and report."""
    from labctl.engine.policy import from_json

    legs = from_json(job["legs"])

    def work(session: Session) -> Path | None:
        return report(session, session.walk(legs, _workload(session)))

    return work


def demo(job: Job) -> Work:
    """Sample products, take the nodes, simulate the whole model with what came out, and report."""
    from calibration.machine.artefact import Calibration
    from labctl.engine.analyst import photons_per_mac
    from labctl.engine.policy import from_json
    from labctl.studies.demo import DemoModel
    from labctl.workload import WORKLOAD

    _require_same_files(job)
    model, legs, seed = DemoModel.of(job), from_json(job["legs"]), int(job["seed"])

    def work(session: Session) -> Path | None:
        if _workload(session) is None:
            with session.ledger.node("sample"):
                model.sample(session.run.path / WORKLOAD, int(job["per_stratum"]), seed)
        walk = session.walk(legs, _workload(session))
        calibration = walk.results.one(Calibration)
        if calibration is not None:
            parts = model.parts(calibration)
            with session.ledger.node("simulation"), session.lab.console.progress("simulating", parts) as bar:
                photons = walk.analyst.ask(photons_per_mac)
                found = model.simulate(calibration, photons, seed, bar.advance)
            session.add(simulation=found)
        return report(session, walk)

    return work


def file_hashes(model: Path | None, text: Path | None) -> dict[str, str]:
    """``"model"``, ``"text"`` → SHA-256 of the file, for what a job reads from the user's own files."""
    given = {"model": model, "text": text}
    return {name: _sha256(path) for name, path in given.items() if path is not None and path.is_file()}


def _require_same_files(job: Job) -> None:
    """Refuse to go on with another model or text of the same name: the products are those of the first one."""
    for name, expected in (job.get("sha256") or {}).items():
        path = Path(str(job.get(name)))
        seen = _sha256(path) if path.is_file() else "no such file"
        if seen != expected:
            raise RunChanged(
                f"the {name} is not the one that the run began with",
                device=str(path),
                action="going on",
                expected=f"SHA-256 {expected}",
                seen=seen,
                safe="no device was opened",
                hint="put the file of then back, or begin again: labctl demo",
            )


def _sha256(path: Path) -> str:
    from labctl.archive.atomic import storage

    with storage(path, "reading it"):
        return hashlib.sha256(read_regular(path)).hexdigest()


def report(session: Session, walk: Walk) -> Path | None:
    """Write the report of the run; None where that fails, which changes nothing of what was measured."""
    from labctl.archive.seal import REPORT
    from labctl.archive.space import drop_reserve
    from labctl.report import write_report

    said = session.lab.console.options
    draw = partial(write_report, session.run.path / REPORT, session.run.path, session.summary, options=said)
    started_s = time.monotonic()
    try:
        path = walk.analyst.ask(draw)
        session.add_artifact(path)
    except Exception as error:
        drop_reserve(session.run.path)  # on a full disk, what follows needs it
        log.exception("no report was written")
        session.ledger.skip("report", f"not written: {getattr(error, 'what', error)}")
        again = f"labctl report {session.run.run_id.rpartition('-')[2]}"
        session.lab.console.warn(f"warning: no report was written: {error}   ·   again: {again}")
        return None
    with session.ledger.node("report", started_s):
        return path


def nightly(job: Job) -> Work:
    """Take the nodes of a night, see where the control charts stand with it, and report."""
    from labctl.engine.policy import from_json

    legs = from_json(job["legs"])

    def work(session: Session) -> Path | None:
        walk = session.walk(legs, _workload(session))
        _chart(session)
        return report(session, walk)

    return work


def _chart(session: Session) -> None:
    """Where the control charts stand with this night; what is wrong with them changes nothing of what was measured."""
    from labctl.night.charts import charts

    try:
        found = charts(session.runs, session.station.bench.name, session.summary)
    except Exception as error:
        log.exception("no control chart was computed")
        session.ledger.skip("drift", f"not computed: {getattr(error, 'what', error)}")
        session.lab.console.warn(f"warning: no control chart was computed: {error}   ·   look: labctl drift show")
        return
    session.add(drift=[chart.state() for chart in found])


JOBS: dict[str, Callable[[Job], Work]] = {
    "calibrate": calibrate,
    "measure": calibrate,
    "demo": demo,
    "nightly": nightly,
}
"""By the purpose of a run: what can be refused is refused when the work is made, before there is a run."""


def finish(lab: Lab, session: Session, work: Work, *, strict: bool = False) -> int:
    """Do the work in an open session, seal the run, and say how it ended; ``strict`` as `Session.conclude` takes it."""
    page = work(session)
    return conclude(lab, session.conclude(strict=strict), page)


def resume(lab: Lab, folder: Path, budget: Budget | None = None, wait_s: float = 0.0) -> int:
    """Go on with an interrupted run.

    Parameters
    ----------
    budget
        The time that there is; as much as it takes if omitted.
    wait_s
        How long to wait for a process that holds the bench.

    Raises
    ------
    UsageError
        When the run is of a kind that does not go on.
    RunDamaged
        When its folder does not say what the run was to do, or lacks what it was to show.
    RunNotFound
        When the folder lies in no archive: there is no place for what comes out.
    """
    from labctl.archive import RunReader
    from labctl.engine.session import resumed_session

    reader = RunReader(folder)
    info = _whole(reader)
    purpose, job = str(info["purpose"]), info.get("job")
    if purpose not in JOBS or not job:
        raise UsageError(
            f"a run of labctl {purpose} does not go on",
            device=folder.name,
            expected=f"a run of {', '.join(JOBS)}, begun by this version or a later one",
            hint=f"begin again: labctl {purpose}",
        )
    work = _work_of(purpose, job, folder)
    runs = _archive_for(folder)
    with _ending_of(lab, reader, runs) as is_owed, resumed_session(lab, folder, runs, budget, wait_s) as session:
        is_owed(folder)
        return finish(lab, session, work, strict=bool(job.get("strict")))


@contextmanager
def _ending_of(lab: Lab, reader: RunReader, runs: Path) -> Iterator[Callable[[Path], None]]:
    """A night that goes on has an ending, too; to be told when it does."""
    from labctl.night.charts import PURPOSE
    from labctl.night.ending import ending_of_resumed

    if reader.info["purpose"] != PURPOSE:
        yield lambda run: None
        return
    with ending_of_resumed(lab, reader.station(), runs, reader.path) as ending:
        yield ending.is_owed


def _whole(reader: RunReader) -> Mapping[str, Any]:
    """``run.json`` of a run that can go on, as far as its keys say."""
    info = reader.info
    try:
        dt.datetime.fromisoformat(info["started"])
        float(info.get("clock_epoch_s") or 0)
        str(info["purpose"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(reader.path, f"{type(error).__name__}: {error}") from error
    if not isinstance(info.get("job") or {}, Mapping):
        raise _damaged(reader.path, f"job: {info['job']!r}")
    return info


_JOB_TYPES: dict[str, type | UnionType] = {
    "legs": list,
    "per_stratum": int,
    "seed": int,
    "model": str | None,
    "text": str | None,
    "sha256": dict,
    "strict": bool,
}


def _work_of(purpose: str, job: Job, folder: Path) -> Work:
    """The work of a run that goes on, once all that it needs is there."""
    from labctl.engine.policy import from_json
    from labctl.nodes.registry import shows_products
    from labctl.workload import WORKLOAD, read_workload

    missing = [key for key in ("legs", *(("per_stratum", "seed") if purpose == "demo" else ())) if key not in job]
    if missing:
        raise _damaged(folder, f"job without {', '.join(missing)}")
    for key, kind in _JOB_TYPES.items():
        if key in job and not isinstance(job[key], kind):
            raise _damaged(folder, f"job.{key}: {job[key]!r}")
    shown = shows_products(leg.node for leg in from_json(job["legs"]))
    if (folder / WORKLOAD).exists():
        read_workload(folder / WORKLOAD)
    elif shown and purpose != "demo":  # which samples its products itself
        raise RunDamaged(
            f"{WORKLOAD} is missing",
            device=folder.name,
            action="going on",
            expected="the products that the run was to show",
            safe="no device was opened",
            hint=f"copy the workload to {folder / WORKLOAD}, or begin again",
        )
    return JOBS[purpose](job)


def _damaged(folder: Path, seen: str) -> RunDamaged:
    return RunDamaged(
        "run.json does not say what the run was to do",
        device=folder.name,
        action="going on",
        expected="started, purpose, and a job with its legs",
        seen=seen,
        safe="no device was opened",
        hint="restore run.json from a copy, or begin again",
    )


def archive_of(folder: Path) -> Path | None:
    """The archive that a run folder lies in, ``ARCHIVE/YYYY/MM/DD/ID``; None where it lies elsewhere."""
    from labctl.archive.ids import is_run_id, run_folder

    if not is_run_id(folder.name) or len(folder.parents) < 4:
        return None
    archive = folder.parents[3]
    return archive if run_folder(archive, folder.name) == folder else None


def _archive_for(folder: Path) -> Path:
    """Where what a run brings out goes: into the archive that it lies in, whatever the current folder is."""
    archive = archive_of(folder)
    if archive is None:
        raise RunNotFound(
            "the run lies in no archive, so that its calibration has no place",
            device=str(folder),
            expected="RUNS/YYYY/MM/DD/ID",
            safe="no device was opened",
            hint="put the folder where it was",
        )
    return archive


def _workload(session: Session) -> Workload | None:
    """What the run shows; None where it has no workload, or none yet."""
    from labctl.workload import WORKLOAD, read_workload

    path = session.run.path / WORKLOAD
    return read_workload(path) if path.exists() else None


def conclude(lab: Lab, summary: object, page: Path | None = None) -> int:
    """The last lines of a command, or its one document."""
    from labctl.report.outcome import closing_lines
    from labctl.summary import Summary

    assert isinstance(summary, Summary)
    lab.console.result(summary, closing_lines(summary, page, lab.console.width))
    return summary.exit_code or 0
