"""Bits of inputs, weights and outputs: on a panel, in a whole model, in training, and what is refused."""

import json

import numpy as np
import pytest
import torch

from calibration.errors import OutOfDomain
from labctl.__main__ import main
from labctl.resources import shipped_family
from labctl.studies.simulate import Setting, TextTokens, bits_of, simulate
from simulation.conversion.optical import opticalize
from simulation.conversion.ranges import observe
from simulation.light.coarse import Bits, coarser
from simulation.light.optics import Panel, ideal, paper
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.language import Language
from simulation.training.qat import QuantisedForward, QuantisedLinear


def test_panel_of_four_bits_shows_sixteen_levels_and_the_nearest_of_them():
    operands = np.random.default_rng(0).random(1000, dtype=np.float32)
    shown = coarser(Panel.continuous(), 4).show(operands)
    assert len(np.unique(shown)) == 16
    assert np.abs(shown - np.round(operands * 15) / 15).max() < 1e-6
    dark = coarser(paper().slm, 3).show(operands)
    assert len(np.unique(dark)) == 8
    assert dark.min() == pytest.approx(paper().slm.floor)
    assert dark.max() == pytest.approx(1.0)


def test_panel_never_gets_finer_than_it_is():
    assert (
        len(np.unique(coarser(coarser(Panel.continuous(), 3), 8).show(np.linspace(0, 1, 500, dtype=np.float32)))) == 8
    )


def test_product_of_few_bits_is_that_of_rounded_operands():
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(8, 6, bias=False)
    x = torch.randn(5, 8, generator=generator)
    bits = Bits(4, 5, 6)
    with torch.no_grad():
        model = torch.nn.Sequential(layer)
        ranges = Setting(bits=bits).ranges(torch.nn.Sequential(torch.nn.Embedding(5, 8), layer), range(5), 5)
        lit = opticalize(model, bits.on(ideal()))(x)
        w = layer.weight
        weights = (w / w.abs().max() * 31).round() / 31 * w.abs().max()
        full = x.abs().amax(1, keepdim=True)
        inputs = (x / full * 15).round() / 15 * full
    assert torch.allclose(lit, inputs @ weights.T, atol=1e-5)
    assert {each.steps for each in ranges.values()} == {31}


def test_bits_and_clip_are_asked_for_in_python_as_on_the_command_line():
    language = small()
    ids = torch.arange(16)[None]
    setting = Setting(clip=90.0, encoding="offset", bits=bits_of("4,4,8"))
    ranges = observe(language.model, [ids], inputs=False)
    with torch.no_grad():
        command = opticalize(
            language.model,
            setting.bench("ideal"),
            encoding="offset",
            ranges=setting.ranges(language.model, range(16), 16),
        )(ids)
        asked = {"encoding": "offset", "clip": 90, "ranges": ranges}
        python = opticalize(language.model, "ideal", bits=(4, 4, 8), **asked)(ids)
        finer = opticalize(language.model, "ideal", bits=8, **asked)(ids)
    assert torch.equal(command, python)
    assert not torch.equal(finer, python)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"bits": 4}, "need the range"),
        ({"bits": "4"}, "bits are one number"),
        ({"bits": (4, 4)}, "bits are one number"),
        ({"bits": 17}, "not a number of bits"),
        ({"bits": True}, "bits are one number"),
        ({"clip": 0}, "percentile"),
        ({"clip": "99"}, "percentile"),
        ({"clip": 99, "encoding": "tiled-scales:4"}, "nothing is clipped in tiles"),
    ],
)
def test_bits_and_clips_that_cannot_be_are_refused_in_python(asked, words):
    with pytest.raises(OutOfDomain, match=words) as caught:
        opticalize(torch.nn.Sequential(torch.nn.Linear(8, 8)), "ideal", **asked)
    assert caught.value.hint


def test_bits_round_and_clip_nothing():
    """A model that nobody trained for it has a few inputs far above all others, which carry much of its answer."""
    bits, x = Bits(8, 8, 8), torch.randn(40, 512, generator=torch.Generator().manual_seed(0))
    x[7, 3] = 1000.0
    with torch.no_grad():
        model = torch.nn.Sequential(torch.nn.Embedding.from_pretrained(x), torch.nn.Linear(512, 16))
        ids = torch.arange(40)[None]
        ranges = Setting(bits=bits).ranges(model, range(40), 40)
        exact, lit = model(ids)[0, 7], opticalize(model, bits.on(ideal()), ranges=ranges)(ids)[0, 7]
    assert (lit - exact).abs().max() < 0.1 * exact.abs().max()


def small() -> Language:
    config = GPTConfig(vocabulary=64, context=16, width=32, heads=2, blocks=2)
    model = GPT(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(10)
    return Language("small", model, lambda text: [], 16, 64)


def test_fewer_bits_cost_perplexity_and_outputs_count_too():
    language = small()
    with torch.no_grad():  # a text that the model itself wrote, so that worse means farther from the model
        ids = [1]
        for _ in range(256):
            logits = language.model(torch.tensor([ids[-16:]]))[0, -1]
            ids.append(int(torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(len(ids)))))
    text = TextTokens("t", ids)

    def at(bits: str | None) -> float:
        setting = Setting(bits=None if bits is None else bits_of(bits))
        found = simulate(language, "ideal", text, None, (), setting=setting)
        assert found.perplexity.optical is not None
        return float(np.log(found.perplexity.optical / found.perplexity.digital))

    whole, eight, two, outputs = at(None), at("8"), at("2"), at("8,8,2")
    assert abs(whole) < 1e-4
    assert abs(eight) < 0.05 < two
    assert outputs > 0.05


def test_training_has_as_many_levels_as_it_is_told():
    forward = QuantisedForward(bits=Bits(4, 3, 5))
    assert forward.describe()["levels"] == [16, 8, 32]
    assert QuantisedForward().describe()["levels"] == 256
    layer = QuantisedLinear(torch.nn.Linear(16, 400), "batch", torch.Generator(), Bits(4, 3, 5))
    layer.eval()
    layer.inputs.watching = True
    x = torch.linspace(0, 1, 16 * 50).reshape(50, 16)
    assert len(layer.inputs(x).unique()) == 16
    assert layer.outputs.levels == 32
    assert layer.weight_levels == 8


@pytest.mark.parametrize("stated", ["1", "17", "4,4", "x", "4.5", ""])
def test_what_is_no_number_of_bits_is_usage(stated, capsys):
    assert main(["simulate", "ideal", "--bits", stated]) == 2
    assert "--bits 4" in capsys.readouterr().err


def test_bits_of_training_need_quantisation(tmp_path, capsys):
    assert main(["train", str(tmp_path / "m.safetensors"), "--bits", "4"]) == 2
    assert "--qat" in capsys.readouterr().err


def test_bits_are_in_the_document(tmp_path, capsys):
    text = tmp_path / "t.txt"
    text.write_text("one vector after another, " * 9)
    options = ["--text", str(text), "--tokens", "20", "--bits", "4,6,8", "--json"]
    assert main(["simulate", "ideal", str(shipped_family()[0]), *options]) == 0
    assert json.loads(capsys.readouterr().out)["simulation"]["bits"] == [4, 6, 8]


def test_tiles_with_scales_bear_few_bits_where_outliers_do_not_let_whole_vectors(capsys):
    small = next(path for path in shipped_family() if path.stem.endswith("-d32"))

    def found(encoding: str) -> dict:
        code = main(
            ["simulate", "ideal", str(small), "--tokens", "60", "--bits", "4", "--encoding", encoding, "--json"]
        )
        out = capsys.readouterr()
        assert code == 0, out.err
        return json.loads(out.out)["simulation"]

    whole, tiled = found("sign-split"), found("tiled-scales:8")
    digital = whole["perplexity"]["digital"]
    assert digital < tiled["perplexity"]["optical"] < whole["perplexity"]["optical"]
    assert whole["light_used"]["scales"] == 0
    assert tiled["light_used"]["scales"] > tiled["light_used"]["output_conversions"] / 5
    code = main(["simulate", "ideal", str(small), "--tokens", "60", "--clip", "99", "--encoding", "tiled-scales"])
    assert code != 0
    assert "nothing is clipped" in capsys.readouterr().err
