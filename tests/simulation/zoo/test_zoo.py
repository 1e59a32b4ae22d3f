"""Whatever the architecture, light without noise gives the model's own answer, and how much is in light is known."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zoo_latest import LATEST, LATEST_OURS
from zoo_models import CASES, OURS, VISION
from zoo_newer import NEWER
from zoo_odd import ODD
from zoo_ours import ARCHITECTURES

from simulation.conversion.convert import digitally
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
    "sums of products, vector by vector: no matrix is in them",
    "a product of sparse operands",
    "distances between vectors",
    "bilinear: three operands",
    "linalg_inv: algebra of whole matrices",
    "linalg_solve_triangular: algebra of whole matrices",
    "interpolation: each point has weights of its own",
    "products element by element, summed in another way than at once",
    "index_add: products element by element, summed in another way than at once",
    "addcmul: multiplied and added element by element",
    "cumprod: a product of many numbers",
    "logcumsumexp: sums of exponentials",
)
"""Why a product, or a layer with parameters, may stay digital; anything else is news."""
UNTRAINED = ("RwkvForCausalLM",)
"""They write into their own state in evaluation, so that torch has no gradients of them, in light or not."""


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


def _rows(inputs: Mapping[str, Tensor], rows: slice) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in inputs.items()}


def _require_all(model: nn.Module, inputs: Mapping[str, Tensor], share: float) -> None:
    """Exact and known; then what a row, a seed, and a step of training make of it."""
    optical = opticalize(model, "ideal")
    with torch.no_grad():
        expected, got = _answer(model(**inputs)), _answer(optical(**inputs))
    tolerance = 1e-4 * float(expected.std())
    assert float((got - expected).abs().max()) <= tolerance
    found = optical_report(optical)
    assert found.share == pytest.approx(share, abs=5e-4)
    assert set(found.digital.values()) <= set(DIGITAL)
    assert found.uncounted == ()
    with torch.no_grad():
        alone = [_answer(each(**_rows(inputs, slice(1)))) for each in (model, optical)]
    if alone[0].shape == expected[:1].shape and float((alone[0] - expected[:1]).abs().max()) < tolerance / 10:
        assert float((alone[1] - got[:1]).abs().max()) <= tolerance, "a row does not depend on the others"
    _require_seeds(model, inputs)
    if type(model).__name__ not in UNTRAINED:
        _require_trainable(model, inputs, tolerance)


def _require_seeds(model: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Noise follows the seed and nothing else."""
    with torch.no_grad():
        first, again, other = (
            _answer(opticalize(model, "ideal", photons_per_mac=30.0, seed=seed)(**inputs)) for seed in (1, 1, 2)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def _require_trainable(model: nn.Module, inputs: Mapping[str, Tensor], tolerance: float) -> None:
    """Without noise gradients are the model's own, and after a step light follows the weights."""
    optical = opticalize(copy.deepcopy(model), "ideal")
    gradients = []
    for each in (model, optical):
        _answer(each(**inputs)).square().mean().backward()
        gradients.append({name: p.grad for name, p in each.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values() if gradient.numel())
    for name, gradient in gradients[0].items():
        assert not gradient.numel() or float((gradient - gradients[1][name]).abs().max()) <= 1e-3 * largest, name
    torch.optim.SGD(optical.parameters(), 0.01 / largest).step()
    with torch.no_grad():
        got = _answer(optical(**inputs))
        with digitally(optical):
            expected = _answer(optical(**inputs))
    assert float((got - expected).abs().max()) <= 10 * tolerance


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("name", CASES | NEWER | LATEST)
def test_architecture_is_exact_and_its_share_in_light_is_known(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    architecture, config, inputs, share = (CASES | NEWER | LATEST)[name]
    made = getattr(transformers, architecture, None)
    if made is None:
        pytest.skip(f"this version of transformers has no {architecture}")
    torch.manual_seed(0)
    _require_all(_drawn(made(made.config_class(**config))), inputs(), share)


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:`torch.jit.script`:DeprecationWarning")
@pytest.mark.parametrize("name", OURS | ARCHITECTURES | ODD | LATEST_OURS)
def test_model_of_plain_torch_is_exact_and_its_share_in_light_is_known(name: str) -> None:
    torch.manual_seed(0)
    made, share = (OURS | ARCHITECTURES | ODD | LATEST_OURS)[name]
    _require_all(_drawn(made()), {"input_ids": torch.randint(3, 60, (2, 9))}, share)


@pytest.mark.parametrize("name", VISION)
def test_model_of_timm_is_exact_and_its_share_in_light_is_known(name: str) -> None:
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: of a torchvision that was built for another torch
        pytest.skip(f"timm, or its torchvision, cannot be imported: {error}")
    architecture, options, is_fused, share = VISION[name]
    torch.manual_seed(0)
    made = getattr(timm.models, architecture)
    model = made(**options)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = is_fused
    _require_all(_drawn(model), {"x": torch.randn(2, 3, 32, 32)}, share)


def test_paper_says_that_rows_change_each_other_and_by_no_more_than_that() -> None:
    """Its reading error follows the mean light of all vectors that are shown together; other noise does not."""
    torch.manual_seed(0)
    model = _drawn(ARCHITECTURES["nanoGPT"][0]())
    ids, other = torch.randint(3, 60, (2, 4, 9))
    other[0] = ids[0]
    for source, light, most in (("paper", None, 0.05), ("ideal", 100.0, 0.005)):
        with torch.no_grad():
            got = [opticalize(model, source, photons_per_mac=light, seed=4)(each)[0] for each in (ids, other)]
            apart = float((got[0] - got[1]).std() / model(ids)[0].std())
        assert apart <= most, source
        words = optical_report(opticalize(model, source)).batch
        assert ("change each other's answer" in words) == (source == "paper")
        assert ("which numbers are drawn may change" in words) == (source == "ideal")
