"""A calibrated bench for the tests of the simulation, and single products on it, folded and pass by pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from calibration.machine.artefact import Calibration, Domain
from calibration.machine.channel import Channel, Couplings
from calibration.machine.encoding import encoding
from calibration.machine.findings import Findings
from calibration.machine.layout import Layout
from calibration.machine.lut import Lut
from calibration.machine.machine import Machine
from calibration.machine.noise import Noise
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.settings import Noise as NoiseState
from simulation.light.settings import Variance

ROWS, COLUMNS = 24, 20


def lut(floor: float, gamma: float, stderr: float = 0.0) -> Lut:
    return Lut(floor + (1 - floor) * np.linspace(0, 1, 256) ** gamma, np.full(256, stderr))


def calibrated(
    noise: Noise, code: str = "sign-split", seed: int = 0, stderr: float = 0.0, *, single: bool = False
) -> Calibration:
    """``stderr`` of every fitted number, relative to a typical one; ``single``: macropixels differ."""
    rng = np.random.default_rng(seed)
    crosstalk = np.full((ROWS, 2), 0.02)
    crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    gain = rng.uniform(9000, 12000, (ROWS, COLUMNS))
    bleed = np.array([0.003, 0.004])
    channel = Channel(
        gain, gain * stderr, rng.uniform(0, 500, ROWS), np.full(ROWS, 500 * stderr), crosstalk,
        crosstalk * stderr, bleed, bleed * stderr, noise, couplings(gain, rng, stderr) if single else None,
    )  # fmt: skip
    layout = Layout((ROWS * 6, COLUMNS * 8), ROWS, COLUMNS, 6, 8, 4, 4)
    machine = Machine(layout, lut(0.004, 2.2, 0.1 * stderr), lut(0.05, 1.8, 0.1 * stderr), channel, encoding(code))
    domain = Domain(0.01, ROWS, COLUMNS, 0.5, 525.0)
    return Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Findings(), {})


def couplings(gain: NDArray[np.float64], rng: np.random.Generator, stderr: float) -> Couplings:
    """Shares that differ by more than the common ones are large; a dark SLM whose light spreads as it likes."""
    shares = rng.uniform(0.0, 0.04, (4, ROWS, COLUMNS))
    shares[0, :, 0] = shares[1, :, -1] = shares[2, 0] = shares[3, -1] = 0.0
    dark = 0.05 * gain * rng.uniform(0.9, 1.1, gain.shape)
    return Couplings(*shares, dark, 0.05, shares * stderr, dark * stderr)


def quiet() -> Noise:
    return Noise(1e-6, 1e-9, 0.0, np.zeros(3))


def loud() -> Noise:
    return Noise(150.0, 4.0, 1e-4, np.zeros(3))


def folded(
    optics: Optics,
    weight: NDArray[np.float64],
    vectors: NDArray[np.float32],
    photons_per_mac: float | None = None,
    *,
    variance: Variance = "exact",
    attention: bool = False,
    tally: Tally | None = None,
) -> NDArray[np.float32]:
    """The counterpart of `simulation.light.pass_by_pass.pass_by_pass`."""
    bench = Bench(optics, photons_per_mac, variance)
    shown = bench.place(weight.shape).show(torch.from_numpy(weight).float()[None], static=not attention)
    x = torch.from_numpy(vectors)[None]
    y = bench.product(x, shown, NoiseState((1, 2)), tally or Tally(), unit=torch.ones(1), attention=attention)
    return y[0].numpy()
