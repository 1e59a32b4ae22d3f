"""The commands on the Transformer take models of Hugging Face, GGUF and llama2.c, and say what numbers rest on."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import gguf_file, llama, llama2c, tokenizer

from labctl.__main__ import main
from labctl.studies.traced import operations_for

pytest.importorskip("transformers")
pytest.importorskip("gguf")

WORDS = " ".join(f"w{i * i % 49}" for i in range(200))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, width in (("small", 16), ("large", 32)):
        llama(width=width).save_pretrained(folder / name)
        tokenizer(50).save_pretrained(folder / name)
    gguf_file(folder / "tiny.gguf")
    llama2c(folder, tok=40)
    (folder / "text.txt").write_text(WORDS)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["small", "tiny.gguf"])
def test_simulate_takes_it(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    light = ("--photons-per-mac", "1000", "--clip", "99.5", "--seed", "5", "--context", "16", "--threads", "1")
    found = run(capsys, "simulate", "ideal", models / name, "--text", models / "text.txt", "--tokens", "60", *light)
    found = found["simulation"]
    assert (found["seed"], found["clip"], found["context"]) == (5, [99.5, 99.5], 16)
    assert found["version"] == metadata.version("labctl")
    assert found["in_light"] + sum(part["share"] for part in found["digital"]) == pytest.approx(1.0)
    assert found["uncounted"] == []
    assert "which numbers are drawn may change" in found["batch"]
    for error in ("digital_stderr", "int8_stderr", "optical_stderr"):
        assert 0 < found["perplexity"][error] < found["perplexity"]["digital"]
    assert found["levels"][0]["stderr"] > 0


@pytest.mark.parametrize("name", ["small", "tiny.gguf", "tiny.bin"])
def test_energy_prices_it(models: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    d, ffn, layers = (8, 12, 1) if name == "tiny.bin" else (16, 24, 2)
    found = run(capsys, "energy", models / name)
    vocabulary, kv = {"small": (50, 8), "tiny.gguf": (258, 16), "tiny.bin": (40, 8)}[name]
    tokens = found["tokens"]
    block = tokens * (2 * d * d + 2 * d * kv + 3 * d * ffn) + 2 * tokens * tokens * d
    assert found["macs"] == layers * block + tokens * d * vocabulary
    digital = {row["layer"] for row in found["rows"] if row["component"] == "digital MAC"}
    assert digital == {"lm_head"}
    assert found["uncounted"] == []


def test_scaling_sweeps_a_family_of_them(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("scaling", "ideal", models / "large", models / "small", "--text", models / "text.txt", "--tokens", "60")
    command += ("--photons-per-mac", "1,30,1000", "--seeds", "1", "-o", tmp_path / "sweep")
    found = run(capsys, *command, "--report")
    assert [(width["width"], width["model"]) for width in found["widths"]] == [(16, "small"), (32, "large")]
    assert found["points"] == {"computed": 2 * (2 + 3), "reused": 0}
    assert run(capsys, *command)["points"] == {"computed": 0, "reused": 10}
    assert {row["operands"] for row in found["operands"]} == {"normal", "linear of the models"}
    alone = run(capsys, "simulate", "ideal", models / "small", "--text", models / "text.txt", "--tokens", "60")
    assert found["widths"][0]["digital"] == pytest.approx(alone["simulation"]["perplexity"]["digital"], rel=1e-6)


def test_quiet_command_prints_its_table_and_nothing_else(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["ideal", str(models / "small"), "--text", str(models / "text.txt"), "--tokens", "40", "--quiet"]
    assert main(["simulate", *arguments]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["run", "as", "photons", "per", "MAC", "perplexity", "±", "×", "digital"]
    assert [line.split()[0] for line in out[1:]] == ["digital", "8", "optical"]
    assert main(["energy", str(models / "small"), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("digital processor")


def test_page_says_what_stays_digital_and_what_the_numbers_depend_on(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    arguments = ["paper", str(models / "small"), "--text", str(models / "text.txt"), "--tokens", "40", "--seed", "3"]
    assert main(["simulate", *arguments, "--context", "16", "--report", str(page)]) == 0
    text = page.read_text()
    for words in ("seed 3, clipped at percentile 99 and 98", "digital: output head", "rows of a batch", "± is one"):
        assert words in text
    assert "every product" not in text
    assert "rows of a batch change each other" in capsys.readouterr().err


def test_window_that_the_model_does_not_have_is_usage(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "ideal", str(models / "tiny.gguf"), "--context", "64"]) == 2
    assert "--context 32" in capsys.readouterr().err


def test_threads_are_those_that_were_asked_for_and_only_for_as_long(models: Path) -> None:
    from labctl.studies.simulate import on_threads

    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_model_that_does_worse_than_guessing_is_said_to(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = llama()
    torch.nn.init.normal_(wild.lm_head.weight, 0, 5)
    wild.save_pretrained(tmp_path)
    tokenizer(50).save_pretrained(tmp_path)
    found = run(capsys, "simulate", "ideal", tmp_path, "--text", models / "text.txt", "--tokens", "60")
    assert "worse than guessing among its 50 tokens" in found["simulation"]["remarks"][0]


def test_text_of_words_that_the_tokenizer_does_not_know_is_said_to_be_one(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.txt").write_text(WORDS.replace("w1 ", "so-and-so "))
    command = ("simulate", "ideal", models / "small", "--text", tmp_path / "other.txt", "--tokens", "60")
    remarks = run(capsys, *command)["simulation"]["remarks"]
    assert "words that the tokenizer does not know" in remarks[0]


def test_light_that_a_machine_cannot_have_is_refused_before_anything_is_computed(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labctl.studies.simulate.score_all", None)
    text = ("--text", str(models / "text.txt"), "--photons-per-mac", "5")
    assert main(["simulate", "netcast-2022", str(models / "small"), *text]) == 2
    assert "not published" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["MistralConfig", "OPTConfig"])
def test_a_step_of_a_conversation_has_the_windows_and_the_signs_of_the_model(tmp_path: Path, name: str) -> None:
    """A window of 16 tokens bounds what a step reads; after ReLU the second feed-forward layer takes one pass."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    own = {
        "MistralConfig": {"intermediate_size": 24, "num_key_value_heads": 2, "sliding_window": 16, "head_dim": 4},
        "OPTConfig": {"ffn_dim": 24, "word_embed_proj_dim": 16, "pad_token_id": 0},
    }[name]
    config = getattr(transformers, name)(**sizes, **own, max_position_embeddings=64, bos_token_id=1, eos_token_id=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer(50).save_pretrained(tmp_path)
    found = operations_for(str(tmp_path), None, 32).decoder
    assert found is not None
    (down,) = [p for p in found.step(1, 40).products if p.layer.endswith("ffn.down")]
    is_mistral = name == "MistralConfig"
    assert (found.window, found.windowed, down.non_negative) == ((16, 2, False) if is_mistral else (0, 0, True))
    kept = 2 * 2 * 8 if is_mistral else 2 * 2 * 16  # of a token: blocks, keys and values, heads × width
    assert found.step(1, 40).cache_read == kept * (15 if is_mistral else 39)
