"""The second order of the excess: against closed forms, against the simulator's own noise, and against Lagrange."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.optical import optical_report, opticalize
from simulation.evaluation.divergence import divergence
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.loading import load_language
from simulation.scaling.expansion import Cost, Expansion, ProductCost, expand

VOCABULARY, WIDTH = 12, 16


class Bigram(nn.Module):
    """Logits are one matrix by the token's own vector: everything about it can be written down."""

    def __init__(self, inputs: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.inputs = nn.Parameter(inputs)
        self.answer = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.answer.weight = nn.Parameter(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.answer(nn.functional.embedding(tokens, self.inputs))
        return out


def bigram(seed: int = 0) -> Bigram:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(VOCABULARY, WIDTH, generator=generator)
    inputs[: VOCABULARY // 2] = inputs[: VOCABULARY // 2].abs()  # one sign only: one pass instead of two
    return Bigram(inputs, torch.randn(VOCABULARY, WIDTH, generator=generator) / 2)


def text(count: int, vocabulary: int = VOCABULARY, seed: int = 1) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, count).tolist()


def small_gpt(seed: int = 0) -> GPT:
    config = GPTConfig(vocabulary=64, context=16, width=32, heads=2, blocks=2)
    model = GPT(config, torch.Generator().manual_seed(seed)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(10)  # answers that are far from uniform, as a trained model's are
    return model


def closed_form(model: Bigram, ids: list[int], clip: float) -> float:
    """½ tr(F Σ) of each token, F = diag p − p pᵀ, in the mean; noise from the module's formula, in numpy."""
    x, w = model.inputs.detach().double().numpy(), model.answer.weight.detach().double().numpy()
    full = np.percentile(np.abs(w), clip, method="inverted_cdf")
    w = w.clip(-full, full)
    signs = (x > 0).any(1).astype(float) + (x < 0).any(1)
    variance = full * (np.abs(x) @ np.abs(w).T) * np.abs(x).sum(1)[:, None] / (signs * WIDTH)[:, None]
    p = np.exp(x @ w.T)
    p /= p.sum(1, keepdims=True)
    return float((0.5 * (variance * p * (1 - p)).sum(1))[np.array(ids[:-1])].mean())


@pytest.mark.parametrize("clip", [100.0, 95.0])
def test_cost_of_one_product_is_the_closed_form(clip: float) -> None:
    model, ids = bigram(), text(4001)
    found, expected = expand(model, ids, context=8, clip=(clip, clip)), closed_form(model, ids, clip)
    assert found.total.kl == pytest.approx(expected, abs=4 * found.total.kl_stderr)
    # Of logits themselves the loss has the same second derivatives, whatever comes next.
    assert found.total.loss == pytest.approx(expected, abs=4 * found.total.loss_stderr)
    assert found.total.kl_stderr < 0.03 * expected
    assert [(p.name, p.kind, p.macs) for p in found.products] == [("answer", "ffn", 4000 * WIDTH * VOCABULARY)]


def test_clipping_makes_the_same_light_worth_more() -> None:
    model, ids = bigram(), text(100)
    assert closed_form(model, ids, 95.0) < 0.9 * closed_form(model, ids, 100.0)


def test_detectors_that_miss_half_of_the_photons_need_twice_as_many() -> None:
    model, ids = bigram(), text(1001)
    assert expand(model, ids, context=8, quantum_efficiency=0.5).total.kl == pytest.approx(
        2 * expand(model, ids, context=8).total.kl, rel=1e-3
    )


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_costs_what_it_does_in_single(precision: torch.dtype) -> None:
    """Rounding in half precision is larger than the noise that probes, and would be taken for it."""
    ids, model = text(257, 64), small_gpt().to(precision)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = expand(model, ids, context=16).total.kl
    assert found == pytest.approx(expand(copy.deepcopy(model).float(), ids, context=16).total.kl)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_answers_that_are_not_kept_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = text(401, 64)
    kept = expand(small_gpt(), ids, context=16)
    monkeypatch.setattr("simulation.scaling.expansion.REMEMBERED", 16 * 16 * 64)  # of one batch of two
    assert expand(small_gpt(), ids, context=16) == kept


def test_products_add_up_to_what_all_of_them_cost_together() -> None:
    found = expand(small_gpt(), text(2049, 64), context=16)
    error = math.hypot(found.total.kl_stderr, found.together.kl_stderr)
    assert found.together.kl == pytest.approx(found.total.kl, abs=4 * error)
    assert error < 0.1 * found.total.kl
    assert [product.kind for product in found.products[:8]] == [*["qkvo"] * 3, "qk", "av", "qkvo", "ffn", "ffn"]
    assert sum(cost.kl for cost in found.kinds().values()) == pytest.approx(found.total.kl)


def test_simulated_shot_noise_costs_what_the_expansion_says() -> None:
    """The sweep's own noise, drawn by other code from other formulas."""
    model, ids, n = small_gpt(), text(2049, 64), 20_000.0
    found = expand(model, ids, context=16)
    tokens = torch.tensor(ids[:-1]).view(-1, 16)
    with torch.inference_mode():
        digital = model(tokens).double().log_softmax(-1)
        lit = opticalize(model, "ideal", photons_per_mac=n)(tokens).double().log_softmax(-1)
    kl = float((digital.exp() * (digital - lit)).sum(-1).mean())
    assert kl < 0.02  # small enough for the second order
    assert kl * n == pytest.approx(found.total.kl, rel=0.06)


def test_budget_spends_the_same_light_and_needs_less_of_it() -> None:
    model, ids, mean = small_gpt(), text(2049, 64), 3000.0
    found = expand(model, ids, context=16)
    shares = found.budget(mean)
    macs = {product.name: product.macs for product in found.products}
    assert sum(shares[name] * macs[name] for name in macs) == pytest.approx(mean * sum(macs.values()))
    tokens = torch.tensor(ids[:-1]).view(-1, 16)
    with torch.inference_mode():
        digital = model(tokens).double().log_softmax(-1)

        def kl(light: float | dict[str, float]) -> float:
            lit = opticalize(model, "ideal", photons_per_mac=light)(tokens).double().log_softmax(-1)
            return float((digital.exp() * (digital - lit)).sum(-1).mean())

        even, shared = kl(mean), kl(shares)
    assert even / shared == pytest.approx(found.gain_of_budget, rel=0.12)
    assert found.gain_of_budget > 1.2


def expansion(costs: list[float], macs: list[int]) -> Expansion:
    products = [
        ProductCost(str(i), "ffn", m, Cost(c, 0.01, c, 0.01)) for i, (c, m) in enumerate(zip(costs, macs, strict=True))
    ]
    return Expansion(tuple(products), Cost(0, 0, 0, 0), 1, 0.0)


def test_no_other_split_of_the_light_costs_less() -> None:
    costs, macs = np.array([5.0, 0.3, 2.0, 0.7]), np.array([10, 40, 20, 5])
    found = expansion(costs.tolist(), macs.tolist())
    best = np.array(list(found.budget(7.0).values()))
    least = (costs / best).sum()
    assert (costs / 7.0).sum() / least == pytest.approx(found.gain_of_budget)
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = best * rng.uniform(0.5, 2, 4)
        other *= 7.0 * macs.sum() / (other * macs).sum()
        assert (costs / other).sum() >= least


def test_a_product_that_costs_nothing_is_not_left_in_the_dark() -> None:
    assert min(expansion([1.0, 0.0, -0.5], [1, 1, 1]).budget(10.0).values()) > 0


def test_noise_that_helps_a_model_has_no_requirement() -> None:
    assert math.isnan(expansion([-1.0], [1]).photons(0.05, "loss"))


@pytest.mark.parametrize("light", [0.0, -1.0, math.nan, math.inf])
def test_budget_of_no_light_is_refused(light: float) -> None:
    with pytest.raises(OutOfDomain, match="positive"):
        expansion([1.0], [1]).budget(light)


def test_light_for_products_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="no light"):
        opticalize(small_gpt(), "ideal", photons_per_mac={"blocks.0.ffn.up": 10.0})(torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(OutOfDomain, match="positive"):
        opticalize(bigram(), "ideal", photons_per_mac={"answer": 0.0})


@pytest.mark.parametrize("light", [1e-46, 1e-16, 1e16, 1e300])
def test_light_of_which_no_number_can_be_had_is_refused(light: float) -> None:
    """At 10⁻³⁰⁰ photons there was no noise at all, and at 10³⁸ no answer."""
    for stated in (light, {"answer": light}):
        with pytest.raises(OutOfDomain, match="positive"):
            opticalize(bigram(), "ideal", photons_per_mac=stated)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_the_dimmest_and_the_brightest_light_give_what_they_must(backend: str) -> None:
    tokens = torch.arange(VOCABULARY)
    with torch.inference_mode():
        exact = bigram()(tokens)
        dark, bright = (
            opticalize(bigram(), "ideal", photons_per_mac=n, backend=backend)(tokens) for n in (1e-15, 1e15)
        )  # type: ignore[arg-type]
    assert not dark.any()
    assert torch.allclose(bright, exact, atol=1e-5)


def test_products_that_are_not_named_may_share_one_light() -> None:
    lit = opticalize(small_gpt(), "ideal", photons_per_mac={"blocks.0.ffn.up": 10.0, "*": 40.0})
    with torch.inference_mode():
        lit(torch.arange(16)[None])
    light = {name: tally.photons_per_mac for name, tally in optical_report(lit).layers.items()}
    assert light.pop("blocks.0.ffn.up") == pytest.approx(10.0, rel=1e-3)
    assert list(light.values()) == pytest.approx([40.0] * 15, rel=1e-3)


def test_a_budget_of_another_model_is_refused() -> None:
    with pytest.raises(OutOfDomain, match="light is of another model"):
        opticalize(small_gpt(), "ideal", photons_per_mac={"blocks.0.ffn.up": 10.0, "blocks.2.ffn.up": 10.0})
    with pytest.raises(OutOfDomain, match="any product"):
        opticalize(small_gpt(), "ideal", photons_per_mac={})


def test_model_without_products_or_text_is_refused() -> None:
    with pytest.raises(BadOperands, match="nothing to score"):
        expand(bigram(), [1], context=8)
    with pytest.raises(OutOfDomain, match="no product"):
        expand(nn.Embedding(VOCABULARY, VOCABULARY), text(20), context=8)


@pytest.mark.parametrize(
    "more", [{"quantum_efficiency": 2.0}, {"quantum_efficiency": math.nan}, {"clip": (0.0, 100.0)}, {"seed": -1}]
)
def test_light_and_seeds_that_there_are_not_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(OutOfDomain):
        expand(bigram(), text(20), context=8, **more)


def test_budget_weighs_what_products_take_in_passes() -> None:
    cost = Cost(1.0, 0.01, 1.0, 0.01)
    found = Expansion((ProductCost("two", "ffn", 100, cost), ProductCost("four", "ffn", 100, cost)), cost, 1, 1.0)
    light = found.budget(10.0, {"two": 200.0, "four": 400.0})
    assert (200 * light["two"] + 400 * light["four"]) / 600 == pytest.approx(10.0)
    assert light["two"] / light["four"] == pytest.approx(math.sqrt(2))


def test_products_without_passes_or_costs_get_the_mean_and_the_total_stays() -> None:
    found = expansion([5.0, 0.3, 2.0], [10, 40, 20])
    passes = {"0": 0.0, "1": 160.0, "an expert that was asked later": 1000.0}
    light = found.budget(7.0, passes)
    assert light["0"] == light["2"] == light["an expert that was asked later"] == light["1"] == 7.0
    passes |= {"2": 80.0}
    light = found.budget(7.0, passes)
    assert light["0"] == light["an expert that was asked later"] == 7.0
    assert light["1"] * 160 + light["2"] * 80 == pytest.approx(7.0 * 240)
    assert light["2"] / light["1"] == pytest.approx(math.sqrt(2.0 / 80 / (0.3 / 160)))


def test_where_noise_costs_nothing_there_is_nothing_to_share_out() -> None:
    nothing = [ProductCost(name, "ffn", 1, Cost(0.0, 0.0, 0.0, 0.0)) for name in "ab"]
    found = Expansion(tuple(nothing), Cost(0, 0, 0, 0), 1, 0.0)
    assert found.budget(3.0) == {"a": 3.0, "b": 3.0}
    assert found.gain_of_budget == 1.0


def test_layers_that_share_a_matrix_are_one_product_with_one_light() -> None:
    model, ids = small_gpt(), text(129, 64)
    model.blocks[1].ffn.up.weight = model.blocks[0].ffn.up.weight
    found = expand(model, ids, context=16)
    names = [product.name for product in found.products]
    assert len(set(names)) == len(names) == 15
    lit = opticalize(model, "ideal", photons_per_mac=found.budget(10.0))
    with torch.inference_mode():
        lit(torch.tensor([ids[:16]]))
    report = optical_report(lit)
    assert sorted(report.optical) == sorted(report.layers) == sorted(names)
    macs = {product.name: product.macs for product in found.products}
    assert macs["blocks.1.ffn.up"] == 2 * 128 * 32 * 128


@pytest.mark.slow
def test_a_real_model_with_grouped_queries_costs_in_light_what_the_expansion_says() -> None:
    """stories260K, kind by kind, on the simulated bench: 250,000 photons are bright enough for all of them."""
    shared = Path(__file__).parents[4] / "shared" / "data"
    path, told = shared / "models" / "stories260K.bin", shared / "text" / "tinystories-niklas6.txt"
    if not path.exists() or not told.exists():
        pytest.skip("needs ../shared/data/models/stories260K.bin and text/tinystories-niklas6.txt")
    language = load_language(path)
    ids, context, photons = language.encode(told.read_text()[:1500])[:129], 32, 250_000.0
    found = expand(language.model, ids, context=context)
    for kind, cost in found.kinds().items():
        keep, lit = [product.name for product in found.products if product.kind != kind], []
        for seed in range(3):
            optical = opticalize(language.model, "ideal", photons_per_mac=photons, seed=seed, keep=keep)
            lit.append(divergence(optical, language.model, ids, context=context).nats_per_token * photons)
        error = math.hypot(cost.kl_stderr, float(np.std(lit, ddof=1)) / math.sqrt(3))
        assert float(np.mean(lit)) == pytest.approx(cost.kl, abs=4 * error + 0.02 * cost.kl), kind
