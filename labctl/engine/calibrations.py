"""Calibrations of any kind as families of parameters, by any name that means one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration.judge.families import families
from calibration.machine import artefact
from calibration.response.artefact import SCHEMA as RESPONSE
from calibration.response.artefact import load_response
from calibration.response.difference import response_families
from calibration.statistics.difference import Family, FamilyDifference, differences
from labctl.archive import RunReader, find_run
from labctl.archive.calibrations import CalibrationStore, read_header
from labctl.errors import RunNotFound, UsageError

FAMILIES: dict[str, Callable[[Path], list[Family]]] = {
    artefact.SCHEMA: lambda path: families(artefact.load(path)),
    RESPONSE: lambda path: response_families(load_response(path)),
}
"""Schema → the families of a file; another kind of calibration gets its line here."""


@dataclass(frozen=True)
class OpenedCalibration:
    """A calibration ready to be compared: id, schema, one line about it, its families."""

    id: str
    schema: str
    about: str
    families: list[Family]


def open_families(runs: Path, name: str) -> OpenedCalibration:
    """The calibration that ``name`` means (`CalibrationStore.find`), or that the run of this name exported.

    Raises
    ------
    UsageError
        When there is none, or its kind cannot be compared.
    ArtefactError, RunDamaged
        When the file is damaged.
    """
    path = CalibrationStore(runs).find(name, lambda run: _of_run(runs, run))
    header = read_header(path)
    make = FAMILIES.get(str(header["schema"]))
    if make is None:
        raise UsageError(
            "calibrations of this kind cannot be compared",
            device=str(path),
            expected=" or ".join(FAMILIES),
            seen=str(header["schema"]),
        )
    origin: dict[str, object] = header.get("provenance") or {}
    about = "  ".join(str(x) for x in (origin.get("bench"), header.get("acquired"), origin.get("run_id")) if x)
    return OpenedCalibration(str(header.get("id", path.name)), str(header["schema"]), about, make(path))


def difference(a: OpenedCalibration, b: OpenedCalibration) -> tuple[list[FamilyDifference], list[str]]:
    """`calibration.statistics.difference.differences` of two calibrations of one kind.

    Raises
    ------
    UsageError
        When one is of a bench that labctl drives and the other of imported readings: they share no number.
    """
    if a.schema != b.schema:
        raise UsageError(
            "calibrations of two kinds have nothing to compare",
            device=f"{a.id}, {b.id}",
            expected=f"two of {a.schema}",
            seen=f"the second is {b.schema}",
            hint="labctl calib list shows the kind of each",
        )
    return differences(a.families, b.families)


def _of_run(runs: Path, name: str) -> str | None:
    try:
        summary = RunReader(find_run(runs, name)).summary()
    except RunNotFound:
        return None
    return summary.calibration.id if summary and summary.calibration else None
