"""Folded products against the passes they stand for: one count after the other, independent code.

Seeds are fixed. Were they not, each test would fail by chance about once in a thousand runs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sim_bench import calibrated, folded, loud

from calibration.machine.encoding import encoding
from calibration.machine.noise import Noise
from simulation.light import product
from simulation.light.detection import FEW_COUNTS
from simulation.light.optics import Optics, ideal, paper
from simulation.light.pass_by_pass import pass_by_pass

M, K, DRAWS = 30, 50, 3000  # more than one tile of the bench in both directions
FALSE_ALARM = 1e-3

OPTICS = {
    "ideal": ideal(),
    "paper": paper(),
    "paper, offset": replace(paper(), encoding=encoding("offset"), per_pass=False),
    "bench": Optics.of(calibrated(loud())),
    "bench, offset": Optics.of(calibrated(loud(), "offset")),
    "flickering bench": Optics.of(calibrated(Noise(50.0, 4.0, 5e-3, np.zeros(3)))),
    "unknown bench": Optics.of(calibrated(loud(), stderr=0.05), device_seed=3),
}


def operands(signed: bool) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    weight = np.clip(rng.standard_normal((M, K)) / 2.5, -1, 1)
    vectors = rng.standard_normal((3, K)).astype(np.float32)
    return weight, vectors if signed else np.maximum(vectors, 0)


def without_noise(optics: Optics) -> Optics:
    return replace(optics, spread=(0.0, 0.0), read_e=0.0, flicker=0.0, electrons=0.0, photons=0.0)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "positive"])
@pytest.mark.parametrize("name", OPTICS)
def test_means_are_equal_to_rounding(name: str, signed: bool) -> None:
    weight, vectors = operands(signed)
    optics = without_noise(OPTICS[name])
    exact = pass_by_pass(optics, weight, vectors, None)
    # float32 sums of K products; offset encoding takes small differences of large sums
    tolerance = 1e-4 if len(optics.encoding.input_factors) == 1 else 3e-6
    if name == "unknown bench":
        tolerance = 1e-2  # products of two errors, of the pedestal and of an operand, are left out
    assert np.abs(folded(optics, weight, vectors) - exact).max() < tolerance * exact.std()


@pytest.mark.parametrize("photons_per_mac", [0.1, 1.0, 10.0, 1000.0])
@pytest.mark.parametrize("name", [n for n in OPTICS if n != "unknown bench"])
def test_distributions_are_those_of_the_passes(name: str, photons_per_mac: float) -> None:
    weight, vectors = operands(signed=True)
    attention = name == "paper" and photons_per_mac == 10.0
    x = np.repeat(vectors[:1], DRAWS, axis=0)
    ours = folded(OPTICS[name], weight, x, photons_per_mac, attention=attention).astype(np.float64)
    theirs = pass_by_pass(
        OPTICS[name], weight, x, np.random.default_rng(5), photons_per_mac=photons_per_mac, attention=attention
    )
    spread = theirs.std(0)
    z = (ours.mean(0) - theirs.mean(0)) / spread / np.sqrt(2 / DRAWS)
    assert np.abs(z).max() < stats.norm.isf(FALSE_ALARM / 2 / M)
    ratio = ours.var(0) / theirs.var(0)  # standard error of the mean of M: 2/√(DRAWS·M) when outputs are independent
    common = 4.0 if name == "flickering bench" else 1.0  # one flicker for all outputs
    assert ratio.mean() == pytest.approx(1.0, abs=common * stats.norm.isf(FALSE_ALARM / 2) * 2 / np.sqrt(DRAWS * M))
    # whole counts come out equal but for float rounding: jitter far below one count keeps ties from mattering
    jitter = np.random.default_rng(6).uniform(-1e-3, 1e-3, (2, DRAWS, M)) * spread
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip((ours + jitter[0]).T, (theirs + jitter[1]).T, strict=True)]
    assert min(p) > FALSE_ALARM / M


def test_flicker_counts_output_by_output_what_each_frame_weighs() -> None:
    """The source's flicker alone, with twelve frames to an output, whose shares differ from output to output."""
    optics = replace(OPTICS["flickering bench"], electrons=1e9, photons=1e9, read_e=0.0)
    weight, vectors = operands(signed=True)
    x = np.repeat(vectors[:1], 4 * DRAWS, axis=0)
    ours, theirs = folded(optics, weight, x), pass_by_pass(optics, weight, x, np.random.default_rng(5))
    ratio = ours.var(0) / theirs.var(0)
    # two variances of 12000 draws each, of two row tiles: an error of 1.3 %; without their own shares it is 0.91
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)


def test_reading_error_without_shot_noise_is_normal() -> None:
    weight, vectors = operands(signed=True)
    x = np.repeat(vectors[:1], DRAWS, axis=0)
    ours = folded(paper(), weight, x)
    theirs = pass_by_pass(paper(), weight, x, np.random.default_rng(5))
    ratio = ours.std(0) / theirs.std(0)  # each of 3000 draws: 1.8 %
    assert np.abs(ratio - 1).max() < 4.5 * 0.018


def test_many_counts_keep_lattice_and_skewness() -> None:
    """One output, from few counts to many: Kolmogorov's distance to the exact law of the difference of two counts."""
    weight = np.array([[0.9, -0.3]])
    for counts in (4.0, float(FEW_COUNTS) + 1, 200.0):
        x = np.repeat(np.array([[1.0, 0.5]], np.float32), 200_000, axis=0)
        plus, minus = 0.9 * counts / 1.05, 0.15 * counts / 1.05
        photons = counts / 1.05 * 1.5 / 2  # (0.9 + 0.15) units of light; mean light of the vector is 0.75
        y = folded(ideal(), weight, x, photons)[:, 0] * counts / 1.05
        assert np.abs(y - y.round()).max() < 2e-3  # whole counts, but for float rounding
        k = np.arange(-60, 300)
        found = np.searchsorted(np.sort(y.round()), k, side="right") / len(y)
        # the 99.9 % quantile of Kolmogorov's distance of 200 000 draws is 4.4e-3; the approximation's own is 7e-4
        assert np.abs(found - stats.skellam.cdf(k, plus, minus)).max() < 4.4e-3 + 7e-4


def test_bytes_change_the_variance_less_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    weight, x = rng.standard_normal((64, 512)) / 4, rng.standard_normal((1, 512)).astype(np.float32)
    draws = []
    for few in (product.ENOUGH, 1e30):  # bytes where there are many counts; never
        monkeypatch.setattr(product, "ENOUGH", few)
        draws.append(folded(ideal(), weight, np.repeat(x, 50, axis=0), 100.0))
    exact = x @ np.clip(weight, -1, 1).T
    # the same normal deviates: σ is compared without sampling error
    ratio = (draws[0] - exact).std(0) / (draws[1] - exact).std(0)
    assert np.abs(ratio - 1).max() < product.BYTE_ERROR / 2 * 3  # three standard deviations


def test_cheap_variances_have_the_exact_one_on_average() -> None:
    weight, vectors = operands(signed=True)
    x = np.repeat(vectors[:1], DRAWS, axis=0)
    exact = folded(ideal(), weight, x, 100.0).var(0).mean()
    for variance in ("rank-one", "constant"):
        cheap = folded(ideal(), weight, x, 100.0, variance=variance).var(0).mean()
        assert cheap == pytest.approx(exact, rel=0.05)  # the light of a row is not spread over K as the mean is


def test_an_unknown_bench_is_another_one_but_always_the_same() -> None:
    weight, vectors = operands(signed=True)
    calibration = calibrated(loud(), stderr=0.05)
    known, one, same, other = (
        folded(without_noise(Optics.of(calibration, device_seed=seed)), weight, vectors) for seed in (None, 3, 3, 4)
    )
    assert np.array_equal(one, same)
    errors = np.std(one - known), np.std(other - known), np.std(one - other)
    assert min(errors) > 0.01 * known.std()
    # gains off by 5 % each: the error of a sum of K random terms is 5 % of its spread
    assert errors[0] == pytest.approx(0.05 * known.std(), rel=0.5)


def test_drift_moves_all_vectors_of_a_matrix_together() -> None:
    weight, vectors = operands(signed=False)
    still = without_noise(OPTICS["bench"])
    ratio = folded(replace(still, electrons=1e12, photons=1e12, drift=0.05), weight, vectors) / folded(
        still, weight, vectors
    )
    rows = np.median(ratio, axis=1)
    assert np.ptp(ratio[:, :15].mean(1)) < 1e-3  # first row tile
    assert abs(rows[0] - 1) > 1e-3
