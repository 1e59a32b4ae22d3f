"""A law of several sizes: recovered from models that follow it, honest about what they leave open, kept whole."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.errors import ArtefactError, BadOperands, OutOfDomain
from simulation.scaling.by_document import DocumentCosts
from simulation.scaling.law import Provenance, ScalingLaw, Shape, load_law, save_law
from simulation.scaling.lawfit import Measured, fit_law, fit_of, without_each

KINDS = ("ffn", "qkvo", "qk", "av")
TRUE = {"ffn": (-0.9, 1.0, 0.0), "qkvo": (0.0, 0.8, 0.2), "qk": (0.7, 0.5, -0.5), "av": (-0.4, 1.2, 0.0)}
SHAPES = [(d, 2, 16) for d in (32, 48, 64, 96, 128)] + [(32, depth, 16) for depth in (4, 8, 12)]
SHAPES += [(d, 2, d // 4) for d in (32, 96, 128)]
FROM = Provenance("ideal", (100.0, 100.0), 1.0, {"topics": "a" * 64}, 4000, "c" * 12, {"m": "b" * 64})
FACTORS = ("width", "blocks", "head_width")


def family(seed: int, scatter: float, documents: float = 0.0, seeds: int = 3) -> list[Measured]:
    """Models on the law ``TRUE`` but for ``scatter`` of each and ``documents`` that all share, both of ln C."""
    rng = np.random.default_rng(seed)
    of_document = np.exp(documents * rng.standard_normal((len(KINDS), 20)))
    found = []
    for width, blocks, head in SHAPES:
        for number in range(seeds):
            size, luck = np.log([width / 64, blocks / 2, head / 16]), scatter * rng.standard_normal()
            kl = {
                kind: tuple((100 * math.exp(size @ TRUE[kind] + luck) * of_document[i]).tolist())
                for i, kind in enumerate(KINDS)
            }
            names, tokens = tuple(f"t{i}" for i in range(20)), (100.0,) * 20
            costs = DocumentCosts(names, tokens, tokens, kl, kl, dict.fromkeys(KINDS, 1))  # type: ignore[arg-type]
            found.append(Measured(f"d{width}-{number}", Shape(width, blocks, head, 10.0), costs))
    return found


def law_of(models: list[Measured]) -> ScalingLaw:
    return fit_law(models, FACTORS, FROM)  # type: ignore[arg-type]


def test_each_kind_of_product_has_its_own_powers() -> None:
    law = law_of(family(0, 0.0))
    for term in law.terms[:-1]:
        assert [e.value for e in term.exponents[:3]] == pytest.approx(TRUE[term.part], abs=1e-9)
        assert term.exponents[3].assumed
    cost = law.costs(Shape(256, 24, 64))
    for kind in KINDS:
        assert cost[kind] == pytest.approx(math.exp(np.log([4, 12, 4]) @ TRUE[kind]), rel=1e-9)


def test_light_of_a_kind_that_has_no_power_law_is_not_left_out_in_silence() -> None:
    models = family(0, 0.1)
    costs = models[0].costs
    nothing, without = {**costs.kl, "av": (0.0,) * 20}, {k: v for k, v in costs.kl.items() if k != "av"}
    for kl in (nothing, without):
        changed = replace(models[0], costs=replace(costs, kl=kl, loss=kl))
        with pytest.raises(BadOperands, match="no power law"):
            law_of([changed, *models[1:]])
    with pytest.raises(BadOperands, match="none of the models"):
        law_of([])


def test_models_of_other_tokens_have_no_law_together() -> None:
    models = family(0, 0.1)
    other = replace(models[0], costs=replace(models[0].costs, tokens=(99.0,) * 20))
    with pytest.raises(BadOperands, match="same tokens"):
        law_of([*models[1:], other])


def test_interval_of_an_exponent_covers_what_training_seeds_move() -> None:
    inside = 0
    for seed in range(60):
        width = law_of(family(seed, 0.2)).terms[0].exponents[0]
        inside += width.low <= TRUE["ffn"][0] <= width.high
    assert 52 <= inside <= 60  # 95 % of 60 is 57; fewer than 52 has a probability of 0.5 %


def test_interval_of_the_need_is_that_of_one_model() -> None:
    law, shape, inside = law_of(family(0, 0.2)), Shape(128, 8, 16), 0
    true = sum(math.exp(np.log([2, 4, 1]) @ TRUE[kind]) for kind in KINDS) / 0.05
    rng = np.random.default_rng(1)
    for _ in range(200):
        need = law.photons(shape, 0.05)
        inside += need.low <= true * math.exp(0.2 * rng.standard_normal()) <= need.high
    assert inside >= 180
    assert need.low < need.photons < need.high


def test_documents_that_all_models_share_widen_the_interval() -> None:
    quiet, loud = (law_of(family(0, 0.1, documents)).spread.covariance[0][0] for documents in (0.0, 1.0))
    assert loud > 2 * quiet


def test_curve_that_is_no_power_law_is_seen_beyond_the_scatter_of_seeds() -> None:
    straight = family(3, 0.05)
    bent = [
        replace(m, costs=replace(m.costs, kl={k: tuple(np.array(v) * factor) for k, v in m.costs.kl.items()}))
        for m in straight
        for factor in [math.exp(np.log(m.shape.width / 64) ** 2)]
    ]
    width = [m for m in straight if m.shape.blocks == 2 and m.shape.head_width == 16]
    curved = [m for m in bent if m.shape.blocks == 2 and m.shape.head_width == 16]
    assert fit_of(width, ["width"])[1].lack_of_fit[0] > 0.01
    assert fit_of(curved, ["width"])[1].lack_of_fit[0] < 1e-6
    assert fit_of(width, ["width"])[1].seeds[0] == pytest.approx(0.05, rel=0.6)


def test_leaving_out_a_width_leaves_out_all_its_seeds() -> None:
    models = [m for m in family(0, 0.0) if m.shape.blocks == 2 and m.shape.head_width == 16]
    assert list(without_each(models, "width")) == [32, 48, 64, 96, 128]


def test_sizes_that_vary_together_are_refused() -> None:
    models = [m for m in family(0, 0.1) if m.shape.head_width * 4 == m.shape.width]
    with pytest.raises(BadOperands, match="vary together"):
        fit_law(models, ("width", "head_width"), FROM)


def test_models_that_read_other_documents_are_refused() -> None:
    models = family(0, 0.1)
    other = replace(models[0], costs=replace(models[0].costs, documents=tuple("u" * 20)))
    with pytest.raises(BadOperands, match="same documents"):
        law_of([*models, other])


def test_law_comes_back_exactly_and_says_where_it_extrapolates(tmp_path: Path) -> None:
    law = law_of(family(0, 0.1))
    save_law(tmp_path / "law.json", law)
    assert load_law(tmp_path / "law.json") == law
    assert law.outside(Shape(12288, 96, 16)) == ("width", "blocks")
    assert law.assumed() == ("tokens_per_parameter",)
    with pytest.raises(OutOfDomain):
        law.photons(Shape(64, 2, 16), -1.0)


def only_all(law: dict[str, Any]) -> None:
    law["terms"], sizes = law["terms"][-1:], {"covariance": 5, "scatter": 1}
    for name, size in sizes.items():
        law["spread"][name] = [row[-size:] for row in law["spread"][name][-size:]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda law: law.update(metric="perplexity"), "a metric of 'perplexity'"),
        (lambda law: law["provenance"].update(quantum_efficiency="x"), "law cannot be read"),
        (lambda law: law["provenance"].update(quantum_efficiency=0), "a quantum efficiency of 0"),
        (lambda law: law["provenance"].update(quantum_efficiency=2), "a quantum efficiency of 2"),
        (only_all, "no term of a kind of product"),
    ],
)
def test_a_law_that_somebody_wrote_wrongly_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], what: str
) -> None:
    path = tmp_path / "law.json"
    save_law(path, law_of(family(0, 0.1)))
    document = json.loads(path.read_text())
    change(document["law"])
    whole = json.dumps(document["law"], sort_keys=True).encode()
    path.write_text(json.dumps({**document, "sha256": hashlib.sha256(whole).hexdigest()}))
    with pytest.raises(ArtefactError, match=what):
        load_law(path)


@pytest.mark.parametrize("damage", ["missing", "truncated", "a digit", "schema", "a list"])
def test_damaged_law_is_refused_with_its_reason(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "law.json"
    save_law(path, law_of(family(0, 0.1)))
    document = json.loads(path.read_text())
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(path.read_text()[:-40])
    elif damage == "a digit":
        document["law"]["terms"][0]["cost"] *= 1.001
        path.write_text(json.dumps(document))
    elif damage == "schema":
        path.write_text(json.dumps({**document, "schema": "labctl.scaling/1"}))
    else:
        path.write_text("[1, 2]")
    with pytest.raises(ArtefactError) as refused:
        load_law(path)
    assert "labctl scaling" in refused.value.hint
