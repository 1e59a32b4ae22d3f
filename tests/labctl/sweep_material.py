"""Material of sweeps that needs no model, and can kill the worker it runs on. Imported by the workers too."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labctl.studies.sweep import on_processes
from simulation.scaling.evaluate import Material
from simulation.scaling.fingerprint import code_version
from simulation.scaling.points import Point, Windows


def points(count: int) -> list[Point]:
    return [Point("model", "ideal", 10.0, seed, "text", 32, 32, code_version()) for seed in range(count)]


@dataclass(frozen=True)
class Counting(Material):
    """Every point finds its own seed, after a while."""

    takes_s: float = 0.0

    def score(self, point: Point) -> Windows:
        time.sleep(self.takes_s)
        return Windows(np.array([point.seed + 0.5]), np.array([32.0]))


@dataclass(frozen=True)
class Deadly(Counting):
    """One seed kills its worker once, another one always."""

    folder: str = ""
    once: int = -1
    always: int = -1

    def score(self, point: Point) -> Windows:
        died = Path(self.folder) / "died"
        if point.seed == self.always or (point.seed == self.once and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(point)


@dataclass(frozen=True)
class Named(Material):
    """Finds the process that it is in, and for one seed gets Ctrl-C there."""

    interrupted: int = -1

    def score(self, point: Point) -> int:  # type: ignore[override]
        if point.seed == self.interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1e6)
        return os.getpid()


@dataclass(frozen=True)
class Endless(Material):
    """Says which process has begun, and never ends."""

    folder: str = ""

    def score(self, point: Point) -> Windows:
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(1e6)
        raise AssertionError


def ending(folder: str) -> None:
    """A sweep on two processes, until somebody ends it."""
    list(on_processes(2)(Endless({}, "ideal", folder=folder), points(2)))
