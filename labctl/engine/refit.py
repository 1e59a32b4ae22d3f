"""Analyse an old run again: the same functions as the live run, the data from the disk, no device."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.machine.artefact import Calibration
from labctl.archive import RunReader
from labctl.archive.reader import read_code_json
from labctl.clock import utc_now
from labctl.engine.analyst import Here
from labctl.engine.ledger import Ledger
from labctl.engine.node_line import line_of
from labctl.engine.policy import from_json, holds_until
from labctl.engine.session import reference_to, write_calibration
from labctl.engine.walk import Walk
from labctl.errors import OutOfSpec, RunDamaged
from labctl.lab import Lab
from labctl.nodes.evidence import Evidence, load_evidence
from labctl.nodes.node import Node, Setting
from labctl.nodes.registry import EXPORT, node_named, shows_products, with_parents
from labctl.summary import Summary, reasons_out_of_spec
from labctl.verdicts import COMPLETE, Verdict
from labctl.workload import WORKLOAD, Workload, read_workload


@dataclass(frozen=True)
class Refit:
    """A run analysed again: its summary, its walk, and the workload that it showed, if any."""

    summary: Summary
    walk: Walk
    workload: Workload | None


def refit(lab: Lab, folder: Path, *, with_products: bool = True) -> Refit:
    """Analyse the nodes of a run again.

    Parameters
    ----------
    with_products
        Whether to validate with the products that the run has measured, if it has.

    Raises
    ------
    RunDamaged
        When its data are altered or incomplete.
    """
    run = RunReader(folder)
    station, evidence = run.station().station, load_evidence(run)
    workload = read_workload(folder / WORKLOAD) if (folder / WORKLOAD).exists() and evidence.tiles else None
    nodes = _nodes_of(run, with_products and workload is not None)
    setting = Setting.on(
        station,
        groups=workload.groups if workload else (),
        holds_until=holds_until(from_json(legs)) if (legs := (run.info.get("job") or {}).get("legs")) else None,
        run=run.info,
        code=read_code_json(folder),
    )
    _require_complete(run, nodes, evidence, setting)
    walk = Walk(setting, Ledger(lambda node: lab.console.say(line_of(node))), analyst=Here(setting, evidence))
    parts: dict[str, Any] = {}
    for node in nodes:
        parts |= node.summary(walk.analyse(node), walk.results)
    before = run.summary()
    summary = Summary(
        run_id=run.run_id,
        bench=station.bench.name,
        mode="replay",
        verdict=Verdict.OUT_OF_SPEC if walk.ledger.out_of_spec else Verdict.OK,
        started=dt.datetime.fromisoformat(str(run.info["started"])),
        finished=utc_now(),
        nodes=walk.ledger.done,
        metrics=walk.ledger.metrics,
        calibration=before.calibration if before else None,
        simulation=before.simulation if before else None,
        **parts,
    )
    return Refit(summary, walk, workload)


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
    if run.seal is None or run.seal.verdict not in COMPLETE:
        raise RunDamaged(
            "only a run that measured all that it planned is exported",
            device=run.run_id,
            seen=run.status,
            hint=f"labctl run resume {run.run_id.rpartition('-')[2]}   ·   or labctl measure WORKLOAD",
        )
    again = refit(lab, folder)
    if again.workload is None:
        raise RunDamaged("the run measured no products", device=run.run_id, hint="labctl measure WORKLOAD")
    reasons = reasons_out_of_spec(again.summary.nodes)
    if reasons:
        raise OutOfSpec(
            "the calibration does not pass its gate",
            device=run.run_id,
            action="exporting the calibration",
            seen="; ".join(reasons),
            safe="nothing was written; the previous calibration stays",
            hint=f"labctl report {run.run_id.rpartition('-')[2]}",
        )
    for node in with_parents([EXPORT]):
        if node not in again.walk.results:
            again.walk.analyse(node)
    calibration = again.walk.results.one(Calibration)
    assert calibration is not None
    paths = write_calibration(calibration, output)
    return again.summary.model_copy(update={"calibration": reference_to(calibration, paths[0])}), paths


def _nodes_of(run: RunReader, products: bool) -> list[Node[Any]]:
    """What is analysed again: the nodes that the run was to take; a calibration is exported by its own command.

    Runs of before there were jobs took all that an exported calibration rests on.

    Parameters
    ----------
    products
        Whether those that rest on products are among them.
    """
    legs = (run.info.get("job") or {}).get("legs")
    taken = with_parents([EXPORT]) if legs is None else [node_named(str(name)) for name, *_ in legs]
    return [node for node in taken if not node.only_in_spec and (products or not shows_products([node]))]


def _require_complete(run: RunReader, nodes: Iterable[Node[Any]], evidence: Evidence, setting: Setting) -> None:
    """Refuse a run that stopped before it had read all that these nodes look at."""
    missing = [name for node in nodes for name in node.missing(evidence, setting)]
    if missing:
        raise RunDamaged(
            "the run stopped before its calibration was complete",
            device=run.run_id,
            expected="the readings of every node that the run was to take",
            seen=f"missing: {', '.join(missing)}",
            hint=f"go on with it: labctl run resume {run.run_id.rpartition('-')[2]}   ·   or measure again: "
            "labctl calibrate",
        )
