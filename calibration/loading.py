"""Open a calibration file of any kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from calibration.errors import ArtefactError
from calibration.machine import artefact
from calibration.naming import file_meant
from calibration.response.artefact import load_response
from calibration.response.model import FIRST_SCHEMA as FIRST_RESPONSE
from calibration.response.model import SCHEMA as RESPONSE
from calibration.response.model import Response
from calibration.statistics.tensors import read_header
from groundwork.opening.regular import is_file

Loaded = artefact.Calibration | Response
"""Every kind of calibration that a file may hold; each is a `calibration.protocol.Calibration`."""
READERS: dict[str, Callable[[Path], Loaded]] = {
    artefact.SCHEMA: artefact.load,
    RESPONSE: load_response,
    FIRST_RESPONSE: load_response,
}
"""Schema → reader; another kind of calibration gets its line here."""


def load_calibration(path: str | os.PathLike[str]) -> Loaded:
    """Read a calibration and check it whole: schema, shapes, finite numbers, and its id against its content.

    Parameters
    ----------
    path
        ``*.calib.h5`` or its twin ``*.calib.safetensors``; or a name that means one of the archive: the beginning of
        its id, the bench that it is applied to, ``latest`` (`calibration.naming.ids_meant`).

    Returns
    -------
    `calibration.machine.artefact.Calibration` of a bench that we drive, `calibration.response.model.Response` of a
    bench whose products somebody else measured.

    Raises
    ------
    ArtefactError
        When the file is missing, truncated, altered, or of a schema that is not known here; when no calibration goes
        by this name, or more than one.

    Examples
    --------
    >>> import labctl
    >>> calibration = labctl.load_calibration("bench.calib.h5")
    >>> calibration.machine.channel.shape  # outputs and inputs of one frame
    (24, 20)
    """
    name = os.fspath(path)
    is_name = not is_file(name) and not Path(name).suffix and Path(name).name == name
    place = file_meant(name) if is_name else Path(name)
    hint = f"make it again: labctl export RUN, or labctl fit RUN   (looked at {place})"
    schema = str(read_header(place, hint).get("schema", ""))
    reader = READERS.get(schema)
    if reader is None:
        raise ArtefactError(
            "calibration of an unknown schema",
            device=str(place),
            expected=" or ".join(READERS),
            seen=schema or "a header without a schema",
            hint=hint,
        )
    return reader(place)
