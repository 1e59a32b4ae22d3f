"""The folded optical product against the machine's own passes, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calibration.artefact import Calibration, Domain
from calibration.channel import Channel, Noise
from calibration.encoding import encoding
from calibration.errors import BadOperands, OutOfDomain
from calibration.layout import Layout
from calibration.lut import Lut
from calibration.machine import Machine
from calibration.products import ProductGroup
from calibration.scan import Readings
from calibration.schedule import assemble, predicted, schedule
from simulation.model import GPT, GPTConfig, Product
from simulation.optical import OpticalLinear, OpticalProduct, opticalize, report

ROWS, COLUMNS = 24, 20


def lut(floor: float, gamma: float) -> Lut:
    return Lut(floor + (1 - floor) * np.linspace(0, 1, 256) ** gamma, np.zeros(256))


def calibrated(noise: Noise, code: str = "sign-split", seed: int = 0) -> Calibration:
    rng = np.random.default_rng(seed)
    crosstalk = np.full((ROWS, 2), 0.02)
    crosstalk[0, 0] = crosstalk[-1, 1] = 0.0
    gain = rng.uniform(9000, 12000, (ROWS, COLUMNS))
    zero = np.zeros
    channel = Channel(
        gain, zero(gain.shape), rng.uniform(0, 500, ROWS), zero(ROWS), crosstalk, zero((ROWS, 2)),
        np.array([0.003, 0.004]), zero(2), noise,
    )  # fmt: skip
    layout = Layout((ROWS * 6, COLUMNS * 8), ROWS, COLUMNS, 6, 8, 4, 4)
    machine = Machine(layout, lut(0.004, 2.2), lut(0.05, 1.8), channel, encoding(code))
    domain = Domain(0.01, ROWS, COLUMNS, 0.5, 525.0)
    return Calibration(machine, domain, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", {}, {})


def quiet() -> Noise:
    return Noise(1e-6, 1e-9, 0.0, np.zeros(3))


def loud() -> Noise:
    return Noise(150.0, 4.0, 1e-4, np.zeros(3))


@pytest.mark.parametrize("signed", [True, False], ids=["four passes", "two passes"])
def test_mean_and_variance_are_those_of_the_machine_pass_by_pass(signed: bool) -> None:
    """A layer larger than the bench in both directions: 3 × 2 tiles."""
    calibration = calibrated(loud())
    machine = calibration.machine
    rng = np.random.default_rng(1)
    m, k, n = 40, 50, 4
    weight = rng.standard_normal((m, k)).astype(np.float32)
    x = rng.standard_normal((n, k)).astype(np.float32)
    x = x if signed else np.maximum(x, 0) + np.float32(1e-3)
    linear = nn.Linear(k, m, bias=False)
    linear.weight.data = torch.from_numpy(weight)
    optical = opticalize(nn.Sequential(linear), calibration)
    scale = optical[0].scale
    group = ProductGroup("w", "linear", 0, weight, x, x @ weight.T, np.zeros((n, 2), np.int64), scale)
    parts = []
    for tile in schedule(machine, [group]):
        mean, _ = predicted(machine, tile.scan)
        parts.append((tile, Readings(tile.scan, mean, np.zeros(len(mean)))))
    passes = assemble(machine, group, 0, parts)
    unit = scale * group.input_scales[:, None]

    draws = 3000
    with torch.inference_mode():
        y = optical(torch.from_numpy(np.repeat(x[None], draws, axis=0))).numpy()
    standard = np.sqrt(passes.variance) * unit
    z = (y.mean(0) - passes.realised * unit) / (standard / np.sqrt(draws))
    # quantisation differs where bleed was undone before rounding: up to a level of 256 in some weights
    slack = 0.004 * unit * np.sqrt(k) / (standard / np.sqrt(draws))
    assert (np.abs(z) < 4.5 + slack).all()
    ratio = y.var(0, ddof=1) / (passes.variance * unit**2)
    # a sample variance of 3000 draws has a standard error of 2.6 %; unmixing is averaged over outputs in the fold
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert np.abs(ratio - 1).max() < 0.16


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
    assert isinstance(optical.qk, OpticalProduct)
    with torch.inference_mode():
        # 2 % of 160 entries of each matrix are clipped, at a percentile of the same few
        assert float((optical(a, b) - a @ b).std() / (a @ b).std()) < 0.08


def test_every_linear_layer_and_attention_product_of_the_model_is_optical() -> None:
    model = GPT(GPTConfig(vocabulary=300, context=16, width=16, blocks=2, heads=2))
    keys = list(model.state_dict())
    optical = opticalize(model, calibrated(loud()))
    found = report(optical)
    assert len(found.optical) == 2 * 8
    assert set(found.digital) >= {"embedding", "position", "norm"}
    assert list(optical.state_dict()) == keys
    assert not any(isinstance(module, OpticalLinear) for module in model.modules())


def test_noise_follows_the_seed_and_leaves_the_global_generator_alone() -> None:
    model, x = nn.Sequential(nn.Linear(16, 16)), torch.randn(4, 16)
    before = torch.random.get_rng_state()
    one, same, other = (opticalize(model, calibrated(loud()), seed=s)(x) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


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
