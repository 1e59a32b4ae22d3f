"""One run from the first frame to the verdict. What has been read is sealed whatever happens after it."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from calibration.machine.artefact import Calibration, save
from drivers.registry import find_backend
from groundwork.opening.regular import read_regular
from labctl.archive import RunReader, RunWriter
from labctl.archive.calibrations import CalibrationStore, Decision
from labctl.archive.ids import by_age
from labctl.archive.reader import RunInfo, read_code_json, read_run_json
from labctl.archive.recovery import settle_crashed
from labctl.archive.space import require_space
from labctl.bench.acquirer import Acquirer, uncounted
from labctl.bench.bench import open_bench
from labctl.bench.steps import Step
from labctl.clock import utc_now
from labctl.console import PLAIN_EVERY_S
from labctl.engine import supervisor
from labctl.engine.analyst import Analyst, Here
from labctl.engine.apart import analysts
from labctl.engine.budget import Budget
from labctl.engine.code import source_hashes
from labctl.engine.events import device_events
from labctl.engine.gate import Gate, judge_found, settle_decisions
from labctl.engine.holding import devices_in_use, holding
from labctl.engine.keeping import KeepingWalk, look_back
from labctl.engine.ledger import Ledger
from labctl.engine.node_line import line_of
from labctl.engine.onlooker import Onlooker
from labctl.engine.pace import Pace
from labctl.engine.plan import Planned, plan, planned
from labctl.engine.policy import holds_until
from labctl.engine.sealing import sealed_on_error
from labctl.engine.walk import Leg, SealedSteps, Walk, Way
from labctl.errors import StorageError, storage_error
from labctl.lab import Lab
from labctl.nodes.node import Facts, Node, Setting
from labctl.nodes.validation import Validated
from labctl.osal import stops
from labctl.station.loading import LoadedStation
from labctl.summary import Artifact, CalibrationRef, Compared, Counts, Metric, Summary
from labctl.summary import Node as Passed
from labctl.verdicts import Verdict
from labctl.workload import WORKLOAD, Workload

AFTERWARDS_S = 600.0
"""For the report, and what a demo simulates, when the bench is closed and the time is over [s]."""


class Session:
    """A run in progress: its folder, its nodes, and the summary so far.

    Parameters
    ----------
    lab
        Where to speak; gets the run and the summary, so that a failure is reported with them.
    loaded
        The effective station.
    run
        An open run folder.
    runs
        The archive: ``runs/``.
    sealed
        What the run has sealed before it was interrupted; None for a new one.
    budget
        The time that there is; as much as it takes if omitted.

    Attributes
    ----------
    pace
        Whether the run may go on, and where it is.
    """

    def __init__(
        self,
        lab: Lab,
        loaded: LoadedStation,
        run: RunWriter,
        runs: Path,
        sealed: SealedSteps | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.lab, self.run, self.runs, self._sealed, self._loaded = lab, run, runs, sealed, loaded
        self.station, self.store = loaded.station, CalibrationStore(runs)
        self.pace = Pace(run, lab.console, budget or Budget())
        self.ledger = Ledger(self._announce)
        self.counts = Counts()
        self._told_s = time.monotonic()
        self._require_held: Callable[[], None] = lambda: None
        self._gate: Gate | None = None
        self._analyst: Callable[[Setting], Analyst] = Here
        self._tell_open: Callable[[bool], None] = lambda devices_open: None
        self._begin_step: Callable[[Step], None] = lambda step: None
        info = read_run_json(run.path)
        self.previous = _decision(self.store, self.station.bench.name, info.get("calibration_parent"))
        self._summary = Summary(
            run_id=run.run_id,
            bench=self.station.bench.name,
            mode=self.station.bench.mode,
            verdict=Verdict.CRASHED,  # until something concludes otherwise
            started=dt.datetime.fromisoformat(str(info["started"])),
        )
        lab.run = run

    @property
    def summary(self) -> Summary:
        """What has been reached, with the nodes and counts of now."""
        return self._summary.model_copy(
            update={
                "nodes": self.ledger.dated(),
                "metrics": self.ledger.metrics,
                "counts": self.counts,
                "budget": self.pace.budget.spent(),
                "device_events": device_events(self.run.path),
            }
        )

    def add(self, **parts: object) -> None:
        """Put a part into the summary: ``validation=…``, ``simulation=…``."""
        self._summary = self._summary.model_copy(update=parts)
        self.lab.summary = self.summary

    def add_artifact(self, path: Path) -> None:
        """List a file of the run folder."""
        content = read_regular(path)
        item = Artifact(
            path=path.relative_to(self.run.path).as_posix(),
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
        )
        self.add(artifacts=[*self._summary.artifacts, item])

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """The run is sealed when the block ends, however it does; nodes are analysed inside.

        Under a supervisor a process of its own analyses, and the supervisor ends what goes on long after its time.
        """
        self._set_deadline()
        try:
            with (
                sealed_on_error(self.lab, self.run, lambda: self.summary),
                analysts(self.run.path, self.station.acquisition.stall_s) as (self._analyst, self._tell_open),
            ):
                yield
        finally:
            if self.run.sealed:
                self.pace.tracker.enter("done")

    @contextmanager
    def acquirer(self) -> Iterator[Acquirer]:
        """The open bench; safe and closed when the block ends or raises.

        While devices are open the supervisor, where there is one, waits for progress.
        """
        in_use = devices_in_use(self.lab, self.station, self.run.path, self.station.acquisition.stall_s)
        with self._telling_open(), in_use as self._require_held, open_bench(self.station) as bench:
            self.run.snapshot("start", bench.snapshot())
            for name in bench.devices:
                if words := find_backend(self.station.devices[name].backend, name).warning:
                    self.run.journal("warning", device=name, words=words)
            acquirer = Acquirer(bench, self.run, self.station.acquisition, retried=self._retried, beat=self._frame)
            with closing(Onlooker(self.run.path, bench.camera)) as onlooker:
                acquirer.seen, self._begin_step = onlooker.see, onlooker.begin_step
                yield acquirer
            self.pace.tracker.enter("closing")
            self.run.snapshot("end", bench.snapshot())

    def walk(self, legs: Sequence[Leg], workload: Workload | None = None) -> Walk:
        """Take the nodes one after the other; a calibration that comes out is written, and the gate judges it.

        The bench is open until the last node has read its frames.
        """
        self.counts = self.counts.model_copy(update={"planned": workload.products if workload else 0})
        self._prepare(legs, workload)
        with self.pace.stopping_gently(), ExitStack() as open_bench:
            walk = self.walk_on(open_bench.enter_context(self.acquirer()), legs, workload, open_bench.close)
        self._set_deadline(AFTERWARDS_S)
        return walk

    def walk_on(
        self,
        acquirer: Acquirer,
        legs: Sequence[Leg],
        workload: Workload | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> Walk:
        """As `walk` on an open bench; ``close`` is called when the last node has read its frames."""
        walk = self._walk_of(acquirer, legs, workload)
        nodes = [leg.node for leg in legs]
        known = {p.node: p for p in planned(self.station, Facts.of(acquirer.bench), nodes)}
        timed = [node for node in nodes if node.name in known and not node.at_night][-1:]
        last = [node for node in nodes if node.reads][-1:]

        def all_read() -> None:
            self.pace.hide_bar()
            close()

        acquirer.advance = self.pace.advance
        self.pace.show_bar()
        for leg in legs:
            node = leg.node
            self.pace.begin_node(node.name)
            if walk.follow(leg):
                self.add(**node.summary(walk.results[node], walk.results))
            elif node.only_in_spec and self.ledger.out_of_spec:
                self.ledger.skip(node.name, f"out of spec: {'; '.join(self.ledger.out_of_spec)}")
            else:
                self._measure(walk, node, known.get(node.name), all_read if node in last else lambda: None)
            if node in timed:
                self.ledger.done[-1].metrics.append(Metric.judge("calibration_device_time", acquirer.device_s, "s"))
        self.pace.hide_bar()
        acquirer.advance = uncounted
        return walk

    def _set_deadline(self, more_s: float = 0.0) -> None:
        """The supervisor ends what goes on long after its time, and ``more_s`` seconds."""
        if self.pace.budget.given_s is not None:
            supervisor.deadline(max(0.0, self.pace.budget.left_s) + more_s)

    def _prepare(self, legs: Sequence[Leg], workload: Workload | None) -> None:
        """Before a device is opened: the disk has space, and there is time for the first node.

        Raises
        ------
        DiskLow, BudgetSpent
        """
        made = plan(self.runs, self._loaded, legs, workload)
        self.pace.expect(made.nodes, self._sealed.frames if self._sealed else 0)
        written = sum(row.bytes for row in self.run.segments.rows if row.origin is None)
        floor_bytes = 1e9 * self.station.acquisition.disk_floor_gb
        require_space(self.run.path, max(0, (made.bytes or 0) - written), floor_bytes, "no device was opened")
        for leg in legs[:1]:
            self.pace.require(leg.node.name)

    def _measure(self, walk: Walk, node: Node[object], known: Planned | None, read: Callable[[], None]) -> None:
        """Read a node, as far as it reads, and analyse it; ``read`` is called in between."""
        started_s = time.monotonic()
        with self.ledger.failing(node.name, started_s):
            steps = list(node.steps(walk.setting, walk.results)) if node.reads else []
            self.pace.count(sum(step.rows for step in steps))
            if known is not None and not steps:
                self.pace.needs_nothing(node.name)
            elif known is not None or not node.reads:
                self.pace.require(node.name, known.seconds if known else 0.0)
            walk.read(steps)
            if node.shows_products:
                self.counts = self.counts.model_copy(update={"recorded": self.counts.planned})
        read()
        stops.heed()
        self.pace.tracker.enter("fitting")
        self._take(walk, node, walk.analyse(node, started_s))

    def conclude(self, *, strict: bool = False) -> Summary:
        """Verdict from the nodes; then the seal; and only then takes effect what the gate has decided.

        Here alone a run becomes one that measured all it planned; what failed was raised, and never comes here.

        Parameters
        ----------
        strict
            A control chart that fires makes it ``drift``, where it is in spec.
        """
        summary = self.summary.concluded(self._verdict(strict), finished=utc_now())
        self.run.finish(summary.verdict, summary)
        self.lab.summary = summary
        if self._gate is not None and (reference := summary.calibration) is not None:
            try:
                self.store.decide(
                    self.station.bench.name, reference.id, self.run.run_id, self._gate.why, apply=self._gate.applied
                )
            except StorageError as error:  # sealed is sealed: `settle_decisions` does it when the disk takes it
                self.lab.console.warn(f"warning: {error}   ·   the next command on this bench decides as the run says")
        return summary

    def _verdict(self, strict: bool) -> Verdict:
        verdict = self.ledger.verdict()
        fires = any(chart.state == "alarm" for chart in self._summary.drift)
        return Verdict.DRIFT if verdict is Verdict.OK and strict and fires else verdict

    def _walk_of(self, acquirer: Acquirer, legs: Sequence[Leg], workload: Workload | None) -> Walk:
        setting = Setting.on(
            self.station,
            Facts.of(acquirer.bench),
            groups=workload.groups if workload else (),
            holds_until=holds_until(legs),
            run=RunInfo(self.run.path),
            code=read_code_json(self.run.path),
            tell=self._tell,
        )
        analyst = self._analyst(setting)
        if all(leg.way is Way.MEASURE for leg in legs):
            return Walk(setting, self.ledger, acquirer, self._sealed, analyst, self._before_step)
        kept = analyst.ask(partial(look_back, list(legs), self.run.path, self.runs))
        if kept.clock_epoch_s is not None:
            self.run.update(clock_epoch_s=kept.clock_epoch_s)
        return KeepingWalk(self.run, kept, setting, self.ledger, acquirer, self._sealed, analyst, self._before_step)

    def _take(self, walk: Walk, node: Node[object], result: object) -> None:
        """What a node has found goes into the summary; a calibration goes to the store, and the gate judges it."""
        self.add(**node.summary(result, walk.results))
        if isinstance(result, Validated):
            self.counts = self.counts.model_copy(update={"discarded": result.discarded})
        if isinstance(result, Calibration):
            write_calibration(result, self.store.folder)
            gate = walk.analyst.ask(partial(judge_found, self.store, self.previous))
            self._gate = gate = self._not_before_a_later_run(gate)
            self.ledger.decide("gate", gate.applied, gate.why)
            self.add(calibration=reference_to(result, self.store.path(result.id), gate))

    def _not_before_a_later_run(self, gate: Gate) -> Gate:
        """A run that went on long after it began does not displace the calibration of one that began later."""
        now = self.store.applied(self.station.bench.name)
        if not gate.applied or now is None or by_age(now.run_id) <= by_age(self.run.run_id):
            return gate
        return replace(gate, applied=False, why=f"{gate.why}; {now.id} of the later run {now.run_id} stays")

    def _retried(self, frames: int) -> None:
        """Count frames that are read again."""
        self.counts = self.counts.model_copy(update={"retried": self.counts.retried + frames})

    @contextmanager
    def _telling_open(self) -> Iterator[None]:
        """Who waits for an analysis knows whether devices are open meanwhile."""
        self._tell_open(True)
        try:
            yield
        finally:
            self._tell_open(False)

    def _before_step(self, step: Step) -> None:
        """Go on to a step only while the bench is held, nobody has asked to stop, and it fits into the time."""
        self._require_held()
        self.pace.before_step(step)
        self._begin_step(step)

    def _frame(self) -> None:
        """A frame has come, or a device is waited for: the bench is still to be held."""
        self._require_held()
        self._beat()

    def _beat(self) -> None:
        """Something was done: there was progress."""
        supervisor.beat()
        self.pace.tracker.look()

    def _tell(self, words: str) -> None:
        """A round of a fit is progress, as a frame is; people hear of one in half a minute."""
        self._beat()
        self.pace.during_analysis()
        if words and time.monotonic() - self._told_s > PLAIN_EVERY_S:
            self._told_s = time.monotonic()
            self.lab.console.say(f"  fitting: {words}")

    def _announce(self, node: Passed) -> None:
        self._told_s = time.monotonic()
        self._beat()
        self.run.journal("node", **node.model_dump(mode="json", exclude={"metrics"}))
        self.lab.console.say(line_of(node, self.lab.console.width))


@contextmanager
def open_session(
    lab: Lab,
    loaded: LoadedStation,
    runs: Path,
    purpose: str,
    job: dict[str, object] | None = None,
    *,
    workload: Path | None = None,
    wait_s: float = 0.0,
    budget: Budget | None = None,
    held_by: Callable[[str], None] | None = None,
) -> Iterator[Session]:
    """A new run that is sealed however the block ends: by `Session.conclude`, or with the verdict of the error.

    Parameters
    ----------
    job
        What the run is to do, as JSON types: with it, an interrupted run can go on.
    workload
        The file of products that it shows; the run has a copy of its own.
    wait_s
        How long to wait for a process that holds the bench.
    budget
        The time that there is; as much as it takes if omitted.
    held_by
        What `hold_bench` has given, where the bench is held already, and `Lab.made_up_for` was called.

    Raises
    ------
    BenchBusy
        When another process holds the bench; there is no run then.
    """
    hold = nullcontext(held_by) if held_by else holding(lab, loaded.bench, f"labctl {purpose}", wait_s)
    with hold as held_by:
        settle_decisions(CalibrationStore(runs), runs, loaded.bench)
        settle_crashed(runs, loaded.bench)
        previous = CalibrationStore(runs).applied(loaded.bench)
        info = {"calibration_parent": previous.id if previous else None, "job": job}
        brought = {WORKLOAD: workload} if workload else {}
        with RunWriter.create(runs, purpose, loaded, info, source_hashes(), brought, supervisor.opened) as run:
            held_by(run.run_id)
            session = Session(lab, loaded, run, runs, budget=budget)
            lab.console.say(f"run {run.run_id}   bench {loaded.bench} ({loaded.mode})")
            with session.to_its_end():
                yield session


@contextmanager
def resumed_session(
    lab: Lab, folder: Path, runs: Path, budget: Budget | None = None, wait_s: float = 0.0
) -> Iterator[Session]:
    """An interrupted run goes on after its last sealed step; it is sealed as `open_session` does it.

    Parameters
    ----------
    budget
        The time that there is now; as much as it takes if omitted.
    wait_s
        How long to wait for a process that holds the bench.

    Raises
    ------
    RunComplete
        When it measured all that it planned.
    RunInUse
        When another process writes it.
    BenchBusy
        When another process holds the bench.
    """
    reader = RunReader(folder)
    loaded = reader.station()
    sealed = SealedSteps(folder)  # whole and unaltered, before anything is changed
    with holding(lab, loaded.bench, "labctl run resume", wait_s) as held_by, RunWriter.resume(folder) as run:
        held_by(run.run_id)
        supervisor.opened(run.path)
        session = Session(lab, loaded, run, runs, sealed, budget)
        lab.console.say(f"run {run.run_id} goes on after {sealed.count} sealed steps   bench {loaded.bench}")
        with session.to_its_end():
            yield session


def reference_to(calibration: Calibration, path: Path, gate: Gate | None = None) -> CalibrationRef:
    """An exported calibration as the summary names it, and what the gate said of it."""
    compared = None
    if gate is not None and gate.comparison is not None:
        found = gate.comparison
        compared = Compared(
            id=gate.before,
            chi2_per_dof=found.new,
            chi2_per_dof_before=found.before,
            difference=found.difference,
            stderr=found.stderr,
            products=found.pairs,
        )
    return CalibrationRef(
        id=calibration.id,
        path=str(path),
        parent=calibration.parent,
        valid_until=dt.datetime.fromisoformat(calibration.valid_until),
        applied=gate.applied if gate else None,
        why=gate.why if gate else "",
        compared=compared,
    )


def write_calibration(calibration: Calibration, folder: Path) -> tuple[Path, Path]:
    """`calibration.machine.artefact.save`, with the answers of the operating system as coded errors."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return save(calibration, folder)
    except OSError as error:
        raise storage_error(error, folder, "exporting the calibration") from error


def _decision(store: CalibrationStore, bench: str, calibration_id: str | None) -> Decision | None:
    """The decision that applied a calibration; None where the bench used none when the run started."""
    applied = [d for d in store.history(bench) if d.event == "applied" and d.id == calibration_id]
    return applied[-1] if applied else None
