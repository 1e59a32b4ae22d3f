"""Calibrations of any kind as families of parameters, by any name that means one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibration import artefact
from calibration.difference import Family, families
from labctl.archive import RunReader, find_run
from labctl.archive.calibrations import CalibrationStore, read_header
from labctl.errors import RunNotFound, UsageError

FAMILIES: dict[str, Callable[[Path], list[Family]]] = {
    artefact.SCHEMA: lambda path: families(artefact.load(path)),
}
"""Schema → the families of a file; another kind of calibration gets its line here."""


@dataclass(frozen=True)
class OpenedCalibration:
    """A calibration ready to be compared: id, one line about it, its families."""

    id: str
    about: str
    families: list[Family]


def open_families(runs: Path, name: str) -> OpenedCalibration:
    """The calibration that ``name`` means (`CalibrationStore.find`), or that the run of this name exported.

    Raises
    ------
    UsageError
        When there is none, or its kind cannot be compared.
    ArtefactError
        When the file is damaged.
    """
    path = CalibrationStore(runs).find(name, lambda run: _of_run(runs, run))
    header = read_header(path) if path.suffix == ".h5" else artefact.load(path).header()
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
    return OpenedCalibration(str(header.get("id", path.name)), about, make(path))


def _of_run(runs: Path, name: str) -> str | None:
    try:
        summary = RunReader(find_run(runs, name)).summary()
    except RunNotFound:
        return None
    return summary.calibration.id if summary and summary.calibration else None
