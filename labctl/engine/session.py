"""One run from the first frame to the verdict. What has been read is sealed whatever happens after it."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from calibration.judge.validation import Validation as HeldOut
from calibration.machine.artefact import Calibration, save
from calibration.statistics.bad_frame import BadFrame as Frame
from labctl.archive import RunWriter
from labctl.archive.calibrations import CalibrationStore, Decision
from labctl.archive.reader import read_run_json
from labctl.bench.acquirer import Acquirer
from labctl.bench.bench import open_bench
from labctl.console import PLAIN_EVERY_S
from labctl.engine import supervisor
from labctl.engine.gate import Gate, judge
from labctl.engine.sealing import sealed_on_error
from labctl.errors import storage_error
from labctl.lab import Lab
from labctl.nodes.analysis import Analysis, Nodes, Validated, validation_of
from labctl.nodes.calibrate import calibrate, planned_frames
from labctl.nodes.evidence import PRODUCTS, Evidence
from labctl.nodes.export import calibration_of
from labctl.nodes.measure import measure, planned
from labctl.station.loading import LoadedStation
from labctl.summary import (
    Artifact,
    BadFrame,
    CalibrationRef,
    Choice,
    Compared,
    Counts,
    Node,
    Summary,
    Validation,
)
from labctl.verdicts import Verdict
from labctl.workload import Workload

FIGURES_SHOWN = 3


@dataclass
class Measured:
    """What a bench session leaves behind for analysis, report and simulation."""

    analysis: Analysis
    evidence: Evidence
    validated: Validated | None = None
    calibration: Calibration | None = None


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
    store
        Where calibrations go.
    previous
        What the bench used when the run started.
    """

    def __init__(
        self, lab: Lab, loaded: LoadedStation, run: RunWriter, store: CalibrationStore, previous: Decision | None
    ) -> None:
        self.lab, self.run, self.store, self.previous = lab, run, store, previous
        self.station = loaded.station
        self.nodes = Nodes(self._announce, self._tell)
        self.counts = Counts()
        self._told_s = time.monotonic()
        self._gate: Gate | None = None
        self.started = dt.datetime.now(dt.UTC)
        self._summary = Summary(
            run_id=run.run_id,
            bench=self.station.bench.name,
            mode=self.station.bench.mode,
            verdict=Verdict.CRASHED,  # until something concludes otherwise
            started=self.started,
        )
        lab.run = run

    @property
    def summary(self) -> Summary:
        """What has been reached, with the nodes and counts of now."""
        return self._summary.model_copy(
            update={"nodes": self.nodes.done, "metrics": self.nodes.metrics, "counts": self.counts}
        )

    def add(self, **parts: object) -> None:
        """Put a part into the summary: ``validation=…``, ``simulation=…``."""
        self._summary = self._summary.model_copy(update=parts)
        self.lab.summary = self.summary

    def add_artifact(self, path: Path) -> None:
        """List a file of the run folder."""
        item = Artifact(path=path.relative_to(self.run.path).as_posix(), bytes=path.stat().st_size)
        self.add(artifacts=[*self._summary.artifacts, item])

    def on_bench(self, workload: Workload | None = None) -> Measured:
        """Calibrate and, given a workload, measure it; the bench is safe and closed when this returns or raises."""
        with self.watched(), open_bench(self.station) as bench:
            self.run.snapshot("start", bench.snapshot())
            frames = planned_frames(self.station, bench.slm.shape, bench.levels)
            with self.lab.console.progress("calibrating", frames) as bar:
                acquirer = Acquirer(bench, self.run, self.station.acquisition, bar.advance, self.retried)
                analysis, evidence = calibrate(acquirer, self.station, self.nodes)
            self.add(structure=structure_of(analysis))
            if workload is not None:
                self.counts = self.counts.model_copy(update={"planned": workload.products})
                tiles, frames = planned(analysis.machine, workload.groups)
                with self.lab.console.progress("measuring products", frames) as bar:
                    acquirer.advance = bar.advance
                    measure(acquirer, analysis.machine, analysis.geometry, tiles, evidence)
                self.counts = self.counts.model_copy(update={"recorded": workload.products})
            self.run.snapshot("end", bench.snapshot())
        self.add(bad_frames=bad_frames_of(analysis.bad_frames))
        return Measured(analysis, evidence)

    def validate_and_export(self, measured: Measured, workload: Workload) -> None:
        """The final gate; only a bench in spec exports."""
        with self.nodes.node("validation") as metrics:
            validated = validation_of(
                measured.analysis.machine,
                measured.analysis.geometry,
                workload.groups,
                measured.evidence,
                self.station.limits,
                metrics,
            )
        measured.validated = validated
        self.counts = self.counts.model_copy(update={"discarded": validated.discarded})
        bad = bad_frames_of({**measured.analysis.bad_frames, PRODUCTS: validated.validation.bad})
        self.add(validation=summary_of(validated.validation), bad_frames=bad)
        if self.nodes.out_of_spec:
            self.nodes.skip("export", f"out of spec: {'; '.join(self.nodes.out_of_spec)}")
            return
        with self.nodes.node("export"):
            calibration = measured.calibration = self._export(measured.analysis, validated)
        gate = self._gate = judge(
            self.store, self.previous, calibration, measured.analysis, validated, measured.evidence
        )
        self.nodes.decide("gate", gate.applied, gate.why)
        self.add(calibration=reference_to(calibration, self.store.path(calibration.id), gate))

    def conclude(self) -> Summary:
        """Verdict from the nodes; what the gate has decided takes effect; then the seal."""
        verdict = Verdict.OUT_OF_SPEC if self.nodes.out_of_spec else Verdict.OK
        if self._gate is not None and (reference := self._summary.calibration) is not None:
            self.store.decide(
                self.station.bench.name, reference.id, self.run.run_id, self._gate.why, apply=self._gate.applied
            )
        summary = self.summary.concluded(verdict, finished=dt.datetime.now(dt.UTC))
        self.run.finish(verdict, summary)
        self.lab.summary = summary
        return summary

    def _export(self, analysis: Analysis, validated: Validated) -> Calibration:
        code = json.loads((self.run.path / "code.json").read_bytes())
        calibration = calibration_of(analysis, validated, self.station, read_run_json(self.run.path), code)
        write_calibration(calibration, self.store.folder)
        return calibration

    def retried(self, frames: int) -> None:
        """Count frames that are read again."""
        self.counts = self.counts.model_copy(update={"retried": self.counts.retried + frames})

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While devices are open the supervisor, where there is one, waits for progress."""
        supervisor.watch(self.run.path, self.station.acquisition.stall_s)
        try:
            yield
        finally:
            supervisor.unwatch()

    def _tell(self, words: str) -> None:
        """A round of a fit is progress, as a frame is; people hear of one in half a minute."""
        supervisor.beat()
        if time.monotonic() - self._told_s > PLAIN_EVERY_S:
            self._told_s = time.monotonic()
            self.lab.console.say(f"  fitting: {words}")

    def _announce(self, node: Node) -> None:
        self._told_s = time.monotonic()
        supervisor.beat()
        self.run.journal("node", **node.model_dump(mode="json", exclude={"metrics"}))
        self.lab.console.say(line_of(node))


@contextmanager
def open_session(
    lab: Lab, loaded: LoadedStation, runs: Path, purpose: str, workload: Workload | None = None
) -> Iterator[Session]:
    """A run that is sealed however the block ends: by `Session.conclude`, or with the verdict of the error."""
    store = CalibrationStore(runs)
    previous = store.applied(loaded.station.bench.name)
    info = {"calibration_parent": previous.id if previous else None}
    if workload is not None:
        info["workload_sha256"] = workload.sha256
    with RunWriter.create(runs, purpose, loaded, info) as run:
        session = Session(lab, loaded, run, store, previous)
        lab.console.say(f"run {run.run_id}   bench {loaded.station.bench.name} ({loaded.station.bench.mode})")
        with sealed_on_error(lab, run, lambda: session.summary):
            yield session


def summary_of(found: HeldOut) -> Validation:
    """The figures of a validation as the summary lists them."""
    return Validation(**{name: getattr(found, name) for name in Validation.model_fields})


def bad_frames_of(found: Mapping[str, list[Frame]]) -> list[BadFrame]:
    """Bad frames by scan as the summary lists them."""
    return [BadFrame.of(scan, frame) for scan, frames in found.items() for frame in frames]


def structure_of(analysis: Analysis) -> dict[str, Choice]:
    """What was chosen for gain, crosstalk and noise, as the summary lists it."""
    return {name: Choice.of(choice) for name, choice in analysis.fit.structure.items()}


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


def line_of(node: Node) -> str:
    """One line for a person: mark, name, time, and the first three figures; the report has them all."""
    mark = {"in_spec": "✓", "applied": "✓", "out_of_spec": "✗", "bad_data": "✗"}.get(node.check or node.state, "–")
    seconds = f"{node.duration_s:6.1f} s" if node.duration_s is not None else " " * 8
    shown = [m for m in node.metrics if m.value is not None][:FIGURES_SHOWN]
    figures = node.reason or "   ".join(
        f"{m.name} {m.value:.4g}{'' if m.unit == '1' else ' ' + m.unit}" + (f" ({m.limit})" if m.limit else "")
        for m in shown
    )
    return f" {mark} {node.name:<13}{seconds}  {figures}".rstrip()
