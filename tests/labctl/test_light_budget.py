"""`labctl simulate --budget`: the same photons shared out, said in a table, a document and a page, or refused."""

import json
import math
import re

import numpy as np
import pytest
import torch

from labctl.__main__ import main
from labctl.report.simulation import perplexity
from labctl.studies.budget import share_out, shareable
from labctl.studies.simulate import TextTokens
from labctl.summary import LightLevel, Perplexity, Simulation
from simulation.evaluation.divergence import divergence
from simulation.light.optics import ideal
from simulation.models.checkpoint import save_checkpoint
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.language import Language
from simulation.models.text import train_tokenizer

TEXT = "The matrix is shown once, and the vectors pass it one by one. " * 12


def small(vocabulary: int = 64) -> GPT:
    config = GPTConfig(vocabulary=vocabulary, context=16, width=32, heads=2, blocks=2)
    model = GPT(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(10)  # answers that are far from uniform, as a trained model's are
    return model


@pytest.fixture(scope="module")
def shared():
    model = small()
    ids = np.random.default_rng(1).integers(0, 64, 1025).tolist()
    language = Language("small", model, lambda text: ids, 16, 64)
    told = []
    found = share_out(language, shareable(ideal(), 300.0, None), TextTokens("t", ids), 300.0, advance=told.append)
    return model, ids, found, told


def test_both_take_the_same_photons_and_shared_out_they_cost_less(shared):
    _, _, found, told = shared
    assert found.uniform.photons_per_mac == pytest.approx(300, rel=1e-6)
    assert found.shared_out.photons_per_mac == pytest.approx(300, rel=1e-3)
    assert len({p.photons_per_mac for p in found.products}) == 16
    assert found.predicted > 1.1
    gain = found.uniform.kl / found.shared_out.kl
    error = math.hypot(found.uniform.kl_stderr / found.uniform.kl, found.shared_out.kl_stderr / found.shared_out.kl)
    assert gain == pytest.approx(found.predicted, rel=4 * error)
    assert 4 * error < 0.5
    assert gain > 1 + 2 * error
    assert sum(told) == 100


def test_divergence_is_what_the_probabilities_say(shared):
    model, ids, _, _ = shared
    other = small()
    with torch.no_grad():
        other.embedding.weight.mul_(0.9)
    windows = torch.tensor(ids[:65])[:64].reshape(4, 16)
    with torch.no_grad():
        p, q = (torch.softmax(m(windows).double(), -1) for m in (model, other))
    expected = float((p * (p / q).log()).sum(-1).mean())
    found = divergence(other, model, ids[:65], context=16)
    assert found.nats_per_token == pytest.approx(expected, rel=1e-5)
    assert found.stderr > 0
    assert divergence(model, model, ids[:65], context=16).nats_per_token == 0


def test_command_says_what_each_product_gets(tmp_path, capsys):
    text, model, page = tmp_path / "short.txt", tmp_path / "m.safetensors", tmp_path / "page.html"
    text.write_text(TEXT)
    save_checkpoint(model, small(257), train_tokenizer(TEXT, 257), {})
    options = ["--text", str(text), "--tokens", "120", "--budget", "50", "--report", str(page)]
    assert main(["simulate", "paper", str(model), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["simulation"]["budget"]
    assert found["photons_per_mac"] == 50
    assert [p["name"] for p in found["products"]][:2] == ["blocks.0.attention.query", "blocks.0.attention.key"]
    assert {p["kind"] for p in found["products"]} == {"ffn", "qkvo", "qk", "av"}
    assert "Light shared out" in page.read_text()
    assert "beside it: with --photons-per-mac 1,10,100" in page.read_text()
    assert re.search(r"<td class=short>shared out<td class=short>50(\.\d+)?<td", page.read_text())


def test_a_figure_without_levels_of_light_has_no_empty_panel():
    p = {"digital": 10.0, "int8": 10.1, "optical": 10.2}
    found = Simulation(model="m", text="t", tokens=100, perplexity=Perplexity(**p), photons_per_mac=None)
    assert [axes.get_xlabel() for axes in perplexity(found).axes] == [""]
    levels = [LightLevel(photons_per_mac=10.0, perplexity=11.0)]
    for lit in (found.model_copy(update={"levels": levels}), found.model_copy(update={"photons_per_mac": 30.0})):
        assert [axes.get_xlabel()[:7] for axes in perplexity(lit).axes] == ["", "photons"]


@pytest.mark.parametrize(
    ("machine", "options", "words"),
    [
        ("ideal", ["--budget", "0"], "positive number of photons"),
        ("ideal", ["--budget", "nan"], "positive number of photons"),
        ("ideal", ["--budget", "1e-300"], "positive number of photons"),
        ("ideal", ["--budget", "1e300"], "positive number of photons"),
        ("ideal", ["--budget", "30", "--encoding", "offset"], "signs in four passes only"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_anything_is_computed(machine, options, words, capsys):
    assert main(["simulate", machine, *options]) == 2
    assert words in capsys.readouterr().err
