"""A model that was loaded, changed and saved is an ordinary one of its kind, and answers as it did."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from simulation.evaluation.perplexity import logits_of
from simulation.models.checkpoint import save_checkpoint
from simulation.models.gpt import GPT
from simulation.models.llama2c import llama2c_pieces
from simulation.models.loading import load_language
from simulation.models.saving import llama2c_tokenizer, save_language

SHARED = Path(__file__).parents[3] / "shared" / "data"
TEXT = "The light is cheap;\n\n  the answer 'naïve' <s> is \t№ 7 — noisy. <unk>\n"


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Small models in the formats that people have."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "hostile"))
    import fuzz_samples

    yield fuzz_samples
    for name in ("fuzz_samples", "fuzz_mutations"):
        sys.modules.pop(name, None)


def moved(model: nn.Module) -> nn.Module:
    """Every weight a little elsewhere."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("kind", ["_hugging_face", "_gguf", "_llama2c"])
def test_a_changed_model_is_an_ordinary_one_of_hugging_face(kind: str, samples: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    source, folder = getattr(samples, kind)(tmp_path), tmp_path / "saved"
    folder.mkdir()
    language = load_language(source)
    model = moved(language.model)
    assert save_language(str(folder), model, str(source), {}) == folder
    again = load_language(folder)
    ids = language.encode("the light is cheap, and not far off")
    assert again.encode("the light is cheap, and not far off") == ids
    assert (again.vocabulary, again.context) == (language.vocabulary, language.context)
    tokens = torch.tensor([ids[: language.context]])
    opened = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        expected = logits_of(model, tokens)
        assert torch.equal(logits_of(again.model, tokens), expected)
        assert torch.equal(opened(tokens).logits, expected)


def test_a_changed_checkpoint_of_ours_is_one_again(model: GPT, tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_checkpoint(str(tmp_path / "old.safetensors"), model, tokenizer, {"seed": 1})
    folder = tmp_path / "new"
    folder.mkdir()
    changed = moved(model)
    saved = save_language(folder, changed, tmp_path / "old.safetensors", {"adapted_from": "old"})
    assert saved == folder / "old.safetensors"
    language = load_language(str(saved))
    assert language.encode(TEXT) == tokenizer.encode(TEXT).ids
    for name, tensor in changed.state_dict().items():
        assert torch.equal(language.model.state_dict()[name], tensor.half().float())


def test_a_real_vocabulary_of_llama2c_gives_the_same_tokens_and_the_text_back() -> None:
    source = SHARED / "models" / "stories260K.bin"
    if not source.exists():
        pytest.skip(f"needs {source}")
    tokenizer = llama2c_tokenizer(*llama2c_pieces(source, 512))
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert ids == load_language(source).encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
