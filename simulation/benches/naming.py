"""From what somebody calls a bench to what it is: a preset's name, a file, or the id of a calibration in an archive."""

from __future__ import annotations

import os
from pathlib import Path

from calibration.errors import ArtefactError
from calibration.loading import load_calibration
from simulation.benches.machines import MACHINES
from simulation.benches.opening import Source
from simulation.light.optics import PRESETS

ARCHIVE = "LABCTL_RUNS"
"""Environment variable with the folder of the archive; ``runs`` in the working folder if it is not set."""
_ENDING = ".calib.h5"


def named(source: Source | Path) -> Source:
    """What a name or path means; anything else as it is.

    A preset or a published machine comes first, then a file, then a calibration of the archive by any unique beginning
    of its id.

    Raises
    ------
    ArtefactError
        When there is nothing of this name, or more than one; it lists what there is. When the file is damaged.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    name = os.fspath(source)
    if name in PRESETS or name in MACHINES:
        return name
    if name and Path(name).exists():
        return load_calibration(name)
    store = Path(os.environ.get(ARCHIVE) or "runs") / "calibrations"
    ids = sorted(path.name.removesuffix(_ENDING) for path in store.glob(f"*{_ENDING}"))
    found = [i for i in ids if name and (i.startswith(name) or i.partition("-")[2].startswith(name))]
    if len(found) == 1:
        return load_calibration(store / f"{found[0]}{_ENDING}")
    kept = f"{', '.join((found or ids)[:8])} in {store}" if ids else f"no calibration in {store}"
    raise ArtefactError(
        f"{len(found) or 'no'} calibrations or presets go by this name",
        device=name,
        action="opening a calibration",
        expected=f"one of {', '.join((*PRESETS, *MACHINES))}; a file (*.calib.h5); or the beginning of an id",
        seen=kept,
        hint="labctl calib list   ·   labctl presets",
    )
