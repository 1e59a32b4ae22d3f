"""256 levels, the paper's percentiles, stochastic outputs, gradients straight through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.models.gpt import GPT
from simulation.training.forward import plain
from simulation.training.qat import LEVELS, QuantisedForward, QuantisedLinear, Range, fake_quantise, upper


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 6.0), (-0.3, 2.7)])
def test_values_take_256_equal_levels_and_zero_is_one(low: float, high: float) -> None:
    x = torch.linspace(low - 1, high + 1, 20001)
    out = fake_quantise(x, torch.tensor(low), torch.tensor(high), None)
    levels = out.unique()
    step = (high - low) / 255
    assert len(levels) == LEVELS
    assert 0.0 in levels
    torch.testing.assert_close(levels.diff(), torch.full((255,), step), rtol=1e-4, atol=1e-6)
    inside = (x > low + step) & (x < high - step)
    assert (out - x)[inside].abs().max() <= step / 2 * 1.0001


def test_gradient_goes_straight_through_and_stops_at_the_clip() -> None:
    x = torch.tensor([-3.0, -0.2, 0.3, 0.9, 5.0], requires_grad=True)
    fake_quantise(x, torch.tensor(-1.0), torch.tensor(1.0), None).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


def test_stochastic_rounding_is_unbiased_and_stays_on_neighbouring_levels() -> None:
    value, step = 0.1234, 2 / 255
    x = torch.full((200_000,), value)
    out = fake_quantise(x, torch.tensor(-1.0), torch.tensor(1.0), seeded())
    assert len(out.unique()) == 2
    # The standard error of the mean of Bernoulli steps is at most step / 2 / √n; four of them.
    assert abs(float(out.double().mean()) - value) < 4 * step / 2 / np.sqrt(len(x))


def test_percentile_is_that_of_numpy() -> None:
    x = torch.randn(5000, generator=seeded())
    for percentile in (98.0, 99.0, 99.99, 100.0):
        assert float(upper(x, percentile)) == np.percentile(x.numpy(), percentile, method="inverted_cdf")
    with pytest.raises(BadOperands):
        upper(torch.tensor([torch.nan, 1.0]), 100.0)


def test_prepared_model_keeps_its_parameters_and_says_its_ranges(model: GPT) -> None:
    weight = model.blocks[0].ffn.up.weight
    windows = torch.randint(300, (4, 33), generator=seeded())
    forward = QuantisedForward()
    forward.prepare(model, windows, seeded(2))
    assert isinstance(model.blocks[0].ffn.up, QuantisedLinear)
    assert model.blocks[0].ffn.up.weight is weight
    ranges = forward.record(model)["ranges"]
    assert len(ranges) == 3 * (6 * 2 + 2 * 3)  # 3 blocks: two for each linear layer, three for each attention product
    assert ranges["blocks.1.ffn.down.inputs"][0] == 0  # after ReLU6
    low, high = ranges["blocks.1.attention.qk.second"]
    assert low == -high < 0


def test_ranges_are_percentiles_of_the_one_batch(model: GPT) -> None:
    windows = torch.randint(300, (4, 33), generator=seeded())
    seen = []
    with torch.inference_mode():
        handle = model.blocks[0].attention.qk.register_forward_hook(lambda _, operands, out: seen.append(operands[1]))
        model(windows[:, :-1])
        handle.remove()
    expected = np.percentile(np.abs(seen[0].numpy()), 98, method="inverted_cdf")
    forward = QuantisedForward()
    forward.prepare(model, windows, seeded(2))
    # The keys come from a quantised layer, half a level of 255 off at most.
    assert forward.record(model)["ranges"]["blocks.0.attention.qk.second"][1] == pytest.approx(expected, rel=0.02)


def test_running_ranges_forget_slowly_and_only_in_training() -> None:
    limits = Range(99.0, "running")
    limits.watching = True
    limits(torch.tensor([-1.0, 1.0]))
    limits.watching = False
    limits(torch.tensor([-3.0, 11.0]))
    assert float(limits.high) == pytest.approx(0.999 * 1 + 0.001 * 11)
    assert float(limits.low) == pytest.approx(-0.999 - 0.003)
    before = float(limits.high)
    limits.eval()(torch.tensor([100.0]))
    assert float(limits.high) == before


def test_evaluation_rounds_deterministically(model: GPT) -> None:
    windows = torch.randint(300, (2, 33), generator=seeded())
    QuantisedForward().prepare(model, windows, seeded(2))
    tokens = windows[:, :-1]
    assert torch.equal(model.eval()(tokens), model(tokens))
    assert not torch.equal(model.train()(tokens), model(tokens))


def test_plain_model_has_ordinary_modules_and_the_same_weights(model: GPT) -> None:
    tokens = torch.randint(300, (2, 20), generator=seeded())
    before = model(tokens)
    QuantisedForward().prepare(model, torch.randint(300, (2, 33), generator=seeded()), seeded(2))
    bare = plain(model)
    assert type(bare.blocks[0].ffn.up) is nn.Linear
    assert torch.equal(bare(tokens), before)


def test_unknown_ranges_are_refused() -> None:
    with pytest.raises(OutOfDomain):
        QuantisedForward("guess")  # type: ignore[arg-type]
