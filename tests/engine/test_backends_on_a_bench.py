"""A calibration that was measured, under both backends: levels, couplings and noise as a fit gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calibration.machine.artefact import load
from simulation.benches.backend import Benches
from simulation.light import product, weights
from simulation.light.accounting import Tally
from simulation.light.optics import Optics
from simulation.light.product import Bench
from simulation.light.settings import AS_IS, Noise


@pytest.mark.parametrize("photons", [None, 30.0, 1000.0])
def test_a_measured_bench_draws_the_same_numbers_with_both_backends(
    measured_once: Path, photons: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "byte_products", lambda: False)
    monkeypatch.setattr(product, "half_products", lambda: False)
    optics = Optics.of(load(next((measured_once / "calibrations").glob("*.calib.h5"))), device_seed=4)
    torch.manual_seed(0)
    matrix, x = torch.randn(1, 40, 50).mul(0.4).clamp(-1, 1), torch.randn(1, 200, 50)
    found, taken = [], []
    for backend in ("compiled", "torch"):
        bench, tally = Benches(Bench(optics, photons, "exact"), backend).on(torch.device("cpu")), Tally()  # type: ignore[arg-type]
        shown = bench.show(matrix, static=True, operands=torch.float32)
        more = {"unit": torch.ones(1), "bias": None, "converters": AS_IS, "attention": False}
        found.append(bench.product(x, shown, Noise((3, 4)), tally, **more))
        taken.append(tally)
    exact = x @ matrix.mT
    noise = float((found[0] - exact).std())
    assert 1e-3 < noise / float(exact.std()) < 30
    difference = (found[0] - found[1]).abs()
    # all but counts and levels next door, where a number lies within float rounding of the edge between two
    assert float((difference > 1e-4 * exact.std()).float().mean()) < 0.02
    assert float(difference.square().mean().sqrt()) < 0.03 * noise
    assert taken[0].electrons == pytest.approx(taken[1].electrons, rel=1e-4)
    assert taken[0].passes == taken[1].passes
