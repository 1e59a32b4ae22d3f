"""What bench commands do inside a run: the same whether the run is new or goes on after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.errors import UsageError
from labctl.lab import Lab

if TYPE_CHECKING:
    from labctl.engine.session import Session
    from labctl.engine.walk import Walk
    from labctl.workload import Workload

Job = Mapping[str, Any]
Work = Callable[["Session"], Path]


def calibrate(job: Job) -> Work:
    """Take the nodes that the job lists, and report."""
    from labctl.engine.policy import from_json

    legs = from_json(job["legs"])

    def work(session: Session) -> Path:
        return report(session, session.walk(legs, _workload(session)))

    return work


def demo(job: Job) -> Work:
    """Sample products, take the nodes, simulate the whole model with what came out, and report."""
    from calibration.machine.artefact import Calibration
    from labctl.engine.policy import from_json
    from labctl.studies.demo import DemoModel

    model, legs, seed = DemoModel.of(job), from_json(job["legs"]), int(job["seed"])

    def work(session: Session) -> Path:
        if _workload(session) is None:
            with session.ledger.node("sample"):
                model.sample(session.run.path, int(job["per_stratum"]), seed)
        walk = session.walk(legs, _workload(session))
        calibration = walk.results.one(Calibration)
        if calibration is not None:
            with session.ledger.node("simulation"), session.lab.console.progress("simulating", model.passes) as bar:
                tiles = [tile for tile, _ in walk.evidence.tiles]
                found = model.simulate(calibration, tiles, session.station, seed, bar.advance)
            session.add(simulation=found)
        return report(session, walk)

    return work


def report(session: Session, walk: Walk) -> Path:
    """Write the report of the run."""
    from labctl.report import write_report
    from labctl.report.again import REPORT

    with session.ledger.node("report"):
        path = write_report(session.run.path / REPORT, session.run.path, session.summary, walk)
    session.add_artifact(path)
    return path


JOBS: dict[str, Callable[[Job], Work]] = {"calibrate": calibrate, "measure": calibrate, "demo": demo}
"""By the purpose of a run: what can be refused is refused when the work is made, before there is a run."""


def finish(lab: Lab, session: Session, work: Work) -> int:
    """Do the work in an open session, seal the run, and say how it ended."""
    page = work(session)
    return conclude(lab, session.conclude(), page)


def resume(lab: Lab, folder: Path, runs: Path) -> int:
    """Go on with an interrupted run.

    Raises
    ------
    UsageError
        When the run is of a kind that does not go on.
    """
    from labctl.archive import RunReader
    from labctl.engine.session import resumed_session

    info = RunReader(folder).info
    purpose, job = str(info["purpose"]), info.get("job")
    if purpose not in JOBS or not job:
        raise UsageError(
            f"a run of labctl {purpose} does not go on",
            device=folder.name,
            expected=f"a run of {', '.join(JOBS)}, begun by this version or a later one",
            hint=f"begin again: labctl {purpose}",
        )
    work = JOBS[purpose](job)
    with resumed_session(lab, folder, runs) as session:
        return finish(lab, session, work)


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
    lab.console.result(summary, closing_lines(summary, page))
    return summary.exit_code or 0
