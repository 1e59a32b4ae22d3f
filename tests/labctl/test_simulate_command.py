"""`labctl simulate`: several light levels in one table and one document, on a preset, and a page."""

import json
import re
from pathlib import Path

import pytest

from labctl.__main__ import main

TEXT = "The matrix is shown once, and the vectors pass it one by one. " * 8


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text(TEXT)
    return str(path)


def test_levels_come_ascending_each_once_and_more_light_is_better(text, capsys):
    levels = ["--photons-per-mac", "1000,3", "--photons-per-mac", "30,3"]
    assert main(["simulate", "ideal", "--text", text, "--tokens", "60", *levels, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["simulation"]
    assert document["calibration"] == "ideal"
    assert [part["why"] for part in found["digital"]] == ["output head"]
    assert found["in_light"] + found["digital"][0]["share"] == pytest.approx(1.0)
    assert [level["photons_per_mac"] for level in found["levels"]] == [3, 30, 1000]
    dim, _, bright = (level["perplexity"] for level in found["levels"])
    digital = found["perplexity"]["digital"]
    assert dim > 2 * bright
    assert bright == pytest.approx(digital, rel=0.1)
    assert found["perplexity"]["optical"] == pytest.approx(digital, rel=1e-4)  # ideal, and no shot noise


@pytest.mark.parametrize(
    ("more", "said", "not_said"),
    [
        ([], "one window of 40 tokens", "± is"),
        (["--context", "16"], "windows of 16 tokens", "no standard error"),
    ],
)
def test_an_error_is_explained_where_there_is_one(text, capsys, more, said, not_said):
    assert main(["simulate", "ideal", "--text", str(text), "--tokens", "40", *more]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed
    assert not_said not in printed


def test_page_has_the_table(text, tmp_path, capsys):
    page = tmp_path / "page.html"
    options = ["--text", text, "--tokens", "40", "--photons-per-mac", "100", "--clip", "100", "--report", str(page)]
    assert main(["simulate", "paper", *options]) == 0
    out = capsys.readouterr().out
    assert "no shot noise" in out
    assert out.splitlines()[-1] == str(page)
    assert "<td class=short>optical<td class=short>100<td" in page.read_text()
    for place in (out, page.read_text()):
        assert re.search(r"\d\d\.\d+ % of the multiply–accumulates in light; digital: output head \(\d+ %\)", place)


@pytest.mark.parametrize("levels", ["1,x", "0", "-3", "inf", ""])
def test_level_that_is_no_positive_number_is_usage(levels, capsys):
    assert main(["simulate", "ideal", "--photons-per-mac", levels]) == 2
    assert "E-USE-001" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_real_language_model_needs_light_and_gets_by_with_enough(capsys):
    """SmolLM2-135M (GGUF) on WikiText-2, where somebody has put both."""
    pytest.importorskip("transformers")
    data = Path(__file__).parents[3] / "shared" / "data"
    models, wikitext = sorted(data.glob("models/**/SmolLM2-135M*.gguf")), data / "text" / "wikitext2-test.txt"
    if not models or not wikitext.exists():
        pytest.skip("no SmolLM2-135M*.gguf in ../shared/data/models, or no WikiText-2 beside it")
    options = ["--model", str(models[0]), "--text", str(wikitext), "--tokens", "512", "--photons-per-mac", "10,1000"]
    assert main(["simulate", "ideal", *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["simulation"]
    assert found["perplexity"]["digital"] < 40
    dim, bright = (level["perplexity"] for level in found["levels"])
    assert bright < 1.15 * found["perplexity"]["digital"]
    assert dim > 100 * bright
