"""Calibrations of any kind by any name that means one, and what has changed between two of them."""

from __future__ import annotations

from pathlib import Path

from calibration.loading import load_calibration
from calibration.protocol import Calibration
from calibration.response.against import compared
from calibration.response.model import Response
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
    return load_calibration(calibration_file(runs, name))


def calibration_file(runs: Path, name: str) -> Path:
    """The file of the calibration that ``name`` means (`CalibrationStore.find`), or that the run of this name made.

    Raises
    ------
    UsageError
        When there is none.
    """
    return CalibrationStore(runs).find(name, lambda run: _of_run(runs, run))


def about(calibration: Calibration) -> str:
    """One line: bench, when, which run."""
    origin = calibration.provenance
    return "  ".join(str(x) for x in (origin.get("bench"), calibration.acquired, origin.get("run_id")) if x)


def difference(a: Calibration, b: Calibration) -> tuple[list[FamilyDifference], list[str]]:
    """What has changed between two calibrations of one kind, and in words what is not compared and why.

    Raises
    ------
    UsageError
        When one is of a bench that labctl drives and the other of imported readings: they share no number.
    OutOfDomain
        When they are of imported benches of another size, read-out or unit.
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
    if isinstance(a, Response) and isinstance(b, Response):
        return compared(a, b)
    return differences(a.families(), b.families())


def _of_run(runs: Path, name: str) -> str | None:
    """The calibration that a run exported, or the one that was fitted to an import; None if there is not just one."""
    try:
        run = RunReader(find_run(runs, name))
    except RunNotFound:
        return None
    summary = run.summary()
    if summary and summary.calibration:
        return summary.calibration.id
    fitted = [row.id for row in CalibrationStore(runs).rows() if row.run_id == run.run_id]
    return fitted[0] if len(fitted) == 1 else None
