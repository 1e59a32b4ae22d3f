"""Light goes forward, the model's gradient goes back."""

from __future__ import annotations

import torch
from torch import nn

from simulation.conversion.optical import opticalize
from simulation.models.gpt import GPT
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
