"""The compiled loops that look after matrices, against NumPy, SciPy and torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_banded
from sim_bench import calibrated, loud

from simulation.conversion.changes import checksum
from simulation.conversion.quantise import clip_scale
from simulation.light.accounting import Tally
from simulation.light.elements import spill_over, tile_moments, weigh_and_clip, weigh_neighbours
from simulation.light.few import FEW_ROWS
from simulation.light.multiplying import multiply, multiply_halves
from simulation.light.optics import Optics, Panel
from simulation.light.product import Bench
from simulation.light.settings import VARIANCES, Noise, Variance
from simulation.light.showing import multiply_few
from simulation.light.weights import Placement

Float = NDArray[np.float32]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 5), (64, 48), (40, 1024)])
def test_checksum_notices_every_bit_of_every_number(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    raw = weight.view(torch.uint8).numpy().reshape(-1)
    before, seen = checksum(weight), set()
    for byte in {*range(0, raw.size, max(1, raw.size // 40)), raw.size - 1}:
        for bit in range(8):
            raw[byte] ^= 1 << bit
            seen.add(checksum(weight))
            raw[byte] ^= 1 << bit
            assert checksum(weight) == before
    assert before not in seen
    assert len(seen) == 8 * len({*range(0, raw.size, max(1, raw.size // 40)), raw.size - 1})


def test_checksum_notices_what_cancels_in_a_sum() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    before = checksum(weight)
    changed = {
        "signs of two": lambda w: w[0, 1:4:2].neg_(),
        "all signs": lambda w: w.neg_(),
        "every other sign": lambda w: w[:, ::2].neg_(),
        "signs of pairs": lambda w: w[:, :2].neg_(),
        "doubled": lambda w: w.mul_(2),
        "no longer zero, but minus zero": lambda w: w.copy_(torch.zeros(64, 64).neg_()),
        "zero": lambda w: w.zero_(),
        "two exchanged": lambda w: w[0, :4].copy_(w[0, [2, 1, 0, 3]]),
        "rows exchanged": lambda w: w.copy_(w.flip(0)),
        "a thousand numbers on": lambda w: w.copy_(w.flatten().roll(1024).view(64, 64)),
    }
    for how, change in changed.items():
        other = weight.clone()
        change(other)
        assert checksum(other) != before, how
    assert checksum(weight.mT.contiguous().mT) != 0, "stored the other way round"
    assert checksum(weight[:, ::2]) == checksum(weight[:, ::2].contiguous())
    assert checksum(torch.cat([torch.ones(1), weight.flatten()])[1:].view(64, 64)) == before, "at an odd address"


@pytest.mark.parametrize("percentile", [0.01, 50.0, 98.0, 99.99, 100.0])
@pytest.mark.parametrize("kind", ["normal", "few", "tiny", "huge", "whole", "one"])
def test_clip_is_the_number_that_sorting_finds(percentile: float, kind: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 17, 23)).astype(np.float32)
    x = {
        "normal": x,
        "few": x * (rng.random(x.shape) > 0.2),
        "tiny": x * np.float32(1e-40),
        "huge": x * np.float32(1e38),
        "whole": x.round(),
        "one": np.ones_like(x),
    }[kind]
    magnitudes = np.sort(np.abs(x).reshape(3, -1), axis=1)
    expected = magnitudes[:, max(1, int(np.ceil(percentile / 100 * magnitudes.shape[1]))) - 1]
    expected = np.where(expected > 0, expected, magnitudes[:, -1])
    np.testing.assert_array_equal(clip_scale(torch.from_numpy(x), percentile).flatten().numpy(), expected)


def test_what_is_done_to_matrices_in_one_loop_is_what_the_steps_do(rng: np.random.Generator) -> None:
    weight, taps = rng.standard_normal((4, 9), np.float32), rng.standard_normal((5, 9))
    step, one = np.empty((4, 9)), np.empty((4, 9), np.float32)
    weigh_neighbours(weight.astype(np.float64), taps, step)
    weigh_and_clip(weight, taps, one)
    np.testing.assert_array_equal(one, np.clip(step, -1, 1).astype(np.float32))
    parts, factor = rng.uniform(-0.2, 1.3, (2, 3, 5000)).astype(np.float32), rng.random((3, 5000), np.float32)
    panel = Panel.of(np.linspace(0.02, 1, 256) ** 1.6)
    np.testing.assert_array_equal(panel.show(parts, factor), panel.show(parts * factor))


@pytest.mark.parametrize("light", [None, 0.5, 3000.0])
@pytest.mark.parametrize("variance", VARIANCES)
def test_a_product_in_one_call_is_that_of_its_steps(
    light: float | None, variance: Variance, rng: np.random.Generator
) -> None:
    optics = Optics.of(calibrated(loud()))
    x = torch.from_numpy(rng.standard_normal((3, 2, 20), np.float32))
    x[0, 0], x[1, 1, 3], x[2] = x[0, 0].abs(), torch.nan, 0.0  # one pass alone, what is not known, and darkness
    matrices = torch.from_numpy(rng.uniform(-1, 1, (3, 24, 20)).astype(np.float32))
    found, tallies = [], (Tally(), Tally())
    for tally, in_one in zip(tallies, (True, False), strict=True):
        bench = Bench(replace(optics, flicker=0.01), light, variance)
        assert bench._in_one_light
        vars(bench)["_in_one_light"] = in_one
        shown = bench.show(matrices, static=False)
        found.append(bench.product(x, shown, Noise((1, 2)), tally, unit=torch.ones(3)).numpy())
    np.testing.assert_array_equal(*found)
    assert tallies[0] == tallies[1]


@pytest.mark.parametrize("flicker", [0.0, 0.01])
@pytest.mark.parametrize("device_seed", [None, 5])
def test_matrices_shown_in_one_call_are_those_of_its_steps(
    device_seed: int | None, flicker: float, rng: np.random.Generator
) -> None:
    optics = replace(Optics.of(calibrated(loud(), stderr=0.01), device_seed=device_seed), flicker=flicker)
    scaled = torch.from_numpy(rng.uniform(-1.2, 1.2, (3, 45, 50)).astype(np.float32))
    scaled[0, 0], scaled[1, :, 2] = 0.0, -0.0
    placement = Placement(optics, (45, 50))
    assert placement.elements is not None
    at_once = placement.show(scaled, static=False)
    vars(placement)["_elements"] = None
    by_steps = placement.show(scaled, static=False)
    for name, expected in vars(by_steps).items():
        if expected is not None:  # sums are added up in another order
            torch.testing.assert_close(getattr(at_once, name), expected, rtol=1e-5, atol=1e-6, msg=name)
    for name in ("signed", "light"):
        torch.testing.assert_close(getattr(at_once, name), getattr(by_steps, name), rtol=0, atol=0)


@pytest.mark.parametrize("light", [None, 0.5, 3000.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_few_vectors_at_once_are_what_the_steps_make_of_them(
    light: float | None, batch: int, rng: np.random.Generator
) -> None:
    """Products are added up in another order: a few units in the last place, or one count of thousands."""
    optics = replace(Optics.of(calibrated(loud())), flicker=0.01)
    x = torch.from_numpy(rng.standard_normal((batch, FEW_ROWS, 300), np.float32))
    x[0, 0], x[-1, 1] = x[0, 0].abs(), 0.0
    matrices = torch.from_numpy(rng.uniform(-1, 1, (batch, 50, 300)).astype(np.float32))
    found, tallies, noises = [], (Tally(), Tally()), (Noise((1, 2)), Noise((1, 2)))
    for tally, noise, in_one in zip(tallies, noises, (True, False), strict=True):
        bench = Bench(optics, light, "exact")
        vars(bench)["_in_one_light"] = in_one
        shown, told = bench.show(matrices, static=True), {"unit": torch.ones(batch), "bias": torch.ones(50)}
        y = bench.at_once(x, shown, noise, tally, **told) if in_one else bench.product(x, shown, noise, tally, **told)
        assert y is not None
        found.append(y.numpy())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=2e-3)
    assert np.mean(np.abs(found[0] - found[1]) > 1e-4) < 0.01
    assert noises[0] == noises[1]
    assert tallies[0].electrons == pytest.approx(tallies[1].electrons, rel=1e-5)
    assert replace(tallies[0], electrons=0) == replace(tallies[1], electrons=0)


def test_vectors_that_are_many_or_not_finite_are_not_multiplied_at_once(rng: np.random.Generator) -> None:
    bench, tally, noise = Bench(Optics.of(calibrated(loud())), None, "exact"), Tally(), Noise((1, 2))
    shown = bench.show(torch.from_numpy(rng.uniform(-1, 1, (1, 24, 20)).astype(np.float32)), static=True)
    for x in (torch.full((1, 2, 20), torch.inf), torch.full((1, 1, 20), torch.nan), torch.ones(1, FEW_ROWS + 1, 20)):
        assert bench.at_once(x, shown, noise, tally, unit=torch.ones(1)) is None
    assert (tally, noise) == (Tally(), Noise((1, 2)))


def test_neighbours_are_weighed_and_light_spills_over(rng: np.random.Generator) -> None:
    weight, taps = rng.standard_normal((4, 9)), rng.standard_normal((5, 9))
    out = np.empty_like(weight)
    weigh_neighbours(weight, taps, out)
    matrix = sum(np.diag(taps[j, max(0, 2 - j) : 9 - max(0, j - 2)], j - 2) for j in range(5))
    np.testing.assert_allclose(out, weight @ np.asarray(matrix).T, rtol=1e-12)

    shown, gain = rng.random((2, 5, 7), np.float32), rng.random((5, 7), np.float32)
    outputs, inputs = rng.random((2, 5), np.float32), rng.random((3, 7), np.float32)
    spilt = np.empty_like(shown)
    spill_over(shown, gain, outputs, inputs, spilt)
    across = np.eye(5) + np.diag(outputs[0, 1:], 1) + np.diag(outputs[1, :-1], -1)
    along = np.diag(inputs[0]) + np.diag(inputs[1, 1:], -1) + np.diag(inputs[2, :-1], 1)
    np.testing.assert_allclose(spilt, across @ (shown * gain) @ along, rtol=1e-5)


def test_bleed_is_undone_as_a_banded_solver_does(rng: np.random.Generator) -> None:
    from calibration.machine.channel import Channel
    from calibration.machine.noise import Noise
    from simulation.light.spill import Spill

    zero, bleed = np.zeros, np.array([0.03, 0.05])
    channel = Channel(
        np.ones((6, 8)), zero((6, 8)), zero(6), zero(6), zero((6, 2)), zero((6, 2)), bleed, zero(2),
        Noise(1.0, 1.0, 0.0, zero(3)),
    )  # fmt: skip
    weight = rng.standard_normal((6, 16))
    found = Spill(channel, np.array([0, 6]), np.array([0, 8, 16]), 1.0).compensate(weight)
    bands = np.stack([np.full(8, bleed[0]), np.full(8, 1 - bleed.sum()), np.full(8, bleed[1])])
    for tile in (slice(0, 8), slice(8, 16)):
        np.testing.assert_allclose(found[:, tile], solve_banded((1, 1), bands, weight[:, tile].T).T, atol=1e-10)


def test_moments_of_tiles_are_those_of_numpy(rng: np.random.Generator) -> None:
    shown = rng.random((2, 3, 10, 12), np.float32)
    rows, columns = np.array([0, 4, 10]), np.array([0, 5, 12])
    planes, scatter = np.empty((3, 2, 2, 2), np.float32), np.empty((3, 2, 2, 2), np.float32)
    by_column = np.empty((3, 2, 12), np.float32)
    tile_moments(shown, rows, columns, planes, scatter, by_column)
    for r, t in np.ndindex(2, 2):
        tile = shown[:, :, rows[r] : rows[r + 1], columns[t] : columns[t + 1]]
        np.testing.assert_allclose(planes[:, r, :, t], tile.mean((2, 3)).T, rtol=1e-5)
        np.testing.assert_allclose(scatter[:, r, :, t], tile.var(2).mean(2).T, rtol=1e-4)
    np.testing.assert_allclose(by_column, shown.mean(2).swapaxes(0, 1), rtol=1e-5)


@pytest.mark.parametrize("count", [1, FEW_ROWS, FEW_ROWS + 1, 64])
@pytest.mark.parametrize("batch", [1, 3])
def test_products_of_floats_are_those_of_doubles(count: int, batch: int, rng: np.random.Generator) -> None:
    """300 roundings of partial sums of about 17, 6e-8 of them each: 2e-5, and five times that at the most."""
    x = rng.standard_normal((batch * count, 300), np.float32)
    w = rng.standard_normal((batch, 40, 300), np.float32)
    exact = np.einsum("bnk,bmk->bnm", x.reshape(batch, count, 300).astype(float), w.astype(float)).reshape(-1, 40)
    np.testing.assert_allclose(multiply(x, torch.from_numpy(w), batch), exact, atol=1e-4)
    few = np.empty((batch * count, 40), np.float32)
    multiply_few(x, w[0], few)
    np.testing.assert_allclose(few, x.astype(float) @ w[0].T.astype(float), atol=1e-4)


def test_variance_by_bfloat16_is_known_to_half_a_percent(rng: np.random.Generator) -> None:
    """Light is positive, so nothing cancels: two operands and a result are rounded, by 2⁻⁸ at most, 2⁻⁸ / √3 rms."""
    light = np.exp(rng.standard_normal((2, 50, 768), np.float32) * 2)
    bright = np.exp(rng.standard_normal((2 * 32, 768), np.float32) * 2)
    exact = multiply(bright, torch.from_numpy(light), 2)
    error = multiply_halves(bright, torch.from_numpy(light).bfloat16(), 2) / exact - 1
    assert np.abs(error).max() < 3 * 2**-8
    assert np.sqrt(np.mean(error**2)) < 2**-8
    assert abs(error.mean()) < 3e-4
