"""Models of other people: what their headers claim has to be there before a library begins to build it."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz_samples import MODELS
from safetensors.numpy import load_file, save_file

from calibration.errors import ArtefactError
from simulation.models.loading import load_language

pytest.importorskip("transformers")
pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder as it should be."""
    return MODELS["hf-config"].make(tmp_path_factory.mktemp("hf")).parent


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refused(path: Path, words: str) -> None:
    """At once, and with a code."""
    since = time.process_time()
    with pytest.raises(ArtefactError, match=words):
        load_language(path)
    assert time.process_time() - since < 5


@pytest.mark.parametrize("key", ["num_hidden_layers", "vocab_size", "intermediate_size", "max_position_embeddings"])
def test_folder_that_claims_more_than_its_weights_fill_is_refused(copied: Path, key: str) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, key: 10**9}))
    refused(copied, key)


def test_weight_that_is_missing_is_never_drawn_at_random(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    refused(copied, "missing")


def test_weights_that_are_not_finite_are_refused(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].copy()
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    refused(copied, "not finite")


def test_document_that_is_nested_without_end_is_refused(copied: Path) -> None:
    (copied / "tokenizer.json").write_text("[" * 100_000)
    refused(copied, "cannot be read")


def gguf(tmp_path: Path) -> tuple[Path, bytearray]:
    path = MODELS["gguf"].make(tmp_path)
    return path, bytearray(path.read_bytes())


@pytest.mark.parametrize(("at", "number"), [(8, 2**40), (16, 2**40), (8, 2**63), (24, 2**62)])
def test_counts_and_lengths_of_gguf_have_to_fit_the_file(tmp_path: Path, at: int, number: int) -> None:
    path, raw = gguf(tmp_path)
    struct.pack_into("<Q", raw, at, number)
    path.write_bytes(raw)
    refused(path, "too many|longer than the file")


@pytest.mark.parametrize("key", ["llama.block_count", "llama.embedding_length", "llama.vocab_size"])
def test_gguf_that_claims_ten_million_blocks_is_refused(tmp_path: Path, key: str) -> None:
    path, raw = gguf(tmp_path)
    at = raw.index(key.encode()) + len(key)
    assert raw[at : at + 4] == struct.pack("<I", 4)
    struct.pack_into("<I", raw, at + 4, 10**7)
    path.write_bytes(raw)
    refused(path, key)


def test_gguf_that_was_cut_is_refused(tmp_path: Path) -> None:
    path, raw = gguf(tmp_path)
    for part in (3, 20, 400, len(raw) // 2):
        path.write_bytes(raw[:part])
        refused(path, "GGUF|end of the file|longer than the file")


@pytest.mark.parametrize("place", range(5))
def test_sizes_of_llama2c_whose_product_is_astronomical_are_refused(tmp_path: Path, place: int) -> None:
    path = MODELS["llama2c"].make(tmp_path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<i", raw, 4 * place, 2**31 - 4)
    path.write_bytes(raw)
    refused(path, "truncated or of another kind|not a model")


def test_llama2c_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    path = MODELS["llama2c"].make(tmp_path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<f", raw, 28 + 400, float("inf"))
    path.write_bytes(raw)
    refused(path, "not finite")


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "intermediate_size"])
def test_size_that_is_missing_is_not_the_librarys(copied: Path, key: str) -> None:
    """A library has a default for each: together seven billion parameters."""
    config = json.loads((copied / "config.json").read_text())
    del config[key]
    (copied / "config.json").write_text(json.dumps(config))
    refused(copied, "larger model than its weights")


def test_gguf_that_does_not_state_its_blocks_is_refused(tmp_path: Path) -> None:
    path, raw = gguf(tmp_path)
    path.write_bytes(bytes(raw).replace(b"llama.block_count", b"llama.block_cOunt"))
    refused(path, "block_count")


@pytest.mark.parametrize("number", [0, -1])
def test_model_without_a_context_is_refused(copied: Path, number: int) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "max_position_embeddings": number}))
    refused(copied, "max_position_embeddings")


def test_results_that_lie_beside_a_model_do_not_matter(copied: Path) -> None:
    (copied / "eval_results.json").write_text("{not JSON")
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "time_step_limit": [0.0, float("inf")]}))
    assert load_language(copied).vocabulary == 270
