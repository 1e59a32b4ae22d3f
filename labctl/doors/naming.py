"""What a door is asked for by name: a run, or a calibration."""

from __future__ import annotations

from pathlib import Path

from calibration.naming import ENDING
from groundwork.opening.regular import is_file
from labctl.archive import RunReader, find_run
from labctl.doors.calibrations import record_of_calibration
from labctl.doors.record import Record
from labctl.doors.runs import record_of_run
from labctl.engine.calibrations import calibration_file
from labctl.errors import RunNotFound

_BEGINNINGS = ("cal-", "res-")


def record_of(what: RunReader | str | Path, runs: Path) -> Record:
    """The record of what is named.

    Parameters
    ----------
    what
        A run that is open; or a name: of a run as `labctl.archive.find_run` understands it, else of a calibration as
        `labctl.engine.calibrations.calibration_file` does.
    runs
        The archive.

    Raises
    ------
    RunNotFound
        When nothing goes by this name.
    """
    if isinstance(what, RunReader):
        return record_of_run(what)
    name = str(what)
    if is_file(name) or name.startswith(_BEGINNINGS):
        return record_of_calibration(calibration_file(runs, name))
    try:
        return record_of_run(RunReader(find_run(runs, name)))
    except RunNotFound as error:
        error.hint = f"{error.hint}   ·   a calibration goes by its file (*{ENDING}) or the beginning of its id: cal-…"
        raise
