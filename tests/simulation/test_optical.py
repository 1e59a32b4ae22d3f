"""The folded optical product against the machine's own passes, frame by frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kstest
from sim_bench import calibrated, loud, quiet
from torch import nn

from calibration.errors import BadOperands, OutOfDomain
from calibration.frames.products import ProductGroup
from calibration.frames.scan import Readings
from calibration.frames.schedule import assemble, predicted, schedule
from calibration.machine.artefact import Calibration
from calibration.machine.noise import Noise
from simulation.conversion.optical import (
    load_optical_state,
    optical_report,
    optical_state,
    opticalize,
    reset_optical_report,
    set_light,
)
from simulation.conversion.quantise import LINEAR_CLIP, clip_scale
from simulation.conversion.ranges import observe
from simulation.conversion.routing import routing_of
from simulation.light.optics import Panel
from simulation.light.product import Bench
from simulation.models.gpt import GPT, GPTConfig, Product

Float = NDArray[np.float64]

M, K, VECTORS = 40, 50, 4  # 2 × 3 tiles of the bench


def drawn_and_by_passes(calibration: Calibration, signed: bool, draws: int) -> tuple[Float, Float, Float, Float]:
    """A layer: (draws, n, M) of the fold; (n, M) mean and variance by the machine, pass by pass; (n, 1) their unit."""
    machine = calibration.machine
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((M, K)).astype(np.float32)
    x = rng.standard_normal((VECTORS, K)).astype(np.float32)
    x = x if signed else np.maximum(x, 0) + np.float32(1e-3)
    linear = nn.Linear(K, M, bias=False)
    linear.weight.data = torch.from_numpy(weight)
    optical = opticalize(nn.Sequential(linear), calibration)
    scale = float(clip_scale(linear.weight.detach(), LINEAR_CLIP))
    group = ProductGroup("w", "linear", 0, weight, x, x @ weight.T, np.zeros((VECTORS, 2), np.int64), scale)
    parts = []
    for tile in schedule(machine, [group]):
        mean, _ = predicted(machine, tile.scan)
        parts.append((tile, Readings(tile.scan, mean, np.zeros(len(mean)))))
    passes = assemble(machine, group, 0, parts)
    unit = scale * group.input_scales[:, None]
    with torch.inference_mode():
        y = optical(torch.from_numpy(np.repeat(x[None], draws, axis=0))).numpy()
    return y, passes.realised * unit, passes.variance * unit**2, unit


@pytest.mark.parametrize(
    ("signed", "code", "single"),
    [(True, "sign-split", False), (False, "sign-split", False), (True, "sign-split", True), (True, "offset", True)],
    ids=["four passes", "two passes", "single macropixels", "single macropixels, offset encoding"],
)
def test_mean_and_variance_are_those_of_the_machine_pass_by_pass(signed: bool, code: str, single: bool) -> None:
    calibration = calibrated(loud(), code, single=single)
    draws = 3000
    y, realised, variance, unit = drawn_and_by_passes(calibration, signed, draws)
    standard = np.sqrt(variance)
    z = (y.mean(0) - realised) / (standard / np.sqrt(draws))
    # quantisation differs where bleed was undone before rounding: up to a level of 256 in some weights
    slack = 0.004 * unit * np.sqrt(K) / (standard / np.sqrt(draws))
    assert (np.abs(z) < 4.5 + slack).all()
    ratio = y.var(0, ddof=1) / variance
    # a sample variance of 3000 draws has a standard error of 2.6 %; unmixing is averaged over outputs in the fold
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert np.abs(ratio - 1).max() < 0.16


@pytest.mark.parametrize("code", ["sign-split", "offset"])
def test_light_past_the_modulators_flickers_with_the_source(code: str) -> None:
    """Offsets that differ from output to output, and are as bright as what the modulators let through."""
    calibration = calibrated(Noise(50.0, 4.0, 0.02, np.zeros(3)), code)
    machine = calibration.machine
    bright = np.random.default_rng(2).uniform(10e3, 30e3, machine.layout.rows)
    machine = replace(machine, channel=replace(machine.channel, offset_dn=bright))
    y, _, variance, _ = drawn_and_by_passes(replace(calibration, machine=machine), True, 12_000)
    # a standard error of 1.3 % each, in eight independent flickers: 0.5 %; offsets that stay still give 0.17 and 0.54
    assert (y.var(0, ddof=1) / variance).mean() == pytest.approx(1.0, abs=0.02)


def test_without_noise_only_quantisation_is_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64))
    x = torch.randn(32, 64)
    with torch.inference_mode():
        y, exact = opticalize(model, calibrated(quiet()))(x), model(x)
    # 8-bit levels of both operands and 1 % of the weights clipped: a few per cent of the spread
    assert float((y - exact).std() / exact.std()) < 0.04


def test_attention_product_becomes_optical_and_matches() -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qk = Product()

        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return self.qk(a, b)

    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 10, 16), torch.randn(2, 3, 16, 10)
    optical = opticalize(Scores(), calibrated(quiet()))
    assert optical_report(optical).optical == ("qk",)
    with torch.inference_mode():
        # 2 % of 160 entries of each matrix are clipped, at a percentile of the same few
        assert float((optical(a, b) - a @ b).std() / (a @ b).std()) < 0.08


def test_every_linear_layer_and_attention_product_of_the_model_is_optical() -> None:
    model = GPT(GPTConfig(vocabulary=300, context=16, width=16, blocks=2, heads=2))
    keys = list(model.state_dict())
    optical = opticalize(model, calibrated(loud()))
    found = optical_report(optical)
    assert len(found.optical) == 2 * 8
    assert set(found.digital) >= {"embedding", "position", "norm"}
    assert list(optical.state_dict()) == keys
    assert routing_of(model) is None


def test_noise_follows_the_seed_and_leaves_the_global_generator_alone() -> None:
    model, x = nn.Sequential(nn.Linear(16, 16)), torch.randn(4, 16)
    before = torch.random.get_rng_state()
    one, same, other = (opticalize(model, calibrated(loud()), seed=s)(x) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_references_leave_of_the_drift_flickers_with_the_source() -> None:
    still = calibrated(Noise(1e-6, 1e-9, 3e-3, np.zeros(3)))
    drifting = replace(still, domain=replace(still.domain, gain_left=4e-3))
    model, x = nn.Sequential(nn.Linear(20, 24, bias=False)), torch.rand(1, 20).expand(4000, 20)
    with torch.inference_mode():
        ratio = opticalize(model, drifting)(x).std(0).mean() / opticalize(model, still)(x).std(0).mean()
    assert float(ratio) == pytest.approx(5 / 3, rel=0.05)  # one flicker for all outputs: 1.1 % each


def test_shot_noise_falls_with_the_root_of_the_light() -> None:
    model, x = nn.Sequential(nn.Linear(20, 24, bias=False)), torch.rand(1, 20).expand(4000, 20)
    shot_only = calibrated(Noise(1e-6, 4.0, 0.0, np.zeros(3)))
    with torch.inference_mode():
        dim, bright = (opticalize(model, shot_only, photons_per_mac=n)(x).var(0).mean() for n in (10.0, 1000.0))
    assert float(dim / bright) == pytest.approx(100, rel=0.05)  # 24 outputs × 4000 draws: 0.5 % each, by seed


def test_photons_per_mac_means_what_it_says() -> None:
    """At the bench's own light the two ways of stating it agree."""
    calibration = calibrated(loud())
    model, x = nn.Sequential(nn.Linear(20, 24, bias=False)), torch.rand(1, 20)
    vectors = (x / x.max()).numpy().astype(np.float64)
    levels, _ = calibration.machine.encode_input(vectors)
    own = float(calibration.machine.photons_per_mac(levels[0], calibration.domain.quantum_efficiency)[0])
    many = x.expand(4000, 20)
    with torch.inference_mode():
        stated = opticalize(model, calibration, photons_per_mac=own)(many).var(0)
        plain = opticalize(model, calibration)(many).var(0)
    assert float((stated / plain).mean()) == pytest.approx(1.0, abs=0.02)


def test_dark_input_gives_the_bias_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(16, 8))
    with torch.inference_mode():
        assert torch.equal(opticalize(model, calibrated(loud()))(torch.zeros(3, 16)), model[0].bias.expand(3, 8))


def test_reading_error_of_the_paper_is_normal_without_shot_noise() -> None:
    model = nn.Sequential(nn.Linear(48, 8, bias=False))
    x = torch.randn(1, 48).expand(4000, -1)
    with torch.inference_mode():
        y = opticalize(model, "paper")(x).double().numpy()
    z = (y - y.mean(0)) / y.std(0)
    assert max(kstest(column, "norm").statistic for column in z.T) < 0.026  # 1.63 / √4000: 1 % of samples exceed it


@pytest.mark.parametrize("source", ["ideal", "paper", "bench"])
def test_nan_stays_nan_in_its_own_row(source: str) -> None:
    """It must neither be read as a level nor look like dark."""
    model, x = nn.Sequential(nn.Linear(50, 40)), torch.randn(3, 50)
    x[1, 7] = torch.nan
    optical = opticalize(model, calibrated(loud()) if source == "bench" else source, photons_per_mac=100.0)
    with torch.inference_mode():
        assert optical(x).isnan().all(1).tolist() == [False, True, False]


def test_even_levels_are_found_by_rounding_as_by_search() -> None:
    even = np.linspace(0.02, 1.0, 256)
    rounded, searched = Panel.of(even), Panel.of(even, even)
    operand = np.random.default_rng(0).uniform(0, 1, 5000).astype(np.float32)
    assert len(rounded.levels.table) == 0 < len(searched.levels.table)
    np.testing.assert_allclose(rounded.show(operand), searched.show(operand), atol=2e-7)


def test_what_cannot_be_run_is_refused() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(OutOfDomain, match="preset"):
        opticalize(model, "perfect")
    with pytest.raises(OutOfDomain, match="variance"):
        opticalize(model, "paper", variance="some")  # type: ignore[arg-type]
    with pytest.raises(OutOfDomain, match="positive"):
        opticalize(model, calibrated(loud()), photons_per_mac=0.0)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(BadOperands):
        opticalize(model, calibrated(loud()))


def tiny() -> GPT:
    config = GPTConfig(vocabulary=300, context=32, width=32, blocks=2, heads=4)
    return GPT(config, torch.Generator().manual_seed(1)).eval()


def tokens() -> torch.Tensor:
    return torch.randint(300, (2, 32), generator=torch.Generator().manual_seed(2))


def test_ideal_preset_gives_the_original_logits() -> None:
    model = tiny()
    with torch.inference_mode():
        assert torch.allclose(opticalize(model, "ideal")(tokens()), model(tokens()), atol=1e-4)


def test_paper_preset_approaches_the_original_with_light_but_for_its_reading_error() -> None:
    model = tiny()
    with torch.inference_mode():
        exact = model(tokens())
        dim, bright = (float((opticalize(model, "paper", photons_per_mac=n)(tokens()) - exact).std()) for n in (1, 1e4))
    assert 3 * bright < dim
    assert bright < 0.25 * float(exact.std())


def test_noise_goes_on_where_its_state_was_saved() -> None:
    model, x = opticalize(tiny(), calibrated(loud()), seed=3), tokens()
    with torch.inference_mode():
        model(x)
        saved = optical_state(model)
        after = model(x)
        again = opticalize(tiny(), calibrated(loud()), seed=8)
        load_optical_state(again, saved)
        assert torch.equal(again(x), after)
    with pytest.raises(OutOfDomain, match="another model"):
        load_optical_state(opticalize(nn.Sequential(nn.Linear(4, 4)), "paper"), saved)


def test_gradients_are_those_of_the_ideal_layer_and_changed_weights_are_shown_anew() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(20, 24), torch.randn(5, 20, requires_grad=True)
    optical = opticalize(nn.Sequential(linear), calibrated(loud()))
    out = torch.randn(5, 24)
    (optical(x) * out).sum().backward()
    (expected,) = torch.autograd.grad((linear(x) * out).sum(), x)
    assert torch.allclose(x.grad, expected, atol=1e-6)
    assert torch.allclose(optical[0].weight.grad, out.T @ x.detach(), atol=1e-5)
    with torch.no_grad():
        before = x @ linear.weight.T
        linear.weight.mul_(-2.0)  # the copy holds the same parameter
        assert torch.corrcoef(torch.stack([optical(x).flatten(), before.flatten()]))[0, 1] < -0.95


def test_report_counts_the_photons_that_were_asked_for_and_the_electrons_that_came() -> None:
    model, x = nn.Sequential(nn.Linear(20, 24, bias=False)), torch.rand(50, 20) + 0.1
    optical = opticalize(model, "ideal", photons_per_mac=8.0)
    with torch.inference_mode():
        optical(x)
    tally = optical_report(optical).layers["0"]
    assert (tally.products, tally.macs, tally.passes) == (50, 50 * 480, 2 * 50 * 480)  # positive inputs: two passes
    assert tally.photons_per_mac == pytest.approx(8.0, rel=1e-5)
    weight = model[0].weight.detach()
    light = (x @ weight.abs().T / weight.abs().max()).sum(1) / x.mean(1)
    assert tally.electrons == pytest.approx(8.0 * float(light.sum()), rel=1e-4)
    assert optical_report(optical).total == tally
    reset_optical_report(optical)
    assert optical_report(optical).total.products == 0


def test_outputs_are_rounded_to_8_bits_of_the_observed_range() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(20, 24)), torch.randn(40, 20)
    ranges = observe(model, [x])
    with torch.inference_mode():
        y = opticalize(model, "paper", photons_per_mac=10.0, ranges=ranges)(x * 1.5)
    step = ranges["0"].output / 127
    assert float((y / step - (y / step).round()).abs().max()) < 1e-4
    assert float(y.abs().max()) <= ranges["0"].output * (1 + 1e-6)
    assert ranges["0"].output == pytest.approx(float(model(x).detach().abs().max()), rel=1e-6)


@pytest.mark.parametrize("variance", ["exact", "rank-one"])
def test_other_light_is_that_of_a_model_made_for_it_and_shows_no_matrix_again(
    variance: Literal["exact", "rank-one"], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shown = tiny(), []
    optical = opticalize(model, calibrated(loud()), seed=3, variance=variance)
    with torch.inference_mode():
        optical(tokens())
        show = Bench.show
        monkeypatch.setattr(
            Bench, "show", lambda self, scaled, *, static: (shown.append(static), show(self, scaled, static=static))[1]
        )
        for level, seed in ((5.0, 8), (500.0, 9)):
            set_light(optical, level, seed=seed)
            got = optical(tokens())
            assert not any(shown), "only the operands of attention"
            fresh = opticalize(model, calibrated(loud()), photons_per_mac=level, seed=seed, variance=variance)
            assert torch.equal(got, fresh(tokens()))
            assert optical_report(optical) == optical_report(fresh)
            shown.clear()
    with pytest.raises(OutOfDomain, match="positive"):
        set_light(optical, 0.0)
