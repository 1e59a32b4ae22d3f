"""One suite for all ways to multiply signed numbers with light: against closed forms, and frame by frame.

Seeds are fixed. Were they not, each test would fail by chance about once in a thousand runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from calibration.errors import OutOfDomain
from calibration.machine.encoding import encoding as machine_encoding
from calibration.machine.layout import Layout
from simulation.benches.families import FAMILIES, family
from simulation.benches.opening import open_bench
from simulation.conversion.optical import optical_report, opticalize
from simulation.light.accounting import Tally
from simulation.light.optics import Optics, ideal, paper
from simulation.light.settings import Noise

M, K = 10, 42
ROWS, COLUMNS = 8, 16  # of a tile of the machine
HIGH, WIDE = 5, 14  # of the six equal tiles into which the matrix is cut
PHOTONS, EFFICIENCY = 30.0, 0.6
FALSE_ALARM = 1e-3
NAMES = [*FAMILIES, "partial-sums:10"]
Float = NDArray[np.float64]


def machine() -> Optics:
    layout = Layout((ROWS, COLUMNS), ROWS, COLUMNS, 1, 1, 1, 1)
    return replace(ideal(), layout=layout, quantum_efficiency=EFFICIENCY)


def operands(rows: int) -> tuple[Float, Float]:
    rng = np.random.default_rng(7)
    weight = np.clip(rng.standard_normal((M, K)) / 2.5, -1, 1)
    vectors = np.clip(rng.standard_normal((rows, K)) / 2, -1, 1)
    vectors[:, 0] = 1.0  # the scale of a vector is its largest number
    vectors[:, :WIDE] = np.abs(vectors[:, :WIDE])  # one tile has no negative input: its pass is not shown
    return weight, vectors


def multiplied(
    name: str, weight: Float, vectors: Float, photons: float | None, *, optics: Optics | None = None, seed: int = 1
) -> tuple[Float, Tally]:
    bench, tally = open_bench(optics or machine(), photons, "exact", encoding=name), Tally()
    shown = bench.show(torch.from_numpy(weight).float()[None], static=True)
    x = torch.from_numpy(vectors).float()[None]
    return bench.product(x, shown, Noise((seed, 2)), tally, unit=torch.ones(1))[0].double().numpy(), tally


def electrons_per_unit(name: str, vectors: Float, photons: float = PHOTONS) -> Float:
    """(n,) electrons of one element of the weight plane under a full input, by what a photon per MAC means."""
    budget = EFFICIENCY * photons
    if name == "coherent":
        return budget * K / np.square(vectors).sum(1)
    if name == "offset":
        return budget * K / ((1 + vectors) / 2).sum(1)
    columns = np.zeros(len(vectors))
    for part in (np.maximum(vectors, 0), np.maximum(-vectors, 0)):
        for a in range(0, K, WIDE):
            columns += part[:, a : a + WIDE].any(1) * WIDE
    return budget * columns / np.abs(vectors).sum(1)


def variance(name: str, weight: Float, vectors: Float) -> Float:
    """(n, M) by the closed form of each family."""
    e = electrons_per_unit(name, vectors)[:, None]
    if name == "coherent":
        return np.broadcast_to(K / WIDE * COLUMNS / (4 * e), (len(vectors), M))
    if name == "offset":
        return 16 * ((1 + vectors) / 2) @ ((1 + weight) / 2).T / e
    if name == "differential":
        return np.broadcast_to(np.abs(vectors).sum(1, keepdims=True) / e, (len(vectors), M))
    return np.abs(vectors) @ np.abs(weight).T / e


@dataclass
class Counted:
    """What frames took, counted one by one."""

    frames: int = 0
    inputs: int = 0
    outputs: int = 0
    photons: float = 0.0
    electrons: float = 0.0


class Mean:
    """Counts what is expected in the place of drawing it."""

    def poisson(self, mean: Float) -> Float:
        return np.asarray(mean)


def frame_by_frame(
    name: str, weight: Float, vector: Float, rng: np.random.Generator | Mean, photons: float = PHOTONS
) -> tuple[Float, Counted]:
    """One product of one vector: every frame is shown, detected and counted. Independent of the program."""
    e = float(electrons_per_unit(name, vector[None], photons)[0])
    counted, y = Counted(), np.zeros(M)
    for a in range(0, K, WIDE):
        k = slice(a, a + WIDE)
        for r in range(0, M, HIGH):
            m = slice(r, r + HIGH)
            y[m] += _tile(name, weight[m, k], vector[k], e, counted, rng)
    return y, counted


def _tile(name: str, w: Float, x: Float, e: float, counted: Counted, rng: np.random.Generator | Mean) -> Float:
    if name == "coherent":  # two detectors, field and local oscillator in sum and difference
        oscillator = 1e4
        field = np.sqrt(e / COLUMNS) * (w @ x)
        up, down = (rng.poisson((oscillator + sign * field) ** 2 / 2) for sign in (1, -1))
        _count(counted, x, w, e * np.square(x), float(np.square(field).sum()))
        return np.asarray((up - down) / (2 * oscillator) * np.sqrt(COLUMNS / e))
    if name == "offset":
        counts = rng.poisson(e * ((1 + w) / 2) @ ((1 + x) / 2))
        _count(counted, x, w, e * (1 + x) / 2, float(counts.sum()))
        return np.asarray(4 * counts / e - x.sum() - w.sum(1) - len(x))
    total = np.zeros(len(w))
    for sign, part in ((1, np.maximum(x, 0)), (-1, np.maximum(-x, 0))):
        if not part.any():
            continue
        if name == "differential":
            counts = [rng.poisson(e * (1 + side * w) / 2 @ part) for side in (1, -1)]
            total += sign * (counts[0] - counts[1]) / e
            _count(counted, x, w, e * part, float(np.sum(counts)))
            continue
        for side in (1, -1):
            shown = np.maximum(side * w, 0)
            count = rng.poisson(e * shown @ part)
            total += sign * side * count / e
            _count(counted, x, w, e * part, float(count.sum()))
    return total


def _count(counted: Counted, x: Float, w: Float, electrons: Float, detected: float) -> None:
    counted.frames += 1
    counted.inputs += len(x)
    counted.outputs += len(w)
    counted.photons += float(electrons.sum()) * len(w) / EFFICIENCY
    counted.electrons += detected


@pytest.mark.parametrize("name", [*FAMILIES, "partial-sums:16"])
def test_without_noise_it_is_the_product(name: str) -> None:
    weight, vectors = operands(5)
    y, _ = multiplied(name, weight, vectors, None)
    exact = vectors @ weight.T
    step = 12 / 2**16 if "partial" in name else 0.0  # twelve conversions, none larger than a sum of sixteen products
    assert np.abs(y - exact).max() < 2e-5 * exact.std() + 8 * step  # float32 sums, one after the other


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_variance_are_those_of_the_closed_form(name: str) -> None:
    draws = 4000
    weight, vectors = operands(1)
    x = np.repeat(vectors, draws, axis=0)
    y, _ = multiplied(name, weight, x, PHOTONS)
    expected = variance(name, weight, vectors)[0]
    z = (y.mean(0) - (vectors @ weight.T)[0]) / np.sqrt(expected / draws)
    assert np.abs(z).max() < stats.norm.isf(FALSE_ALARM / 2 / M)
    ratio = y.var(0) / expected
    margin = stats.norm.isf(FALSE_ALARM / 2) * np.sqrt(2 / draws / M)
    if "partial" in name:  # with what rounding to a step adds
        widest = np.abs(weight[:, :WIDE]).sum(1).max() / (2**10 - 1)
        assert ratio.mean() < 1 + margin + 12 * widest**2 / 12 / expected.mean()
        margin += 12 * widest**2 / 12 / expected.mean()
    assert ratio.mean() == pytest.approx(1.0, abs=margin)


@pytest.mark.parametrize("bits", [4, 6])
def test_a_converter_of_b_bits_adds_the_variance_of_its_step(bits: int) -> None:
    rng = np.random.default_rng(3)
    weight = np.clip(rng.standard_normal((M, K)) / 2.5, -1, 1)
    vectors = rng.uniform(-1, 1, (2000, K))
    vectors[:, 0] = 1.0
    y, _ = multiplied(f"partial-sums:{bits}", weight, vectors, None)
    expected = 0.0
    for a in range(0, K, WIDE):
        for side in (1, -1):
            largest = np.maximum(side * weight[:, a : a + WIDE], 0).sum(1).max()
            expected += 2 * (largest / (2**bits - 1)) ** 2 / 12  # plus and minus inputs
    assert (y - vectors @ weight.T).var() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("name", [*FAMILIES, "partial-sums:16"])
def test_folded_products_are_those_of_the_frames(name: str) -> None:
    draws = 1500
    weight, vectors = operands(1)
    ours, tally = multiplied(name, weight, np.repeat(vectors, draws, axis=0), PHOTONS)
    rng = np.random.default_rng(5)
    drawn = [frame_by_frame(name, weight, vectors[0], rng) for _ in range(draws)]
    theirs = np.array([y for y, _ in drawn])
    counted = drawn[0][1]
    assert (tally.frames, tally.input_conversions, tally.output_conversions) == (
        draws * counted.frames, draws * counted.inputs, draws * counted.outputs,
    )  # fmt: skip
    assert tally.photons == pytest.approx(draws * counted.photons, rel=1e-5)
    assert tally.photons_per_mac == pytest.approx(PHOTONS, rel=1e-5)
    assert tally.electrons == pytest.approx(sum(c.electrons for _, c in drawn), rel=0.01)
    jitter = np.random.default_rng(6).uniform(-1e-3, 1e-3, (2, draws, M)) * theirs.std(0)
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip((ours + jitter[0]).T, (theirs + jitter[1]).T, strict=True)]
    assert min(p) > FALSE_ALARM / M


@pytest.mark.parametrize("photons", [1.0, 100.0, 10_000.0])
@pytest.mark.parametrize("name", [*NAMES, "tiled-scales:14"])
def test_electrons_of_the_tally_are_those_of_all_frames_at_little_and_at_much_light(name: str, photons: float) -> None:
    rows = 300
    weight, vectors = operands(1)
    _, tally = multiplied(name, weight, np.repeat(vectors, rows, axis=0), photons)
    if name.startswith("tiled"):  # each tile is a product of its own, of weights and inputs on their own scales
        expected = 0.0
        for a in range(0, K, WIDE):
            w, x = np.abs(weight[:, a : a + WIDE]), vectors[0, a : a + WIDE]
            shown = np.count_nonzero([x.max() > 0, x.min() < 0]) * WIDE
            expected += photons * EFFICIENCY * shown / np.abs(x).sum() * (w / w.max(1, keepdims=True) @ np.abs(x)).sum()
    else:
        expected = frame_by_frame(name, weight, vectors[0], Mean(), photons)[1].electrons
    # the light of a pass is added up in rounded numbers; scales of tiles have 8 bits
    assert tally.electrons == pytest.approx(rows * expected, rel=2**-7 if name.startswith("tiled") else 2e-3)
    assert tally.photons_per_mac == pytest.approx(photons, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    weight, vectors = operands(6)
    few, _ = multiplied(name, weight, vectors[:2], PHOTONS)
    many, _ = multiplied(name, weight, vectors * np.array([1, 1, 9, 0, 3, 1])[:, None], PHOTONS)
    np.testing.assert_allclose(many[:2], few, rtol=0, atol=1e-5 * few.std())
    other, _ = multiplied(name, weight, vectors[:2], PHOTONS, seed=4)
    assert np.abs(other - few).max() > 0.01 * few.std()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_runs_and_says_what_it_took(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 20), nn.GELU(), nn.Linear(20, 3))
    x = torch.randn(7, 24)
    optical = opticalize(model, "ideal", photons_per_mac=1e4, encoding=name)
    y, exact = optical(x), model(x)
    assert 0 < (y - exact).norm() < 0.2 * exact.norm()
    report = optical_report(optical)
    assert set(report.optical) == {"0", "2"}
    assert report.total.photons_per_mac == pytest.approx(1e4, rel=1e-4)
    assert report.total.output_conversions >= 7 * 23


def test_gradients_are_exactly_those_of_the_operands() -> None:
    layer = nn.Linear(24, 20)
    x = torch.randn(7, 24, requires_grad=True)
    for name in NAMES:
        optical = opticalize(nn.Sequential(layer), "ideal", photons_per_mac=10.0, encoding=name)
        layer.zero_grad()
        x.grad = None
        optical(x).sum().backward()
        torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(7, -1))
        torch.testing.assert_close(layer.weight.grad, x.detach().sum(0).expand(20, -1))


def test_not_finite_vectors_give_not_a_number_alone() -> None:
    weight, vectors = operands(3)
    for name, bad in product(NAMES, (np.nan, np.inf)):
        vectors[1, 5] = bad
        y, _ = multiplied(name, weight, vectors, PHOTONS)
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()


@pytest.mark.parametrize("name", ["differential", "coherent", "partial-sums:8"])
def test_a_bench_that_cannot_do_it_is_refused(name: str) -> None:
    with pytest.raises(OutOfDomain, match="not what this bench does") as caught:
        open_bench(paper(), None, "exact", encoding=name)
    assert "sign-split" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_nothing_and_darkness_have_products(name: str) -> None:
    layer = nn.Linear(6, 5)
    optical = opticalize(nn.Sequential(layer), "ideal", photons_per_mac=10.0, encoding=name)
    assert optical(torch.zeros(0, 6)).shape == (0, 5)
    torch.testing.assert_close(optical(torch.zeros(2, 6)), layer.bias.expand(2, 5))


def test_unknown_encodings_and_converters_are_refused() -> None:
    for name in ("", "Offset", "partial-sums:", "partial-sums:x", "coherent:3"):
        if name == "partial-sums:":
            assert family(name).name == "partial-sums:8"
            continue
        with pytest.raises(OutOfDomain, match="no such encoding"):
            family(name)
    for bits in (0, 17):
        with pytest.raises(OutOfDomain, match="1 to 16 bits"):
            open_bench("ideal", None, "exact", encoding=f"partial-sums:{bits}")


def test_a_bench_keeps_its_own_encoding_if_nobody_says() -> None:
    offset = replace(ideal(), encoding=machine_encoding("offset"))
    assert open_bench(offset, None, "exact").optics.encoding.name == "offset"
