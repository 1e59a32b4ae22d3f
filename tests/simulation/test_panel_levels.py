"""Products in light on panels of few and of many gray levels, folded against pass by pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sim_bench import calibrated, folded, quiet

from calibration.machine.lut import Lut
from simulation.light.optics import Optics, Panel
from simulation.light.pass_by_pass import pass_by_pass

LEVELS = (2, 4, 1024, 4096)


def curve(levels: int, gamma: float, floor: float) -> Lut:
    return Lut(floor + (1 - floor) * np.linspace(0, 1, levels) ** gamma, np.zeros(levels))


@pytest.mark.parametrize("gamma", [1.0, 2.2])
@pytest.mark.parametrize("levels", LEVELS)
def test_panel_shows_the_nearest_of_its_levels(levels: int, gamma: float) -> None:
    lut = curve(levels, gamma, 0.02)
    operand = np.random.default_rng(1).random(2000).astype(np.float32)
    shown = Panel.of(lut.transmission).show(operand)
    target = 0.02 + 0.98 * operand.astype(np.float64)
    exact = np.abs(lut.transmission - target[:, None]).min(axis=1)
    assert np.abs(np.abs(shown - target) - exact).max() < 1e-6  # float32; a tie may round either way
    assert np.abs(lut.transmission - shown[:, None]).min(axis=1).max() < 1e-6


@pytest.mark.parametrize("code", ["sign-split", "offset"])
@pytest.mark.parametrize("display", LEVELS)
@pytest.mark.parametrize("slm", LEVELS)
def test_product_is_that_of_its_passes(display: int, slm: int, code: str) -> None:
    calibration = calibrated(quiet(), code)
    machine = replace(calibration.machine, display=curve(display, 2.2, 0.004), slm=curve(slm, 1.8, 0.05))
    optics = replace(
        Optics.of(replace(calibration, machine=machine)), read_e=0.0, flicker=0.0, electrons=0.0, photons=0.0
    )
    rng = np.random.default_rng(7)
    weight = np.clip(rng.standard_normal((30, 50)) / 2.5, -1, 1)
    vectors = rng.standard_normal((3, 50)).astype(np.float32)
    exact = pass_by_pass(optics, weight, vectors, None)
    assert exact.std() > 0
    # float32 sums of K products; offset encoding takes small differences of large sums
    tolerance = 1e-4 if code == "offset" else 3e-6
    assert np.abs(folded(optics, weight, vectors) - exact).max() < tolerance * exact.std()
