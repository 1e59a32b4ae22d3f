"""Which calibrations of an archive a name means: one rule, for the commands and for Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from calibration.errors import ArtefactError, CalibrationError
from groundwork.errors import FileRefused
from groundwork.opening.json_text import read_json
from groundwork.opening.regular import is_file

ENDING = ".calib.h5"
LATEST = "latest"
MEANT = "a file, the beginning of an id, a bench's name, or 'latest'"
"""What names a calibration, in words."""
ARCHIVE = "LABCTL_RUNS"
"""Environment variable with the folder of the archive; ``runs`` in the working folder if it is not set."""


def file_meant(name: str, what: str = "calibrations", else_: str = "") -> Path:
    """The file of the one calibration in the archive that a name means, see `ids_meant`.

    Parameters
    ----------
    what, else_
        For the error: what goes by names here, and which other names there are.

    Raises
    ------
    ArtefactError
        When there is nothing of this name, or more than one; it lists what there is.
    """
    store = Path(os.environ.get(ARCHIVE) or "runs") / "calibrations"
    found = ids_meant(store, name)
    if len(found) == 1:
        return store / f"{found[0]}{ENDING}"
    ids = found or sorted(path.name.removesuffix(ENDING) for path in store.glob(f"*{ENDING}"))
    raise ArtefactError(
        f"{len(found) or 'no'} {what} go by this name",
        device=name,
        action="opening a calibration",
        expected=f"{else_}{MEANT}",
        seen=f"{', '.join(ids[:8])} in {store}" if ids else f"no calibration in {store}",
        hint="labctl calib list" + ("   ·   labctl presets" if else_ else ""),
    )


def ids_meant(store: Path, name: str) -> list[str]:
    """The ids that a name may mean: none, one, or more than one, which the caller refuses.

    The name is the beginning of an id, with or without what precedes its hyphen, or the name of a bench, for the
    calibration that is applied to it. If it is neither, ``latest`` means the one whose data are the newest.

    Parameters
    ----------
    store
        The folder of the calibrations: ``runs/calibrations``.

    Examples
    --------
    >>> from pathlib import Path
    >>> ids_meant(Path("no-such-folder"), "latest")
    []
    """
    ids = sorted(path.name.removesuffix(ENDING) for path in store.glob(f"*{ENDING}"))
    pointer = store / "applied" / f"{name}.json"
    applied = _applied(pointer) if pointer.name == f"{name}.json" and is_file(pointer) else ""
    found = [i for i in ids if i == applied or (name and (i.startswith(name) or i.partition("-")[2].startswith(name)))]
    if found or applied:
        return found
    return _newest(store, ids) if name == LATEST else []


def _applied(pointer: Path) -> str:
    try:
        found = read_json(pointer)
    except (OSError, ValueError):
        return ""
    return str(found.get("id", "")) if isinstance(found, dict) else ""


def _newest(store: Path, ids: Iterable[str]) -> list[str]:
    from calibration.statistics.tensors import read_header

    acquired = {}
    for one in ids:
        try:
            acquired[one] = str(read_header(store / f"{one}{ENDING}", "").get("acquired") or "")
        except (CalibrationError, FileRefused):
            continue
    return [max(acquired, key=lambda one: (acquired[one], one))] if acquired else []
