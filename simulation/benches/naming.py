"""From what somebody calls a bench to what it is: a preset's name, a file, or the id of a calibration in an archive."""

from __future__ import annotations

import os
from pathlib import Path

from calibration.loading import load_calibration
from calibration.naming import file_meant
from groundwork.opening.regular import is_file
from simulation.benches.machines import MACHINES
from simulation.benches.opening import Source
from simulation.light.optics import PRESETS


def named(source: Source | Path) -> Source:
    """What a name or path means; anything else as it is.

    A preset or a published machine comes first, then a file, then a calibration of the archive: by the beginning of its
    id, by the name of the bench that it is applied to, or ``latest`` (`calibration.naming.ids_meant`).

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
    if is_file(name):
        return load_calibration(name)
    others = f"one of {', '.join((*PRESETS, *MACHINES))}; or "
    return load_calibration(file_meant(name, "calibrations or presets", others))
