"""A calibration in aihwkit: its analog layers are as noisy as the bench, layer by layer and as a whole.

aihwkit is in no extra: it has wheels for some versions of Python only, and is skipped where it is not installed.
"""

from __future__ import annotations

import doctest
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import labctl
from drivers.libraries.loading import load
from labctl.errors import UsageError


@pytest.fixture(autouse=True)
def aihwkit() -> Iterator[Any]:
    if importlib.util.find_spec("aihwkit") is None:
        pytest.skip("needs aihwkit: python -m pip install aihwkit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load("aihwkit.nn")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 8)]
    return nn.Sequential(*layers).eval()


def rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("photons", [3.0, 300.0])
def test_it_is_as_noisy_as_the_model_in_light(model: nn.Module, photons: float) -> None:
    """Within 15 %: noise that follows the signal has become one number for each layer."""
    sample, others = torch.randn(400, 32), torch.randn(400, 32)
    analog = labctl.as_aihwkit(model, "paper", sample, photons_per_mac=photons)
    optical = labctl.opticalize(model, "paper", photons_per_mac=photons, seed=7)
    with torch.no_grad():
        clean = model(others)
        assert rms(analog(others) - clean) == pytest.approx(rms(optical(others) - clean), rel=0.15)


def test_without_noise_it_is_the_model(model: nn.Module) -> None:
    inputs = torch.randn(50, 32)
    analog = labctl.as_aihwkit(model, "ideal", inputs)
    with torch.no_grad():
        assert torch.allclose(analog(inputs), model(inputs), atol=1e-4)


def test_each_layer_has_its_own_noise_and_the_original_is_left_alone(model: nn.Module, aihwkit: Any) -> None:
    model.train()
    model[2].eval()  # type: ignore[index]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    analog = labctl.as_aihwkit(model, "paper", torch.randn(200, 32), photons_per_mac=10.0)
    tiles = [one for one in analog.modules() if isinstance(one, aihwkit.AnalogLinear)]
    noise = [tile.analog_module.rpu_config.forward.out_noise for tile in tiles]
    assert len(set(noise)) == len(noise) == 3
    assert all(type(one) is not aihwkit.AnalogLinear for one in model)  # type: ignore[attr-defined]
    assert [one.training for one in model] == [True, True, False, True, True]  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_what_stays_digital_in_light_stays_digital() -> None:
    language = labctl.load_language(labctl.shipped_model().parent / "family" / "optical-gpt-d32.safetensors")
    tokens = torch.tensor([language.encode("The value of the expression is the value of its last operand.")])
    analog = labctl.as_aihwkit(language.model, "paper", tokens, photons_per_mac=100.0)
    kinds = {name: type(one).__name__ for name, one in analog.named_modules()}
    optical = labctl.optical_report(labctl.opticalize(language.model, "paper")).optical
    assert {name for name, kind in kinds.items() if kind == "AnalogLinear"} == {
        name for name in optical if not name.endswith(("qk", "av"))
    }


def test_models_that_have_no_such_layer_are_refused(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="no linear layer"):
        labctl.as_aihwkit(nn.Sequential(nn.ReLU()), "paper", torch.rand(5, 16))

    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(16, 8), nn.Linear(16, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)  # type: ignore[no-any-return]

    with pytest.raises(UsageError, match="does not run on these inputs") as caught:
        labctl.as_aihwkit(Skips(), "paper", torch.rand(5, 16))
    assert caught.value.device == "unused"
    with pytest.raises(UsageError, match="does not run on these inputs"):
        labctl.as_aihwkit(model, "paper", torch.zeros(5, 32))


def test_the_example_of_the_docstring_works(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [t for t in doctest.DocTestFinder(recurse=False).find(labctl.as_aihwkit, "as") if t.examples]
    example.globs = {}
    failed, tried = doctest.DocTestRunner().run(example)
    assert tried
    assert not failed, capsys.readouterr().out
