"""Calibrations of any kind by any name that means one, and what has changed between two of them."""

from __future__ import annotations

from pathlib import Path

from calibration.loading import load_calibration
from calibration.protocol import Calibration
from calibration.statistics.difference import FamilyDifference, differences
from labctl.archive import RunReader, find_run
from labctl.archive.calibrations import CalibrationStore
from labctl.errors import RunNotFound, UsageError


def open_calibration(runs: Path, name: str) -> Calibration:
    """The calibration that ``name`` means (`CalibrationStore.find`), or that the run of this name exported.

    Raises
    ------
    UsageError
        When there is none.
    ArtefactError, RunDamaged
        When the file is damaged, or of an unknown kind.
    """
    return load_calibration(CalibrationStore(runs).find(name, lambda run: _of_run(runs, run)))


def about(calibration: Calibration) -> str:
    """One line: bench, when, which run."""
    origin = calibration.provenance
    return "  ".join(str(x) for x in (origin.get("bench"), calibration.acquired, origin.get("run_id")) if x)


def difference(a: Calibration, b: Calibration) -> tuple[list[FamilyDifference], list[str]]:
    """`calibration.statistics.difference.differences` of two calibrations of one kind.

    Raises
    ------
    UsageError
        When one is of a bench that labctl drives and the other of imported readings: they share no number.
    """
    kinds = [str(calibration.header()["schema"]) for calibration in (a, b)]
    if kinds[0] != kinds[1]:
        raise UsageError(
            "calibrations of two kinds have nothing to compare",
            device=f"{a.id}, {b.id}",
            expected=f"two of {kinds[0]}",
            seen=f"the second is {kinds[1]}",
            hint="labctl calib list shows the kind of each",
        )
    return differences(a.families(), b.families())


def _of_run(runs: Path, name: str) -> str | None:
    try:
        summary = RunReader(find_run(runs, name)).summary()
    except RunNotFound:
        return None
    return summary.calibration.id if summary and summary.calibration else None
