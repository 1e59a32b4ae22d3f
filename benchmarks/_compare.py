"""Two loops over one device, ours and the bare one of its library, turn and turn about."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from shutil import which
from statistics import median
from typing import Any

import numpy as np
from _common import Figure, figure
from numpy.typing import NDArray

GOAL = 0.9
SHORTEST_S = 0.25
"""A turn of a loop that nothing paces goes on for so long [s]."""
PATIENCE_S = 60.0


class Missing(Exception):
    """What a case needs is not installed."""


@dataclass(frozen=True)
class Pair:
    """Both loops. Each call opens the device, warms up, measures, closes it, and returns how many in a second [Hz]."""

    ours: Callable[[], float]
    bare: Callable[[], float]


def need_module(name: str) -> None:
    if find_spec(name) is None:
        raise Missing(f"{name} is not installed")


def need_program(name: str) -> str:
    path = which(name)
    if path is None:
        raise Missing(f"{name} is not installed")
    return path


def compared(name: str, pair: Pair, rounds: int, unit: str = "Hz") -> list[Figure]:
    """The median of the ratios of so many pairs of turns, and the median of each loop.

    The order changes with each pair, so that a load that comes or goes meets both alike.
    """
    ours, bare = [], []
    for number in range(rounds):
        for rates, loop in ((ours, pair.ours), (bare, pair.bare))[:: 1 - 2 * (number % 2)]:
            rates.append(loop())
    ratio = median(a / b for a, b in zip(ours, bare, strict=True))
    return [
        figure(f"{name}: driver / bare loop", ratio, "1", f"≥ {GOAL:g}", ratio >= GOAL),
        figure(f"{name}: driver", median(ours), unit),
        figure(f"{name}: bare loop", median(bare), unit),
    ]


def nothing(name: str, why: str) -> list[Figure]:
    """The figure of a case that was not measured."""
    return [figure(f"{name}: driver / bare loop ({why})", float("nan"), "1", f"≥ {GOAL:g}", None)]


def repeated(once: Callable[[], object], least: int) -> float:
    """How often in a second something can be done: ``least`` times, and `SHORTEST_S`, at least [Hz]."""
    for _ in range(max(2, least // 10)):
        once()
    count, start_s = 0, time.perf_counter()
    while count < least or time.perf_counter() < start_s + SHORTEST_S:
        once()
        count += 1
    return count / (time.perf_counter() - start_s)


def fetched(open_camera: Callable[[], Any], block: int, blocks: int) -> float:
    """Frames in a second through a driver, armed in blocks of ``block`` [Hz]."""
    with open_camera() as camera:
        camera.arm(block)
        camera.fetch(PATIENCE_S)
        start_s = time.perf_counter()
        for _ in range(blocks):
            camera.arm(block)
            camera.fetch(PATIENCE_S)
        return block * blocks / (time.perf_counter() - start_s)


def copied(next_frame: Callable[[], NDArray[Any]], block: int, blocks: int) -> float:
    """Frames in a second of a bare loop that copies each of ``block`` frames into one array of the user's [Hz].

    Parameters
    ----------
    next_frame
        Waits for the next frame; what it returns is valid until it is called again.
    """
    start_s = 0.0
    for number in range(blocks + 1):
        if number == 1:
            start_s = time.perf_counter()
        first = next_frame()
        frames = np.empty((block, *first.shape), first.dtype)
        frames[0] = first
        for index in range(1, block):
            frames[index] = next_frame()
    return block * blocks / (time.perf_counter() - start_s)


@contextmanager
def served(code: str, *arguments: str) -> Iterator[str]:
    """A server in a Python process of its own, which takes no time from either loop; yields the line that it prints.

    It ends when its standard input does.
    """
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline().strip()
        if not line:
            raise RuntimeError("the server does not start")
        yield line
    finally:
        child.stdin.close()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()
