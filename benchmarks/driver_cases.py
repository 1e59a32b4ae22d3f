"""The cases of `drivers.py`, each measured in a process of its own: ``python benchmarks/driver_cases.py CASE``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path

from _common import Figure
from _compare import Missing, Pair, compared, nothing

LONGEST_S = 150.0

CASES: dict[str, tuple[str, str, tuple[object, ...], str]] = {
    "basler, full HD, 12 bit, 60 Hz": ("driver_cameras", "basler", (60.0, (1080, 1920), "Mono12"), "Hz"),
    "basler, 1024 × 1024, 8 bit, as it exposes": ("driver_cameras", "basler", (None, (1024, 1024), "Mono8"), "Hz"),
    "micromanager.camera, 8 bit": ("driver_cameras", "micromanager", (8,), "Hz"),
    "micromanager.camera, 12 bit": ("driver_cameras", "micromanager", (12,), "Hz"),
    "genicam.gentl": ("driver_cameras", "gentl", (), "Hz"),
    "genicam.gige, viva-genicam's camera": ("driver_cameras", "gige", (), "Hz"),
    "genicam.gige, Aravis' camera": ("driver_cameras", "aravis", (), "Hz"),
    "genicam.usb3": ("driver_cameras", "usb3", (), "Hz"),
    "opencv, stream": ("driver_cameras", "opencv_stream", (), "Hz"),
    "opencv, 16-bit images, full HD": ("driver_cameras", "opencv_images", (), "Hz"),
    "opencv, video": ("driver_cameras", "opencv_video", (), "Hz"),
    "slmsuite.camera": ("driver_cameras", "slmsuite", (), "Hz"),
    "replay, full HD": ("driver_cameras", "replay", (), "Hz"),
    "slmsuite.slm, full HD": ("driver_panels", "slmsuite", (), "Hz"),
    "micromanager.slm, full HD, 60 Hz": ("driver_panels", "micromanager", (60.0,), "Hz"),
    "micromanager.slm, full HD, panel without a refresh": ("driver_panels", "micromanager", (None,), "Hz"),
    "screen, full HD, 60 Hz": ("driver_panels", "screen", (), "Hz"),
    "scpi.monitor": ("driver_wires", "scpi", (False,), "Hz"),
    "scpi.monitor, settings read back": ("driver_wires", "scpi", (True,), "Hz"),
    "serial.monitor": ("driver_wires", "serial", (), "Hz"),
    "serial.source, on and off": ("driver_wires", "switched", (), "Hz"),
}
"""Name: module, function, its arguments before the number of blocks, unit."""


def figures(name: str, quick: bool) -> list[Figure]:
    """Measured in a child process; why not, where it fails."""
    here = Path(__file__)
    command = [sys.executable, str(here), name, *(["--quick"] if quick else [])]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        return nothing(name, f"not done within {LONGEST_S:g} s")
    lines = child.stdout.strip().splitlines()
    if child.returncode or not lines:
        said = child.stderr.strip().splitlines() or ["nothing"]
        print(child.stderr, file=sys.stderr)
        return nothing(name, f"failed: {said[-1]}")
    found: list[Figure] = json.loads(lines[-1])
    return found


def measured(name: str, quick: bool) -> list[Figure]:
    """In this process."""
    module, function, arguments, unit = CASES[name]
    case: Callable[..., AbstractContextManager[Pair]] = getattr(import_module(module), function)
    try:
        with case(*arguments, 1 if quick else 2) as pair:
            return compared(name, pair, 3 if quick else 5, unit)
    except Missing as error:
        return nothing(name, str(error))


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], "--quick" in sys.argv[2:]), allow_nan=False))
