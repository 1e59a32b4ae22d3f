"""Analyse an old run again: the same functions as the live run, the data from the disk, no device."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from labctl.archive import RunReader
from labctl.engine.session import (
    Measured,
    bad_frames_of,
    line_of,
    reference_to,
    structure_of,
    summary_of,
    write_calibration,
)
from labctl.errors import OutOfSpec, RunDamaged
from labctl.lab import Lab
from labctl.nodes import analysis as steps
from labctl.nodes.analysis import Nodes
from labctl.nodes.evidence import PRODUCTS, load_evidence
from labctl.nodes.export import calibration_of
from labctl.summary import Summary, reasons_out_of_spec
from labctl.verdicts import Verdict
from labctl.workload import WORKLOAD, Workload, read_workload


@dataclass(frozen=True)
class Refit:
    """A run analysed again."""

    summary: Summary
    measured: Measured
    workload: Workload | None


def refit(lab: Lab, folder: Path, *, with_products: bool = True) -> Refit:
    """Fit the calibration of a run and, where it measured products, validate it.

    Raises
    ------
    RunDamaged
        When its data are altered or incomplete.
    """
    run = RunReader(folder)
    station = run.station().station
    nodes = Nodes(lambda node: lab.console.say(line_of(node)))
    evidence = load_evidence(run)
    analysis = steps.analyse(evidence, station, nodes)
    measured = Measured(analysis, evidence)
    workload = read_workload(folder / WORKLOAD) if (folder / WORKLOAD).exists() and evidence.tiles else None
    validation, bad = None, dict(analysis.bad_frames)
    if with_products and workload is not None:
        with nodes.node("validation") as metrics:
            measured.validated = steps.validation_of(
                analysis.machine, analysis.geometry, workload.groups, evidence, station.limits, metrics
            )
        validation = summary_of(measured.validated.validation)
        bad[PRODUCTS] = measured.validated.validation.bad
    before = run.summary()
    summary = Summary(
        run_id=run.run_id,
        bench=station.bench.name,
        mode="replay",
        verdict=Verdict.OUT_OF_SPEC if nodes.out_of_spec else Verdict.OK,
        started=dt.datetime.fromisoformat(str(run.info["started"])),
        finished=dt.datetime.now(dt.UTC),
        nodes=nodes.done,
        metrics=nodes.metrics,
        structure=structure_of(analysis),
        validation=validation,
        bad_frames=bad_frames_of(bad),
        calibration=before.calibration if before else None,
        simulation=before.simulation if before else None,
    )
    return Refit(summary, measured, workload)


def refit_and_export(lab: Lab, folder: Path, output: Path) -> tuple[Summary, tuple[Path, Path]]:
    """Export the calibration of a sealed run whose products validate.

    Raises
    ------
    OutOfSpec
        When they do not; nothing is written.
    RunDamaged
        When the run has no seal, or measured no products.
    """
    run = RunReader(folder)
    if run.seal is None:
        raise RunDamaged(
            "only a sealed run is exported", device=run.run_id, seen=run.status, hint="labctl measure WORKLOAD"
        )
    again = refit(lab, folder)
    if again.measured.validated is None:
        raise RunDamaged("the run measured no products", device=run.run_id, hint="labctl measure WORKLOAD")
    reasons = reasons_out_of_spec(again.summary.nodes)
    if reasons:
        raise OutOfSpec(
            "the calibration does not pass its gate",
            device=run.run_id,
            action="export",
            seen="; ".join(reasons),
            safe="nothing was written; the previous calibration stays",
            hint=f"labctl report {run.run_id.rpartition('-')[2]}",
        )
    code = json.loads((folder / "code.json").read_bytes())
    calibration = calibration_of(
        again.measured.analysis, again.measured.validated, run.station().station, run.info, code
    )
    paths = write_calibration(calibration, output)
    return again.summary.model_copy(update={"calibration": reference_to(calibration, paths[0])}), paths
