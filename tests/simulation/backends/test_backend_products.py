"""Single products by each backend, against the passes, against closed forms, and against each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sim_bench import calibrated, loud
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from calibration.errors import OutOfDomain
from calibration.machine.encoding import encoding
from calibration.machine.noise import Noise as BenchNoise
from simulation.benches.backend import Benches, OnCpu
from simulation.benches.differential import Differential
from simulation.benches.opening import open_bench
from simulation.light import product, weights
from simulation.light.accounting import Tally
from simulation.light.optics import Optics, ideal, paper
from simulation.light.pass_by_pass import pass_by_pass
from simulation.light.product import Bench
from simulation.light.settings import VARIANCES, Noise, Range
from simulation.light.tensors import product as tensor_product
from simulation.light.tensors import showing as tensor_showing

M, K = 30, 50  # more than one tile of the bench in both directions
CPU = torch.device("cpu")
BOTH = ["compiled", "torch"]
FALSE_ALARM = 1e-3

DIFFERENTIAL = Differential().bench(ideal(), None, "exact")
assert isinstance(DIFFERENTIAL, Bench)

OPTICS = {
    "ideal": ideal(),
    "paper": paper(),
    "paper, offset": replace(paper(), encoding=encoding("offset"), per_pass=False),
    "bench": Optics.of(calibrated(loud())),
    "bench, offset": Optics.of(calibrated(loud(), "offset")),
    "flickering bench": Optics.of(calibrated(BenchNoise(50.0, 4.0, 5e-3, np.zeros(3)))),
    "flickering bench, offset": Optics.of(calibrated(BenchNoise(50.0, 4.0, 5e-3, np.zeros(3)), "offset")),
    "single macropixels": Optics.of(calibrated(loud(), single=True)),
    "single macropixels, offset": Optics.of(calibrated(loud(), "offset", single=True)),
    "unknown bench": Optics.of(calibrated(loud(), stderr=0.05), device_seed=3),
    "drifting bench": replace(Optics.of(calibrated(loud())), drift=0.05),
    "differential": DIFFERENTIAL.optics,
    "drifting bench, offset": replace(Optics.of(calibrated(loud(), "offset")), drift=0.05),
}
PASS_BY_PASS = ("ideal", "paper", "paper,", "bench", "bench,", "flickering", "unknown")


@pytest.fixture(autouse=True)
def whole_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled loops multiply magnitudes in fewer bits where a processor is faster so: σ changes by some 0.2 %."""
    monkeypatch.setattr(weights, "byte_products", lambda: False)
    monkeypatch.setattr(product, "half_products", lambda: False)


def operands(batch: int = 1, n: int = 40, seed: int = 7) -> tuple[Tensor, Tensor]:
    """Signed matrices and vectors; among them one without negative elements, one dark, and one with a NaN."""
    rng = np.random.default_rng(seed)
    matrix = torch.from_numpy(rng.standard_normal((batch, M, K)) / 2.5).float().clamp(-1, 1)
    x = torch.from_numpy(rng.standard_normal((batch, n, K))).float()
    x[0, 5].clamp_min_(0)
    x[0, 6], x[0, 7, 3] = 0.0, torch.nan
    return matrix, x


def multiply(
    backend: str, optics: Optics, matrix: Tensor, x: Tensor, photons: float | None = None, **more: Any
) -> tuple[Tensor, Tally, Noise]:
    """The second of two products: its noise is not that of the first."""
    attention, variance = more.pop("attention", False), more.pop("variance", "exact")
    bench = Benches(Bench(optics, photons, variance), backend).on(CPU)  # type: ignore[arg-type]
    shown = bench.show(matrix, static=not attention, operands=torch.float32)
    tally, noise, unit = Tally(), Noise((123, 3567890123), 5), more.pop("unit", torch.ones(len(matrix)))
    call = {"unit": unit, "bias": None, "converters": Range(), "attention": attention, **more}
    bench.product(x, shown, noise, tally, **call)
    return bench.product(x, shown, noise, tally, **call), tally, noise


@pytest.mark.parametrize("photons", [None, 1.0, 3.0, 100.0, 1e4])
@pytest.mark.parametrize("name", OPTICS)
def test_backends_draw_the_same_numbers(name: str, photons: float | None) -> None:
    for batch, variance in ((1, "exact"), (3, "exact"), (1, "rank-one"), (1, "constant")):
        matrix, x = operands(batch)
        more = {"unit": torch.full((batch,), 0.7), "bias": torch.arange(M).float(), "attention": batch > 1}
        (one, counted, noise), (other, counted_too, noise_too) = (
            multiply(backend, OPTICS[name], matrix, x, photons, variance=variance, **more) for backend in BOTH
        )
        assert torch.equal(one.isnan(), other.isnan())
        difference = (one - other).nan_to_num().abs() / one[one.isfinite()].std()
        # a level or a count next door, where a number lies within float rounding of the edge between two
        plain = name in ("ideal", "paper", "bench")  # others have more numbers whose levels flip
        assert float((difference > 1e-4).float().mean()) < (0.002 if plain else 0.03)
        assert float(difference.max()) < 0.1 if photons and photons > 10 else True
        assert float(difference.median()) < 1e-6 if name != "drifting bench, offset" else True
        assert noise == noise_too
        for what in ("passes", "frames", "input_conversions", "output_conversions"):
            assert getattr(counted, what) == getattr(counted_too, what)
        assert counted.photons == pytest.approx(counted_too.photons, rel=1e-5)
        assert counted.electrons == pytest.approx(counted_too.electrons, rel=1e-4)


@pytest.mark.parametrize("photons", [2.0, 10.0, 40.0])
@pytest.mark.parametrize("variance", VARIANCES)
def test_backends_part_passes_of_few_counts_alike(photons: float, variance: str) -> None:
    matrix, x = operands(n=8)
    for rows in ([0, 1], [0, 5], [5], [0, 6]):
        one, other = (multiply(backend, paper(), matrix, x[:, rows], photons, variance=variance) for backend in BOTH)
        assert float((one[0] - other[0]).abs().median()) < 1e-5
        assert one[1].electrons == pytest.approx(other[1].electrons, rel=1e-4)
        assert one[2] == other[2]


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("name", ["ideal", "paper", "bench"])
def test_dark_vectors_leave_the_noise_of_those_beside_them_as_it_is(name: str, variance: str, backend: str) -> None:
    matrix, x = operands(n=120)
    x[0, 5:8] = x[0, 8:11]
    optics = replace(OPTICS[name], spread=(0.0, 0.0))  # the paper's reading error is a share of the mean of all vectors
    beside = torch.cat([x, torch.zeros_like(x)], 1)
    exact = x[0] @ matrix[0].T
    own, with_dark = (
        float((multiply(backend, optics, matrix, rows, 300.0, variance=variance)[0][0, :120] - exact).std())
        for rows in (x, beside)
    )
    assert with_dark == pytest.approx(own, rel=0.1)  # 3600 outputs: the standard error of the ratio is 1.7 %


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    "name", [name for name in OPTICS if name.partition(" ")[0] not in ("drifting", "single", "differential")]
)
def test_means_are_those_of_the_passes(name: str, backend: str) -> None:
    matrix, x = operands()
    x = x[:, [n for n in range(40) if n not in (6, 7)]]
    optics = replace(OPTICS[name], spread=(0.0, 0.0), read_e=0.0, flicker=0.0, electrons=0.0, photons=0.0)
    exact = pass_by_pass(optics, matrix[0].double().numpy(), x[0].numpy(), None)
    found = multiply(backend, optics, matrix, x)[0][0].numpy()
    one_sided = len(optics.encoding.input_factors) == 1
    tolerance = 1e-2 if name == "unknown bench" else 1e-4 if one_sided else 3e-6  # as in test_fold.py
    assert np.abs(found - exact).max() < tolerance * exact.std()


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("photons", [1.0, 10.0, 100.0, 1e4])
def test_counts_follow_the_difference_of_two_poisson_laws(backend: str, photons: float) -> None:
    """Skellam's distribution, of means that follow from the operands alone."""
    draws = 20_000
    matrix, x = torch.tensor([[[0.9, -0.3, 0.5]]]), torch.tensor([1.0, 0.5, -0.25])
    y = multiply(backend, ideal(), matrix, x.expand(1, draws, 3).contiguous(), photons)[0][0, :, 0].double().numpy()
    electrons = photons * 2 * 3 / 1.75  # two passes of three columns, in light of 1.75 together
    plus, minus = 0.9 * electrons, (0.3 * 0.5 + 0.5 * 0.25) * electrons
    counts = y * electrons
    if plus < 1000:  # beyond, float32 does not hold whole counts of this product
        assert np.abs(counts - counts.round()).max() < 2e-2
    spread = np.sqrt(plus + minus)
    assert counts.mean() == pytest.approx(plus - minus, abs=4 * spread / np.sqrt(draws))
    assert counts.var() == pytest.approx(plus + minus, rel=4 * np.sqrt(2 / draws))
    k = np.arange(np.floor(plus - minus - 6 * spread) - 1, plus - minus + 6 * spread + 2)
    found = np.searchsorted(np.sort(counts.round()), k, side="right") / draws
    # Kolmogorov's distance of 20 000 draws is larger once in a thousand; the law that is bent to it is 7e-4 off
    assert np.abs(found - stats.skellam.cdf(k, plus, minus)).max() < 1.95 / np.sqrt(draws) + 7e-4


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("name", ["paper", "bench", "bench, offset", "flickering bench"])
def test_laws_are_those_of_the_passes(name: str, backend: str) -> None:
    draws, photons = 2000, 10.0
    matrix, x = operands()
    many = x[:, :1].expand(1, draws, K).contiguous()
    ours = multiply(backend, OPTICS[name], matrix, many, photons)[0][0].double().numpy()
    theirs = pass_by_pass(
        OPTICS[name],
        matrix[0].double().numpy(),
        many[0].numpy(),
        np.random.default_rng(5),
        photons_per_mac=photons,
    )
    jitter = np.random.default_rng(6).uniform(-1e-3, 1e-3, (2, draws, M)) * theirs.std(0)
    p = [stats.ks_2samp(a, b).pvalue for a, b in zip((ours + jitter[0]).T, (theirs + jitter[1]).T, strict=True)]
    assert min(p) > FALSE_ALARM / M


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("name", OPTICS)
def test_a_nan_stays_in_its_row_and_a_dark_row_is_the_bias(name: str, backend: str) -> None:
    matrix, x = operands()
    clean = x.clone()
    clean[0, 7] = 0.0
    bias = torch.arange(M).float()
    (found, tally, _), (without, _, _) = (
        multiply(backend, OPTICS[name], matrix, each, 100.0, bias=bias) for each in (x, clean)
    )
    assert found[0].isnan().all(1).nonzero().flatten().tolist() == [7]
    others = [n for n in range(40) if n != 7]
    if (
        name != "paper, offset"
    ):  # its reading error goes by the mean light of the batch, and a zero is half of all light
        assert torch.equal(found[0, others], without[0, others])
    assert np.isfinite([tally.photons, tally.electrons]).all()
    if len(OPTICS[name].encoding.input_factors) == 2:
        assert torch.equal(found[0, 6], bias)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("name", ["paper", "bench", "bench, offset"])
def test_results_are_of_the_operands_type_and_do_not_mind_how_they_lie(name: str, backend: str) -> None:
    matrix, x = operands()
    exact = multiply(backend, OPTICS[name], matrix, x, 1e4)[0]
    scattered = torch.stack([x, x], -1)[..., 0]
    assert not scattered.is_contiguous()
    assert torch.equal(multiply(backend, OPTICS[name], matrix, scattered, 1e4)[0].nan_to_num(), exact.nan_to_num())
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        rounded = x.to(dtype)
        y = multiply(backend, OPTICS[name], matrix, rounded, 1e4)[0]
        assert y.dtype == dtype
        same = multiply(backend, OPTICS[name], matrix, rounded.float(), 1e4)[0]
        assert torch.equal(y.nan_to_num(), same.to(dtype).nan_to_num())


@pytest.mark.parametrize("backend", BOTH)
def test_results_are_clipped_and_rounded_to_the_range_of_the_converters(backend: str) -> None:
    matrix, x = operands()
    y = multiply(backend, OPTICS["bench"], matrix, x, 100.0, converters=Range(0.8, 0.25, 2.0))[0]
    y = y[y.isfinite()]
    assert torch.equal(y / 0.25, (y / 0.25).round())
    assert float(y.abs().max()) == 2.0


def test_rows_taken_in_parts_are_those_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, batch in (("bench", 1), ("paper", 3), ("flickering bench", 3)):
        matrix, x = operands(batch)
        at_once = multiply("torch", OPTICS[name], matrix, x, 10.0, attention=batch > 1)
        for room in (M * 7, M * 90):  # seven rows of one matrix; two matrices of forty
            with monkeypatch.context() as small:
                small.setattr(tensor_product, "ROWS_AT_ONCE", room)
                small.setattr(tensor_showing, "ROWS_AT_ONCE", room)
                in_parts = multiply("torch", OPTICS[name], matrix, x, 10.0, attention=batch > 1)
            torch.testing.assert_close(in_parts[0], at_once[0], equal_nan=True, rtol=1e-5, atol=1e-5)
            assert in_parts[1].electrons == pytest.approx(at_once[1].electrons)


class Largest(TorchDispatchMode):
    """The most numbers that a tensor held which an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else (out,)
        self.numbers = max(self.numbers, *(each.numel() for each in made if isinstance(each, Tensor)), 0)
        return out


@pytest.mark.parametrize("name", ["paper", "flickering bench, offset"])
def test_no_temporary_is_larger_than_operands_and_result(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of what is computed on the way, none than the room for it."""
    rows, outputs, inputs, room = 600, 90, 130, 5000
    monkeypatch.setattr(tensor_product, "ROWS_AT_ONCE", room)
    monkeypatch.setattr(tensor_showing, "ROWS_AT_ONCE", room)
    for photons in (1.0, 1e4):
        bench = Benches(Bench(OPTICS[name], photons, "exact"), "torch").on(CPU)
        shown = bench.show(torch.rand(1, outputs, inputs), static=True, operands=torch.float32)
        x, seen = torch.randn(1, rows, inputs), Largest()
        with seen:
            bench.product(x, shown, Noise((1, 2)), Tally(), unit=torch.ones(1))
        # flicker has three numbers for each row and row tile of the bench
        assert seen.numbers <= max(rows * inputs, rows * outputs, room)


def test_shapes_are_known_without_numbers() -> None:
    """The meta device has no memory: neither has what a product of any size needs there."""
    meta = torch.device("meta")
    for name in ("ideal", "paper", "bench", "bench, offset"):
        bench = Benches(Bench(OPTICS[name], 10.0, "exact"), "torch").on(meta)
        shown = bench.show(torch.empty((2, M, K), device=meta), static=False, operands=torch.bfloat16)
        x = torch.empty((2, 100_000, K), device=meta, dtype=torch.bfloat16)
        unit = torch.empty(2, device=meta)
        y = bench.product(x, shown, Noise((1, 2)), Tally(), unit=unit, bias=None, converters=Range(), attention=True)
        assert (y.shape, y.dtype, y.device) == ((2, 100_000, M), torch.bfloat16, meta)


@pytest.mark.parametrize("variance", VARIANCES)
def test_variance_in_bfloat16_changes_it_by_less_than_a_per_cent(variance: str) -> None:
    """The precision of a graphics processor, on this one: the same deviates, so that σ has no sampling error."""
    from simulation.light.tensors.devices import Precision
    from simulation.light.tensors.product import TensorBench

    matrix, x = operands()
    many, draws = x[:, :1].expand(1, 50, K), []
    for light in (torch.float32, torch.bfloat16):
        bench = TensorBench(ideal(), 1e4, variance, CPU)  # type: ignore[arg-type]
        shown = bench.show(matrix, static=True, precision=Precision(torch.float32, light))
        assert shown.light.dtype == light
        draws.append(bench.product(many, shown, Noise((1, 2)), Tally(), unit=torch.ones(1))[0] - many[0] @ matrix[0].T)
    ratio = draws[1].std(0) / draws[0].std(0)
    assert float((ratio - 1).abs().max()) < 0.01


def test_what_no_backend_can_do_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="no such backend"):
        Benches(Bench(ideal(), None, "exact"), "abacus")  # type: ignore[arg-type]
    coherent = open_bench("ideal", None, "exact", encoding="coherent")
    with pytest.raises(OutOfDomain, match="no operations of torch"):
        Benches(coherent, "torch")
    assert isinstance(Benches(coherent).on(torch.device("meta")), OnCpu)
