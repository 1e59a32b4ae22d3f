"""A scale for each tile of inputs: exact without noise, better for outliers, counted by hand in light and joules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sim_bench import calibrated, loud
from torch import nn

from calibration.errors import OutOfDomain
from labctl.studies.simulate import Setting
from simulation.benches.backend import Benches
from simulation.benches.machines import MACHINES
from simulation.benches.opening import open_bench
from simulation.conversion.optical import optical_report, opticalize, set_light
from simulation.conversion.ranges import observe
from simulation.energy.constants import load_components
from simulation.energy.machine import CONVERSIONS, Machine, PhotonLaw
from simulation.energy.operations import MatrixProduct, Operations
from simulation.energy.pricing import price_optical
from simulation.light.accounting import Tally
from simulation.light.coarse import Bits
from simulation.light.optics import Optics, ideal
from simulation.light.settings import Noise
from simulation.models.gpt import GPT, GPTConfig

CPU = torch.device("cpu")
BOTH = ["compiled", "torch"]
N, K, M, TILE = 2, 10, 3, 4  # tiles of four, four and two inputs
FALSE_ALARM = 1e-3
Float = NDArray[np.float64]


def multiplied(
    x: Float, weight: Float, *, tile: int, optics: Optics | None = None, photons: float | None = None,
    backend: Any = "compiled",
) -> tuple[Float, Tally]:  # fmt: skip
    bench = open_bench(optics or ideal(), photons, "exact", encoding=f"tiled-scales:{tile}")
    there, tally, scale = Benches(bench, backend).on(CPU), Tally(), float(np.abs(weight).max())
    shown = there.show(torch.from_numpy(weight / scale).float()[None], static=True, operands=torch.float32)
    unit, vectors = torch.full((1,), scale), torch.from_numpy(x).float()[None]
    y = there.product(vectors, shown, Noise((1, 2)), tally, unit=unit)
    return y[0].double().numpy(), tally.settle()


def operands(n: int = N) -> tuple[Float, Float]:
    """With both signs in every tile of every vector."""
    rng = np.random.default_rng(3)
    x, weight = rng.uniform(0.1, 1, (n, K)), rng.standard_normal((M, K))
    x[:, 1::2] *= -1
    return x, weight


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("tile", [1, TILE, 7, 64])
def test_without_noise_it_is_the_product_whatever_the_outliers(backend, tile) -> None:
    x, weight = operands(6)
    x[0, 3], weight[:, 3], weight[1, :TILE] = 1e6, weight[:, 3] * 1e3, 0.0
    x[1] = 0.0
    y, _ = multiplied(x, weight, tile=tile, backend=backend)
    exact = x @ weight.T
    assert np.abs(y - exact).max() < 1e-4 * np.abs(exact).max()
    assert np.abs(y[2:] - exact[2:]).max() < 1e-4 * exact[2:].std()
    assert (y[1] == 0).all()


@pytest.mark.parametrize("tile", [1, 3])
@pytest.mark.parametrize("backend", BOTH)
def test_tile_of_one_input_is_no_noisier_than_its_light(monkeypatch, backend, tile) -> None:
    monkeypatch.setattr("simulation.light.weights.byte_products", lambda: True)  # wherever the test runs
    x, weight = operands(40)
    y, _ = multiplied(x, weight, tile=tile, photons=1e8, backend=backend)
    exact = x @ weight.T
    assert np.abs(y - exact).max() < 1e-3 * exact.std()  # of 1e8 photons and more the noise is below 1e-4 of a product


@pytest.mark.parametrize("backend", BOTH)
def test_a_whole_model_is_exact_without_noise(backend) -> None:
    config = GPTConfig(vocabulary=64, context=16, width=32, heads=2, blocks=2)
    model = GPT(config, torch.Generator().manual_seed(0)).eval()
    ids = torch.arange(16)[None]
    with torch.inference_mode():
        lit = opticalize(model, "ideal", encoding="tiled-scales:8", backend=backend)
        expected, found = model(ids), lit(ids)
    assert (found - expected).abs().max() < 1e-4 * expected.std()
    assert optical_report(lit).total.scales > 0


def test_an_outlier_takes_the_levels_of_its_own_tile_only() -> None:
    """Sixteen levels: beside an element of 100 the others are not shown at all, unless their tile has a scale."""
    weight, x = np.ones((1, 8)), np.r_[100.0, np.full(7, 0.7)][None]
    few = Bits(4, 4, 4).on(ideal())
    whole, _ = multiplied(x, weight, tile=8, optics=few)
    tiled, _ = multiplied(x, weight, tile=TILE, optics=few)
    assert whole[0, 0] == pytest.approx(100.0, rel=1e-5)
    assert tiled[0, 0] == pytest.approx(100.0 + 4 * 0.7, rel=1e-5)


@pytest.mark.parametrize("backend", BOTH)
def test_variance_is_that_of_each_tile_in_its_own_light(backend) -> None:
    """``var y = Σ_t A_t Σ_k |w_k| x_k / (n T)`` with A_t the sum of a tile's inputs, which get n photons each."""
    draws, photons = 4000, 5.0
    rng = np.random.default_rng(5)
    x, weight = rng.uniform(0, 1, (1, K)) * np.r_[np.full(TILE, 9.0), np.ones(K - TILE)], rng.standard_normal((M, K))
    y, tally = multiplied(np.repeat(x, draws, 0), weight, tile=TILE, photons=photons, backend=backend)
    expected = np.zeros(M)
    for a in range(0, K, TILE):
        part, w = x[0, a : a + TILE], weight[:, a : a + TILE]
        full = np.abs(w).max(1) * (1 + 2.0**-8)  # a weight of full transmission, to one part in 256
        expected += part.sum() / (photons * len(part)) * full * (np.abs(w) @ part)
    margin = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(2 / draws / M)
    assert (y.var(0) / expected).mean() == pytest.approx(1.0, abs=margin + 2.0**-8)
    assert tally.photons_per_mac == pytest.approx(photons, rel=1e-5)


def test_conversions_frames_and_scales_by_hand() -> None:
    """Two vectors of both signs by W⁺ and W⁻ in turn: 4 passes of 3 tiles; 10 inputs and 3 outputs in each."""
    x, weight = operands()
    _, tally = multiplied(x, weight, tile=TILE)
    assert (tally.products, tally.macs, tally.passes) == (N, N * 30, N * 4 * 30)
    assert tally.frames == N * 4 * 3 == 24
    assert tally.input_conversions == N * 4 * 10 == 80
    assert tally.output_conversions == N * 4 * 3 * 3 == 72
    assert tally.scales == N * 3 * (1 + 3) == 24
    twice = tally
    twice += multiplied(x, weight, tile=TILE)[1]
    assert twice.scales == 48


@pytest.fixture(scope="module")
def today():
    return load_components(Path(__file__).parents[2] / "data" / "energy" / "components.toml", "today")


def amounts(today, product: MatrixProduct, **of_machine: Any) -> dict[tuple[str, str], float]:
    machine = Machine(PhotonLaw(3.0), conversions=CONVERSIONS["sign-split-in-turn"], **of_machine)
    found: dict[tuple[str, str], float] = {}
    for row in price_optical(Operations(N, (product,)), machine, today).rows:
        constant = next((name for name, power in row.factors if power == 1), "")
        found[row.component, constant] = found.get((row.component, constant), 0.0) + row.amount
    return found


LINEAR = MatrixProduct("layer", "linear", N, K, M)


def test_a_bill_counts_what_the_bench_converts_and_the_scales(today) -> None:
    """Held, without a limit of size: 16 bits and two multiplications for each scale; 4 · 3 readings make one sum."""
    found = amounts(today, LINEAR, tile=TILE)
    _, tally = multiplied(*operands(), tile=TILE)
    assert found["DAC", "dac.energy"] == tally.input_conversions == 80
    assert found["ADC", "adc.energy"] == tally.output_conversions == 72
    assert found["digital sum", "digital.op"] == N * 3 * (4 * 3 - 1)
    assert found["scales", "memory.sram"] == 16 * tally.scales == 16 * 24
    assert found["scales", "digital.op"] == 2 * N * 3 * 3
    whole = amounts(today, LINEAR)
    assert whole["ADC", "adc.energy"] == N * 4 * 3
    assert ("scales", "digital.op") not in whole


def test_a_tile_that_the_array_cannot_hold_is_cut_and_keeps_its_scale(today) -> None:
    found = amounts(today, LINEAR, tile=TILE, array=(64, 3))
    assert found["ADC", "adc.energy"] == N * 4 * 3 * (2 + 2 + 1)
    assert found["scales", "digital.op"] == 2 * N * 3 * 3


def test_more_readings_need_more_light_where_receivers_are_noisy(today) -> None:
    whole, tiled = (amounts(today, LINEAR, **more)["light", "photon.energy"] for more in ({}, {"tile": 1}))
    assert tiled > 1.5 * whole


def test_scales_of_matrices_that_are_written_are_moved_with_them(today) -> None:
    attention = replace(LINEAR, kind="attention", batch=5)
    found = amounts(today, attention, tile=TILE)
    assert found["scales", "memory.sram"] == 5 * 16 * (N * 3 * (1 + 3) + 3 * 3)
    reloaded = amounts(today, LINEAR, tile=TILE, weights="reloaded")
    assert reloaded["scales", "memory.dram"] == 16 * 3 * 3


def test_readings_are_rounded_in_units_of_both_scales() -> None:
    """Against the same in numpy: each tile's reading on seven steps of the largest that a batch had."""
    x, weight = operands(5)
    layer = nn.Linear(K, M, bias=False)
    layer.weight.data = torch.from_numpy(weight).float()
    model, vectors = nn.Sequential(layer), torch.from_numpy(x).float()
    ranges = observe(model, [vectors], tile=TILE)
    (found,) = ranges.values()
    assert found.input == np.inf
    lit = opticalize(model, "ideal", ranges={n: replace(r, steps=7) for n, r in ranges.items()},
                     encoding=f"tiled-scales:{TILE}")  # fmt: skip
    expected, step = np.zeros((5, M)), found.output / 7
    largest, full = 0.0, np.abs(weight).max()
    weight = weight / full
    for a in range(0, K, TILE):
        r, s = (np.abs(part[:, a : a + TILE]).max(1) for part in (x, weight))
        r, s = (np.asarray(torch.from_numpy(each * (1 + 2**-8)).float().bfloat16().double()) for each in (r, s))
        read = (x[:, a : a + TILE] / r[:, None]) @ (weight[:, a : a + TILE] / s[:, None]).T
        largest = max(largest, float(np.abs(read).max()))
        expected += np.clip(np.rint(read / step), -7, 7) * step * r[:, None] * s * full
    assert found.output == pytest.approx(largest, rel=1e-5)
    assert np.abs(lit(vectors).detach().double().numpy() - expected).max() < 1e-5


def test_ranges_of_other_readings_are_refused() -> None:
    model, batch = nn.Sequential(nn.Linear(K, M)), torch.ones(2, K)
    for tile, encoding in ((0, "tiled-scales:4"), (4, None), (4, "tiled-scales:8")):
        with pytest.raises(OutOfDomain, match="other readings"):
            opticalize(model, "ideal", ranges=observe(model, [batch], tile=tile), encoding=encoding)


def test_what_has_no_tiles_is_refused(today) -> None:
    with pytest.raises(OutOfDomain, match="one input at least"):
        open_bench("ideal", None, "exact", encoding="tiled-scales:0")
    with pytest.raises(OutOfDomain, match="own way"):
        open_bench("hamerly-2019", None, "exact", encoding="tiled-scales:8")
    with pytest.raises(OutOfDomain, match="nothing is clipped"):
        Setting(clip=99.0, encoding="tiled-scales:8").bench("ideal")
    for conversions, tile in (("offset", 8), ("sign-split", 0)):
        with pytest.raises(OutOfDomain, match="signs are split"):
            Machine(PhotonLaw(1.0), conversions=CONVERSIONS[conversions], tile=tile)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("bench", ["calibrated", "wang-2022"])
def test_benches_of_ones_own_can(bench, backend) -> None:
    """A tile of 32 inputs is more than the 20 columns of this bench, which cuts it further."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((40, 50)), rng.standard_normal((30, 50))
    optics = Optics.of(calibrated(loud())) if bench == "calibrated" else MACHINES[bench]
    y, tally = multiplied(x, weight, tile=32, optics=optics, photons=1e7, backend=backend)
    exact = x @ weight.T
    assert (y - exact).std() < 0.05 * exact.std()
    assert tally.frames > 0


@pytest.mark.parametrize("backend", BOTH)
def test_light_can_be_changed_and_matrices_stay(backend) -> None:
    model, x = nn.Sequential(nn.Linear(50, 30)), torch.rand(40, 50)
    lit = opticalize(model, "ideal", photons_per_mac=1.0, encoding="tiled-scales:16", backend=backend)
    exact = model(x)
    dim = float((lit(x) - exact).detach().std())
    set_light(lit, 10_000.0)
    assert float((lit(x) - exact).detach().std()) == pytest.approx(dim / 100, rel=0.2)
