"""Adapting a model to a bench: what moves, whereto, and that a killed adaptation goes on bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from everyday import everyday
from torch import Tensor, nn

from calibration.errors import ArtefactError, BadOperands, OutOfDomain
from simulation.conversion.optical import opticalize, reseed
from simulation.light.optics import optics
from simulation.models.checkpoint import load_checkpoint
from simulation.models.gpt import GPT
from simulation.models.text import pydoc_text
from simulation.training.adapt import AdaptConfig, distil
from simulation.training.train import Progress
from simulation.training.tuning import LowRank

SHIPPED = Path(__file__).parents[2] / "data" / "models" / "family" / "optical-gpt-d32.safetensors"
TINY = AdaptConfig(
    photons_per_mac=20.0, rank=2, tokens=8 * 2 * 16, batch=2, context=16, evaluate_every=3, score_tokens=40
)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(300, (400,), generator=torch.Generator().manual_seed(4))


class Killed(Exception):
    pass


def killed_at(step: int):
    def progress(now: Progress) -> None:
        if now.step == step:
            raise Killed

    return progress


def test_a_correction_moves_along_the_gradient_of_its_factors() -> None:
    model = nn.Sequential(nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 8))
    tuning = LowRank(model, 2, torch.Generator().manual_seed(1))
    factors = {name: p for name, p in tuning.moving.named_parameters() if name.startswith("0/weight")}
    with torch.no_grad():
        factors["0/weight.B".replace(".", "/")].normal_(generator=torch.Generator().manual_seed(2))
    before = model[0].weight.detach().clone()
    tuning.write()
    x = torch.randn(5, 12, generator=torch.Generator().manual_seed(3))
    a, b = (factors[f"0/weight/{name}"].detach().clone().requires_grad_() for name in "AB")
    hidden = nn.functional.linear(x, before + b @ a, model[0].bias).tanh()
    expected = torch.autograd.grad(nn.functional.linear(hidden, model[2].weight, model[2].bias).square().sum(), [a, b])
    model(x).square().sum().backward()
    tuning.gather()
    for name, gradient in zip("AB", expected, strict=True):
        torch.testing.assert_close(factors[f"0/weight/{name}"].grad, gradient)
    assert model[0].weight.grad is None


def test_corrections_leave_the_model_as_it_was_until_they_move(model: GPT) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuning = LowRank(model, 4, torch.Generator().manual_seed(1))
    tuning.write()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    moving = {name for name, _ in tuning.moving.named_parameters()}
    assert {"blocks/0/ffn/up/weight/A", "blocks/0/ffn/up/weight/B", "norm/bias"} <= moving
    assert not any("embedding" in name or "position" in name for name in moving)


def test_only_what_moves_differs_from_the_model_before(model: GPT, ids: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = distil(model, optics("paper"), ids, ids, TINY).model
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    changed = {name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == before.keys() - {"embedding.weight", "position.weight"}
    assert all(parameter.requires_grad for parameter in adapted.parameters())
    for name in ("blocks.0.attention.query.weight", "blocks.2.ffn.down.weight"):
        assert torch.linalg.matrix_rank(adapted.state_dict()[name] - before[name]) == TINY.rank


@pytest.mark.parametrize(
    "changed",
    everyday([{}, {"rank": None}, {"quantise": True}, {"text_share": 0.5}], 0, 2),
    ids=["low rank", "whole", "quantised", "with the text's own loss"],
)
def test_killed_adaptation_ends_bit_for_bit_as_one_that_was_not(
    model: GPT, ids: Tensor, tmp_path: Path, changed: dict[str, object]
) -> None:
    config, state, bench = replace(TINY, **changed), tmp_path / "x.training", optics("paper")
    whole = distil(model, bench, ids, ids, config)
    for step in (1, 4, 8):
        with pytest.raises(Killed):
            distil(model, bench, ids, ids, config, state=state, progress=killed_at(step))
    resumed = distil(model, bench, ids, ids, config, state=str(state))
    assert resumed.curve == whole.curve
    assert [row[0] for row in whole.curve] == [0, 3, 6, 8]
    expected = whole.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.model.state_dict().items())


@pytest.mark.parametrize(
    "changed", [{"photons_per_mac": 30.0}, {"rank": 3}, {"seed": 1}, {"text_share": 0.1}, {"tokens": 400}]
)
def test_state_of_another_adaptation_is_refused(
    model: GPT, ids: Tensor, tmp_path: Path, changed: dict[str, float]
) -> None:
    state = tmp_path / "x.training"
    with pytest.raises(Killed):
        distil(model, optics("paper"), ids, ids, TINY, state=state, progress=killed_at(3))
    with pytest.raises(ArtefactError, match="state of another training"):
        distil(model, optics("paper"), ids, ids, replace(TINY, **changed), state=state)
    with pytest.raises(ArtefactError, match="state of another training"):
        distil(model, optics("ideal"), ids, ids, TINY, state=state)
    with pytest.raises(ArtefactError, match="state of another training"):
        distil(model, optics("paper"), ids + 0, ids[1:], TINY, state=state)


def test_a_bench_that_computes_what_the_model_does_is_nothing_to_adapt_to(model: GPT, ids: Tensor) -> None:
    own_light = replace(TINY, photons_per_mac=None)
    with pytest.raises(OutOfDomain, match="nothing to learn") as caught:
        distil(model, optics("ideal"), ids, ids, own_light)
    assert "--photons-per-mac" in caught.value.hint
    short = {"tokens": 32, "photons_per_mac": None}
    distil(model, optics("ideal"), ids, ids, replace(TINY, quantise=True, **short))
    distil(model, optics("ideal"), ids, ids, replace(TINY, text_share=0.5, **short))
    distil(model, optics("paper"), ids, ids, replace(TINY, **short))


def test_a_trained_model_becomes_better_in_the_light_that_it_is_adapted_to() -> None:
    checkpoint = load_checkpoint(SHIPPED)
    learned, heldout = (
        torch.tensor(checkpoint.tokenizer.encode(pydoc_text(split).content[:60_000]).ids)
        for split in ("train", "heldout")
    )
    config = AdaptConfig(photons_per_mac=1.0, tokens=4000, batch=8, context=64, evaluate_every=1000, score_tokens=2000)
    (_, _, before), (_, _, after) = distil(checkpoint.model, optics("paper"), learned, heldout, config).curve
    assert after < before - 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0}, {"batch": 0}, {"context": 0}, {"rank": 0}, {"text_share": 1.5}, {"learning_rate": 0.0},
        {"learning_rate": float("nan")}, {"evaluate_every": 0}, {"score_tokens": 0}, {"photons_per_mac": 0.0},
        {"photons_per_mac": float("inf")},
    ],
)  # fmt: skip
def test_impossible_adaptation_is_refused_before_any_work(wrong: dict[str, float]) -> None:
    with pytest.raises(OutOfDomain):
        AdaptConfig(**wrong)


SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 24, "vocab_size": 300,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["Llama", "Mixtral", "GPT2"])
def test_models_of_others_move_wherever_light_computes_and_nowhere_else(kind: str, ids: Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 300} if kind == "GPT2" else SMALL
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config).eval()
    model.requires_grad_(False)
    adapted = distil(model, optics("paper"), ids, ids, replace(TINY, tokens=64)).model
    before, after = dict(model.named_parameters()), dict(adapted.named_parameters())
    still = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert still == {name for name in before if any(part in name for part in ("embed_tokens", "wte", "wpe", "lm_head"))}
    assert not any(parameter.requires_grad for parameter in adapted.parameters())


def test_text_shorter_than_a_window_teaches_nothing(model: GPT, ids: Tensor) -> None:
    with pytest.raises(BadOperands, match="too little text"):
        distil(model, optics("paper"), ids[:17], ids, TINY)


def test_reseeded_noise_is_that_of_a_new_conversion(model: GPT) -> None:
    tokens = torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(3))
    optical = opticalize(model, "paper", photons_per_mac=20.0, seed=1)
    with torch.no_grad():
        first = optical(tokens)
        reseed(optical, 7)
        again = optical(tokens)
        expected = opticalize(model, "paper", photons_per_mac=20.0, seed=7)(tokens)
    assert torch.equal(again, expected)
    assert not torch.equal(first, again)
