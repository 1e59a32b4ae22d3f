"""The gate: no calibration replaces a better one. Held-out data decide, in words and numbers."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.errors import CalibrationError
from calibration.frames.scan import Readings
from calibration.judge.comparison import PairedComparison, compare
from calibration.judge.gate import gate_decision
from calibration.machine.artefact import Calibration, load
from labctl.archive import RunReader, list_runs
from labctl.archive.calibrations import CalibrationStore, Decision
from labctl.engine.analyst import Desk
from labctl.errors import LabError
from labctl.nodes.analysis import Analysis, analysis_of
from labctl.nodes.evidence import Evidence
from labctl.nodes.validation import Validated

log = logging.getLogger("labctl.gate")

UNSETTLED_RUNS = 5
"""How many of the newest runs are looked at for decisions that have not taken effect."""


@dataclass(frozen=True)
class Gate:
    """Whether a calibration in spec is applied.

    Attributes
    ----------
    applied
        Or the one before stays.
    why
        In words and numbers.
    before
        Id of the calibration that was applied.
    comparison
        None where there is nothing to compare with.
    """

    applied: bool
    why: str
    before: str | None = None
    comparison: PairedComparison | None = None


def judge(
    store: CalibrationStore,
    previous: Decision | None,
    calibration: Calibration,
    analysis: Analysis,
    validated: Validated,
    evidence: Evidence,
) -> Gate:
    """Compare a calibration in spec with the one applied before, on products and probe frames that neither has seen."""
    if previous is None:
        return Gate(True, "the first calibration of this bench, and in spec")
    name = previous.id
    try:
        before = load(store.path(name))
    except CalibrationError as error:
        log.warning("%s cannot be compared with: %s", name, error)
        return Gate(True, f"in spec, and {name} cannot be read: {error.what}", name)
    if name == calibration.id:
        return Gate(True, f"{name} again", name)
    other = incompatible(calibration, before)
    if other:
        return Gate(True, f"in spec, and {name} is of another bench: {other}", name)
    found = held_out(analysis, before, validated, evidence)
    expired = dt.datetime.fromisoformat(before.valid_until) < dt.datetime.fromisoformat(calibration.acquired)
    decision = gate_decision(found, name, before.valid_until if expired else None)
    return Gate(decision.applied, decision.reason, name, found)


def judge_found(store: CalibrationStore, previous: Decision | None, desk: Desk) -> Gate:
    """`judge` what lies on the desk."""
    calibration, validated = desk.results.one(Calibration), desk.results.one(Validated)
    assert calibration is not None
    assert validated is not None
    return judge(store, previous, calibration, analysis_of(desk.results), validated, desk.evidence)


def settle_decisions(store: CalibrationStore, runs: Path, bench: str) -> None:
    """Let take effect what the last runs decided: a process may end between its seal and the decision.

    A calibration is applied only after the seal that it rests on, so that the newest sealed runs of the bench may have
    decided something that the store does not know. One that cannot be read is named, and says nothing.
    """
    known = {decision.run_id for decision in store.history(bench)}
    for row in [row for row in list_runs(runs) if row.bench == bench and row.finished][:UNSETTLED_RUNS]:
        if row.run_id in known:
            return
        try:
            summary = RunReader(row.path).summary()
        except LabError as error:
            log.warning("%s is damaged, and is passed over: %s   ·   labctl run verify %s", row.run_id, error, row.path)
            continue
        found = summary.calibration if summary else None
        if found is not None and found.applied is not None and store.path(found.id).exists():
            log.warning("the decision of %s about %s takes effect only now", row.run_id, found.id)
            store.decide(bench, found.id, row.run_id, found.why, apply=found.applied)
            return


def incompatible(new: Calibration, before: Calibration) -> str:
    """Why two calibrations cannot predict the same frames, in words; empty where they can."""
    changes = [
        (what, a, b)
        for what, a, b in (
            ("layout", new.machine.layout, before.machine.layout),
            ("gray levels of the display", new.machine.display.levels, before.machine.display.levels),
            ("gray levels of the SLM", new.machine.slm.levels, before.machine.slm.levels),
            ("exposure_s", new.domain.exposure_s, before.domain.exposure_s),
            ("wavelength_nm", new.domain.wavelength_nm, before.domain.wavelength_nm),
            ("bench", new.provenance.get("bench"), before.provenance.get("bench")),
        )
        if a != b
    ]
    return ", ".join(f"{what} {b} then, {a} now" for what, a, b in changes)


def held_out(analysis: Analysis, before: Calibration, validated: Validated, evidence: Evidence) -> PairedComparison:
    """Products, and the hold-out scan, less the bad frames of either."""
    scans, owners, start = [], [], 0
    dark_dn, drift = analysis.geometry.dark_dn, validated.drift

    def steady(readings: Readings) -> Readings:
        """Both calibrations predict what would have been read without drift."""
        clean = readings.minus(dark_dn)
        return drift.steady(clean) if drift else clean

    bad = set(validated.validation.bad_frames)
    products = 1 + max((int(tile.product.max(initial=0)) for tile, _ in evidence.tiles), default=0)
    for tile, readings in evidence.tiles:
        owner = tile.group * products + tile.product
        owner = np.where([start + i in bad for i in range(len(owner))], -1, owner)
        scans.append(steady(readings))
        owners.append(owner.astype(np.int64))
        start += len(owner)
    probe = evidence.scans["holdout"]
    last = 1 + max((int(owner.max(initial=0)) for owner in owners), default=0)
    spoiled = {frame.index for frame in analysis.bad_frames.get("holdout", [])}
    scans.append(steady(probe))
    owners.append(np.array([-1 if i in spoiled else last + i for i in range(len(probe))], np.int64))
    return compare(analysis.machine, before.machine, scans, owners)
