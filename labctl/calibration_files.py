"""Open a calibration file of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labctl.archive.calibrations import read_header
from labctl.errors import RunDamaged

if TYPE_CHECKING:
    from calibration.machine.artefact import Calibration
    from calibration.response.model import Response


def load_calibration(path: str | Path) -> Calibration | Response:
    """Read a calibration and check it whole: schema, shapes, finite numbers, and its id against its content.

    Parameters
    ----------
    path
        ``*.calib.h5`` or its twin ``*.calib.safetensors``: of a bench that labctl drives (`labctl export`), or of
        products that somebody else measured (`labctl fit`).

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, altered, or no calibration.

    Examples
    --------
    >>> import labctl
    >>> calibration = labctl.load_calibration("bench.calib.h5")
    >>> calibration.machine.channel.shape  # outputs and inputs of one frame
    (24, 20)
    """
    from calibration.machine import artefact
    from calibration.response.artefact import SCHEMA, load_response

    path = Path(path)
    try:
        schema = read_header(path)["schema"]
    except RunDamaged:
        schema = ""  # the reader below says better what is wrong
    return load_response(path) if schema == SCHEMA else artefact.load(path)
