"""A calibrated bench, and contestants timed side by side, for the benchmarks of simulating."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from calibration.machine.artefact import Calibration, Domain
from calibration.machine.channel import Channel
from calibration.machine.encoding import encoding
from calibration.machine.findings import Findings
from calibration.machine.layout import Layout
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise

Contestants = dict[str, Callable[[], object]]
Figure = dict[str, Any]


def bench(rows: int = 128, columns: int = 128) -> Calibration:
    """A calibrated bench of that size: gains, crosstalk and bleed of a few per cent, gamma curves, flicker."""
    rng = np.random.default_rng(0)
    crosstalk = np.full((rows, 2), 0.02)
    crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    gain = rng.uniform(9000, 12000, (rows, columns))
    zero = np.zeros
    channel = Channel(
        gain, zero(gain.shape), zero(rows), zero(rows), crosstalk, zero((rows, 2)), np.array([0.003, 0.004]), zero(2),
        Noise(150.0, 4.0, 1e-3, zero(3)),
    )  # fmt: skip
    luts = (Lut(f + (1 - f) * np.linspace(0, 1, 256) ** g, zero(256)) for f, g in ((1e-5, 2.2), (0.02, 1.6)))
    layout = Layout((rows * 6, columns * 6), rows, columns, 6, 6, 5, 5)
    machine = Machine(layout, *luts, channel, encoding("sign-split"))
    domain = Domain(0.02, rows, columns, 0.7, 525.0)
    return Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {})


def ratios(contestants: Contestants, rounds: int, *, train: bool = False) -> dict[str, tuple[float, float]]:
    """Median ratio of each contestant to the first one within a round, and its own median time [ms].

    Processor time, which other processes do not count in; of several threads the time that passes, which they shorten.
    """
    names, now = list(contestants), time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    took: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode(not train):
        for call in contestants.values():
            call(), call()
        for r in range(rounds):
            for name in names[r % len(names) :] + names[: r % len(names)]:
                call = contestants[name]
                call()  # its own weights into the caches
                start = now()
                call()
                took[name].append(now() - start)
    base = np.array(took[names[0]])
    return {n: (float(np.median(np.array(t) / base)), 1e3 * float(np.median(t))) for n, t in took.items()}


def figure(name: str, value: float, unit: str, goal: float | None = None) -> Figure:
    reached = None if goal is None or math.isnan(value) else value <= goal
    return {
        "name": name, "value": round(value, 3), "unit": unit, "goal": "" if goal is None else f"≤ {goal:g}",
        "reached": reached,
    }  # fmt: skip
