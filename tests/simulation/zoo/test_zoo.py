"""Whatever the architecture, light without noise gives the model's own answer, and how much is in light is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo_models import CASES, OURS

from simulation.conversion.optical import optical_report, opticalize

pytestmark = pytest.mark.slow

DIGITAL = (
    "embedding: a table, not a product",
    "normalisation",
    "output head",
    "an outer product: nothing is summed",
    "weights among themselves",
    "convolution of a form that light has no way for",
    "a Fourier transform",
)
"""Why a product, or a layer with parameters, may stay digital; anything else is news."""


def _drawn(model: nn.Module) -> nn.Module:
    """Weights of a size that makes every part matter; many architectures begin with parts that are zero."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, 0.2)
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def _answer(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    names = ("logits", "last_hidden_state", "logits_per_text", "image_embeds", "pooler_output")
    found: Tensor = next(value for name in names if (value := getattr(output, name, None)) is not None)
    return found


def _require_exact(model: nn.Module, inputs: Any, share: float) -> None:
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        expected, got = _answer(model(**inputs)), _answer(optical(**inputs))
    assert float((got - expected).abs().max()) <= 1e-4 * float(expected.std())
    found = optical_report(optical)
    assert found.share == pytest.approx(share, abs=5e-4)
    assert set(found.digital.values()) <= set(DIGITAL)


@pytest.mark.parametrize("name", CASES)
def test_architecture_is_exact_and_its_share_in_light_is_known(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    architecture, config, inputs, share = CASES[name]
    made = getattr(transformers, architecture, None)
    if made is None:
        pytest.skip(f"this version of transformers has no {architecture}")
    torch.manual_seed(0)
    _require_exact(_drawn(made(made.config_class(**config))), inputs(), share)


@pytest.mark.parametrize("name", OURS)
def test_model_of_plain_torch_is_exact_and_its_share_in_light_is_known(name: str) -> None:
    torch.manual_seed(0)
    made, share = OURS[name]
    _require_exact(_drawn(made()), {"input_ids": torch.randint(3, 60, (2, 9))}, share)
