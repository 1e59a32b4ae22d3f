"""Light goes forward, the model's gradient goes back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from calibration.errors import OutOfDomain
from calibration.response.fit import fit_response
from calibration.response.observations import Observations
from simulation.benches.imported import Imported
from simulation.conversion.optical import opticalize
from simulation.models.gpt import GPT, GPTConfig
from simulation.training.physical import CalibratedForward, PhysicalLinear, PhysicalProduct, make_physical, put_in_light


def tokens(seed: int = 3) -> torch.Tensor:
    return torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(seed))


def test_without_light_a_physical_model_is_the_model_itself(model: GPT) -> None:
    before = model(tokens())
    names = list(model.state_dict())
    make_physical(model)
    assert torch.equal(model(tokens()), before)
    assert list(model.state_dict()) == names
    assert isinstance(model.blocks[2].ffn.down, PhysicalLinear)


def test_output_is_that_of_light_and_gradient_that_of_the_exact_product() -> None:
    linear = PhysicalLinear(nn.Linear(4, 3))
    product = PhysicalProduct()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    linear.light = lambda x: torch.full((5, 3), 7.0)
    product.light = lambda a, b: torch.full((5, 5), -2.0)
    y = linear(x)
    assert torch.equal(y, torch.full((5, 3), 7.0))
    z = product(y, y.mT)
    assert torch.equal(z, torch.full((5, 5), -2.0))
    seen = torch.autograd.grad(y.sum(), [x, linear.weight])
    expected = torch.autograd.grad(nn.functional.linear(x, linear.weight, linear.bias).sum(), [x, linear.weight])
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


def put_in(one: nn.Linear, other: nn.Linear) -> None:
    one.weight = nn.Parameter(-one.weight.detach())


def lay_by_columns(one: nn.Linear, other: nn.Linear) -> None:
    one.weight.data = one.weight.data.mT.contiguous().mT


def exchange(one: nn.Linear, other: nn.Linear) -> None:
    one.weight, other.weight = other.weight, one.weight


def share(one: nn.Linear, other: nn.Linear) -> None:
    one.weight = other.weight


@pytest.mark.parametrize("change", [put_in, lay_by_columns, exchange, share])
def test_a_step_shows_and_draws_what_it_would_if_it_were_the_first(
    model: GPT, change: Callable[[nn.Linear, nn.Linear], None]
) -> None:
    forward = CalibratedForward("paper", 50.0)
    forward.prepare(model, tokens(), torch.Generator())
    for seed in (4, 5):
        forward.renew(model, torch.Generator().manual_seed(seed))
        seen = model(tokens())
        if seed == 4:
            change(model.blocks[0].ffn.up, model.blocks[1].ffn.up)
    alone = CalibratedForward("paper", 50.0)
    alone.renew(model, torch.Generator().manual_seed(5))
    assert torch.equal(seen, model(tokens()))


def test_calibrated_forward_is_the_optical_model_with_the_weights_of_now(model: GPT) -> None:
    forward = CalibratedForward("paper", 50.0)
    forward.prepare(model, tokens(), torch.Generator())
    with torch.no_grad():
        model.blocks[0].ffn.up.weight.mul_(1.5)
    forward.renew(model, torch.Generator().manual_seed(5))
    seen = model(tokens())
    seed = int(torch.randint(2**31 - 1, (), generator=torch.Generator().manual_seed(5)))
    put_in_light(model, {})
    torch.testing.assert_close(seen, opticalize(model, "paper", photons_per_mac=50.0, seed=seed)(tokens()))
    assert not torch.allclose(seen, model(tokens()), atol=1e-3)


def test_every_step_has_noise_of_its_own(model: GPT) -> None:
    forward, generator = CalibratedForward("paper", 50.0), torch.Generator().manual_seed(5)
    forward.prepare(model, tokens(), generator)
    answers = []
    for _ in range(2):
        forward.renew(model, generator)
        answers.append(model(tokens()))
    assert not torch.equal(*answers)
    assert not [name for name in model.state_dict() if "light" in name]
    answers[0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_gradient_on_an_import_is_that_of_what_its_curves_and_gains_give() -> None:
    """Of a bench whose detectors are bent and whose inputs each have a gain; without noise, to see the mean."""
    rng = np.random.default_rng(1)
    gain = np.outer(rng.uniform(0.8, 1.2, 4), rng.uniform(0.8, 1.2, 12))
    weights, inputs = rng.uniform(0, 1, (4, 12)), rng.uniform(0, 1, (1500, 12))
    light = inputs @ (gain * weights).T
    readings = 50 + 1e4 * (light + 0.03 * light**2) + rng.normal(0, 20, light.shape)
    response = fit_response(Observations(inputs, weights, readings)).response
    assert response.detector_curve is not None
    noise = replace(response.noise, read=1e-6, shot=0.0, intensity=0.0, common_gain=0.0, common_offset=0.0)
    drift = replace(response.drift, level_covariance=np.zeros((2, 2)))
    quiet = replace(response, noise=noise, drift=drift, misfit=None)
    torch.manual_seed(0)
    model = GPT(GPTConfig(300, context=17, width=32, blocks=1, heads=2))
    forward = CalibratedForward(Imported(quiet, (100.0, 100.0)))
    forward.prepare(model, tokens(), torch.Generator())
    forward.renew(model, torch.Generator().manual_seed(5))
    layer = model.blocks[0].ffn.up
    x = torch.randn(20, 32, requires_grad=True)
    along, pick = torch.randn(2, 20, 32), torch.randn(20, layer.out_features)
    (gradient,) = torch.autograd.grad((layer(x) * pick).sum(), x)
    with torch.no_grad():
        step = 0.05
        found = sum(s * (layer(x + s * step * along[0]) * pick).sum() for s in (1, -1)) / (2 * step)
    expected = (gradient * along[0]).sum()
    assert abs(float(found - expected)) < 0.02 * float(gradient.norm() * along[0].norm()) / 32**0.5


def test_a_model_learns_on_an_import_with_its_noise() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(300, context=17, width=16, blocks=1, heads=2))
    rng = np.random.default_rng(1)
    weights, inputs = rng.uniform(0, 1, (4, 12)), rng.uniform(0, 1, (600, 12))
    readings = 50 + 0.5 * rng.poisson(3e3 * inputs @ weights.T)
    response = fit_response(Observations(inputs, weights, readings)).response
    for photons in (None, 100.0):
        forward, generator = CalibratedForward(response, photons), torch.Generator().manual_seed(1)
        trained = copy.deepcopy(model)
        forward.prepare(trained, tokens(), generator)
        optimiser, losses = torch.optim.Adam(trained.parameters(), 1e-2), []
        for _ in range(8):
            forward.renew(trained, generator)
            logits = trained(tokens()[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens()[:, 1:].flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.85 * losses[0]
    with pytest.raises(OutOfDomain, match="brighter"):
        CalibratedForward(response, 1e9)
