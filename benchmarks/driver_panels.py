"""Panels: patterns in a second through each driver, and through a bare loop of its library.

Patterns change with each turn, and are there as arrays of the panel's type before the clock starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from _compare import Missing, Pair, need_module, need_program, repeated

from drivers import OpenContext, open_device

FULL_HD = 1080, 1920
PATTERNS = 60
"""Patterns that are shown in one turn, at least, for one block."""


def noise(shape: tuple[int, int]) -> Iterator[Any]:
    """Four patterns again and again."""
    return cycle(np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8))


def shown(open_panel: Callable[[], Any], blocks: int) -> float:
    """Patterns in a second through a driver [Hz]."""
    with open_panel() as panel:
        patterns = noise(panel.shape)
        return repeated(lambda: panel.show(next(patterns)), PATTERNS * blocks)


def opened(backend: str, **options: Any) -> Callable[[], Any]:
    return lambda: open_device(backend, "slm", options, OpenContext())


@contextmanager
def slmsuite(blocks: int) -> Iterator[Pair]:
    """slmsuite's simulated SLM of full HD, and a loop of its ``set_phase`` with integers."""
    need_module("slmsuite")
    from drivers.libraries.loading import load

    columns_rows = [FULL_HD[1], FULL_HD[0]]

    def bare() -> float:
        slm = load("slmsuite.hardware.slms.simulated:SimulatedSLM")(tuple(columns_rows), pitch_um=(8.0, 8.0))
        patterns = noise(FULL_HD)
        return repeated(lambda: slm.set_phase(next(patterns), settle=False), PATTERNS * blocks)

    table = {"target": "simulated", "arguments": {"resolution": columns_rows, "pitch_um": [8.0, 8.0]}}
    yield Pair(lambda: shown(opened("slmsuite.slm", settle_s=0.01, **table), blocks), bare)


def panel_class(refresh_hz: float | None) -> type:
    """An SLM of full HD in Python that copies what it is given, and shows it at its next refresh where it has one."""
    from pymmcore_plus.experimental.unicore import SLMDevice

    period_s = 0.0 if refresh_hz is None else 1 / refresh_hz

    class Panel(SLMDevice):
        def shape(self) -> tuple[int, ...]:
            return FULL_HD

        def dtype(self) -> Any:
            return np.uint8

        def set_image(self, pixels: Any) -> None:
            self.loaded = pixels.copy()

        def display_image(self) -> None:
            if period_s:
                time.sleep(period_s - time.monotonic() % period_s)
            self.seen = self.loaded

        def set_exposure(self, interval_ms: float) -> None:
            pass

        def get_exposure(self) -> float:
            return 0.0

    return Panel


@contextmanager
def micromanager(refresh_hz: float | None, blocks: int) -> Iterator[Pair]:
    """An SLM written in Python in pymmcore-plus's core, and a loop of ``setSLMImage`` and ``displaySLMImage``."""
    need_module("pymmcore_plus")
    from pymmcore_plus.experimental.unicore import UniMMCore

    globals()["Panel"] = panel_class(refresh_hz)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panel.cfg"
        path.write_text(f"#py pyDevice,SLM,{__name__},Panel\nProperty,Core,Initialize,1\n")

        def bare() -> float:
            core = UniMMCore()
            core.loadSystemConfiguration(str(path))
            patterns = noise(FULL_HD)

            def once() -> None:
                core.setSLMImage("SLM", next(patterns))
                core.displaySLMImage("SLM")
                core.waitForDevice("SLM")

            try:
                return repeated(once, PATTERNS * blocks)
            finally:
                core.unloadAllDevices()

        yield Pair(lambda: shown(opened("micromanager.slm", config=str(path)), blocks), bare)


@contextmanager
def screen(blocks: int) -> Iterator[Pair]:
    """The second monitor of an X server without a graphics card, full HD at 60 Hz, and a loop over GLFW and OpenGL.

    Nothing waits for a refresh there, so that both loops leave a refresh from one swap to the next, as a monitor does.
    """
    for module in ("glfw", "OpenGL", "mss"):
        need_module(module)
    for program in ("Xorg", "xrandr"):
        need_program(program)
    if sys.platform != "linux":
        raise Missing("the X server runs on Linux")
    from drivers.libraries.xserver import DummyX

    with DummyX([(1280, 1024), (1920, 1080)]) as server:
        os.environ.update(server.environment)

        def bare() -> float:
            window = Path(__file__).with_name("bare_window.py")
            command = [sys.executable, str(window), "DUMMY1", str(PATTERNS * blocks)]
            return float(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout))

        panel = opened("screen", monitor="DUMMY1")
        yield Pair(lambda: shown(panel, blocks), bare)
