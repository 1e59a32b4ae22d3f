"""Models from files that people have, and what happens when the file is bad."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration.errors import ArtefactError
from simulation.conversion.convert import convert, digitally, shared_copy
from simulation.conversion.quantise import Int8
from simulation.energy.operations import count_operations
from simulation.models.loading import load_language

transformers = pytest.importorskip("transformers")
SHARED = Path(__file__).parents[3] / "shared" / "data"

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 100,
}
ARCHITECTURES = {
    "gpt2": (
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, bos_token_id=0, eos_token_id=0)
        ),
        2 * 6,
    ),
    "llama": (lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **SMALL)), 2 * 9),
    "bert": (lambda: transformers.BertForMaskedLM(transformers.BertConfig(**SMALL)), 2 * 8 + 1),
}


class Exact:
    def matrix(self, name, weight):
        return nn.functional.linear

    def pair(self, name):
        return torch.matmul


@pytest.fixture(params=ARCHITECTURES)
def model_and_products(request):
    torch.manual_seed(0)
    make, products = ARCHITECTURES[request.param]
    return make().eval(), products


def test_every_product_of_the_architecture_but_its_head_is_optical(model_and_products):
    model, products = model_and_products
    converted = shared_copy(model)
    done = convert(converted, Exact()).conversion
    tokens, mask = torch.randint(0, 100, (2, 10)), torch.ones(2, 10, dtype=torch.long)
    mask[1, :3] = 0
    assert list(converted.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        expected, got = (m(tokens, attention_mask=mask).logits[mask.bool()] for m in (model, converted))
    assert float((got - expected).abs().max()) < 1e-5
    assert len(done.optical) == products
    with torch.no_grad(), digitally(converted):
        assert float((converted(tokens, attention_mask=mask).logits[mask.bool()] - expected).abs().max()) < 1e-5


def test_counted_macs_are_those_of_the_layers(model_and_products):
    model, products = model_and_products
    model.set_attn_implementation("eager")
    seen = count_operations(model, torch.zeros(1, 8, dtype=torch.long), tokens=8)
    rotary = sum("rotary" in product.layer for product in seen.products)
    assert len(seen.products) == products + 1 + rotary


def test_eight_bit_baseline_covers_them_too(model_and_products):
    model, _ = model_and_products
    rounded = shared_copy(model)
    convert(rounded, Int8())
    tokens = torch.randint(0, 100, (2, 10))
    with torch.no_grad():
        error = (rounded(tokens).logits - model(tokens).logits).std() / model(tokens).logits.std()
    assert 1e-4 < float(error) < 0.3


def test_a_folder_of_hugging_face_is_loaded(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    model = ARCHITECTURES["llama"][0]().eval()
    model.save_pretrained(tmp_path)
    language = load_language(tmp_path)
    assert language.encode("a b c") == [0, 1, 2]
    assert language.vocabulary == 100
    tokens = torch.tensor([[0, 1, 2]])
    with torch.no_grad():
        assert torch.equal(language.model(tokens).logits, model(tokens).logits)


def _saved(folder, model, words, **special):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, **special))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])  # of no files the library makes gpt2 an empty tokenizer
def test_a_folder_without_a_tokenizer_has_operations_and_reads_no_text(tmp_path, architecture):
    ARCHITECTURES[architecture][0]().save_pretrained(tmp_path)
    with pytest.raises(ArtefactError, match="no tokenizer in the folder") as caught:
        load_language(tmp_path)
    assert f"tokenizer.save_pretrained({str(tmp_path)!r})" in caught.value.hint
    language = load_language(tmp_path, to_score=False)
    assert language.vocabulary == 100
    with pytest.raises(ArtefactError, match="no tokenizer in the folder"):
        language.encode("a b c")


def test_model_that_sees_what_it_is_to_predict_is_refused(tmp_path):
    _saved(tmp_path, ARCHITECTURES["bert"][0](), ["a", "b", "?"], unk_token="?")
    with pytest.raises(ArtefactError, match="sees the tokens") as caught:
        load_language(tmp_path)
    assert caught.value.seen.startswith("BertLMHeadModel")
    assert load_language(tmp_path, to_score=False).vocabulary == 100


@pytest.mark.parametrize("context", [1, 2, 3, 64])
def test_model_of_any_window_is_loaded(tmp_path, context):
    config = transformers.LlamaConfig(max_position_embeddings=context, pad_token_id=0, **SMALL)
    _saved(tmp_path, transformers.LlamaForCausalLM(config), ["a", "b", "?"], unk_token="?")
    assert load_language(tmp_path).context == context


def test_tokenizer_that_leaves_out_words_is_refused_and_one_that_names_them_unknown_is_not(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Whitespace

    model = ARCHITECTURES["llama"][0]()
    folder = _saved(tmp_path / "without", model, ["a", "b", "c"])
    with pytest.raises(ArtefactError, match="cannot read a text"):
        load_language(folder).encode("a dd b")
    tokenizer = Tokenizer(BPE({"a": 0, "b": 1, "c": 2}, []))
    tokenizer.pre_tokenizer = Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    language = load_language(folder)
    assert language.unknown is None
    assert language.encode("a  b,\n a") == [0, 1, 0]
    with pytest.raises(ArtefactError, match="leaves out letters") as caught:
        language.encode("a dd b")
    assert caught.value.seen == "2 of 4 letters left out, the first in 'a dd b'"
    language = load_language(_saved(tmp_path / "with", model, ["a", "b", "?"], unk_token="?"))
    assert language.encode("a dd b") == [0, 2, 1]
    assert language.unknown == 2


def test_pickled_weights_are_not_loaded(tmp_path):
    model = ARCHITECTURES["llama"][0]()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtefactError):
        load_language(tmp_path)


def test_hub_name_without_network_is_a_coded_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ArtefactError) as caught:
        load_language("nobody/no-such-model")
    assert "network" in caught.value.hint


def test_hub_that_does_not_answer_is_asked_once(monkeypatch):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()

        def count():
            with contextlib.suppress(OSError):
                while True:
                    asked.append(silent.accept())

        threading.Thread(target=count, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://{host}:{port}")
        monkeypatch.setattr("simulation.models.huggingface.ANSWER_S", 0.2)
        with pytest.raises(ArtefactError, match="cannot be asked"):
            load_language("nobody/no-such-model")
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["./models/none", "a/b/c", "~/model", " "])
def test_name_that_no_hub_has_is_a_path_where_nothing_is(name):
    with pytest.raises(ArtefactError, match="no such model"):
        load_language(name)


def llama2c(path, vocabulary=40, d=8, ffn=12, layers=2, heads=2, kv=1, context=16):
    """A random model in the format of llama2.c, with a tokenizer of single letters and two merges beside it."""
    rng = np.random.default_rng(0)
    wide = d * kv // heads
    sizes = [vocabulary * d, layers * d, layers * d * d, layers * wide * d, layers * wide * d, layers * d * d]
    sizes += [layers * d, layers * ffn * d, layers * d * ffn, layers * ffn * d, d, context * d // heads]
    values = [rng.standard_normal(size).astype("<f4") * 0.2 for size in sizes]
    raw = struct.pack("<7i", d, ffn, layers, heads, kv, vocabulary, context) + b"".join(v.tobytes() for v in values)
    path.write_bytes(raw)
    pieces = [b"<unk>", b"<s>", b"</s>", *(bytes([i]) for i in range(33)), b"!", b'"', b" !", b'!"']
    scores = [0.0] * 38 + [1.0, 2.0]
    table = struct.pack("<i", 5)
    for piece, score in zip(pieces, scores, strict=True):
        table += struct.pack("<fi", score, len(piece)) + piece
    (path.parent / "tok.bin").write_bytes(table)
    return values


def rotate(x, position, base=10000.0):
    """Rotary positions as llama2.c has them: neighbours turn together."""
    out = x.copy()
    for i in range(0, x.shape[-1], 2):
        angle = position * base ** (-i / x.shape[-1])
        c, s = np.cos(angle), np.sin(angle)
        out[..., i], out[..., i + 1] = x[..., i] * c - x[..., i + 1] * s, x[..., i] * s + x[..., i + 1] * c
    return out


def test_llama2c_is_read_as_its_own_program_reads_it(tmp_path):
    d, ffn, layers, heads, vocabulary = 8, 12, 2, 2, 40
    values = llama2c(tmp_path / "model.bin")
    shapes = [(vocabulary, d), (layers, d), (layers, d, d), (layers, 4, d), (layers, 4, d), (layers, d, d), (layers, d)]
    shapes += [(layers, ffn, d), (layers, d, ffn), (layers, ffn, d), (d,)]
    emb, n1, wq, wk, wv, wo, n2, w1, w2, w3, nf = (
        v.astype(np.float64).reshape(s) for v, s in zip(values, shapes, strict=False)
    )

    def norm(x, weight):
        return weight * x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)

    tokens = [1, 5, 7, 3]
    x = emb[tokens]
    for i in range(layers):
        h = norm(x, n1[i])
        q, k, v = h @ wq[i].T, h @ wk[i].T, h @ wv[i].T
        out = np.zeros_like(x)
        for t in range(len(tokens)):
            keys = np.stack([rotate(k[s], s) for s in range(t + 1)])
            for head in range(heads):
                scores = keys @ rotate(q[t, head * 4 : head * 4 + 4], t) / 2.0
                p = np.exp(scores - scores.max())
                out[t, head * 4 : head * 4 + 4] = (p / p.sum()) @ v[: t + 1]
        x = x + out @ wo[i].T
        h = norm(x, n2[i])
        gate = h @ w1[i].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w3[i].T)) @ w2[i].T
    expected = norm(x, nf) @ emb.T
    language = load_language(tmp_path / "model.bin")
    with torch.no_grad():
        got = language.model(torch.tensor([tokens])).logits[0].double().numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    assert language.encode('!"') == [35, 39]  # a space goes in front; '!"' scores better than ' !'
    assert language.context == 16


@pytest.mark.parametrize("cut", [0, 10, 27, 200])
def test_truncated_llama2c_is_refused(tmp_path, cut):
    llama2c(tmp_path / "model.bin")
    raw = (tmp_path / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(raw[:cut])
    with pytest.raises(ArtefactError):
        load_language(tmp_path / "model.bin")


def test_truncated_tokenizer_and_missing_one_are_refused(tmp_path):
    llama2c(tmp_path / "model.bin")
    raw = (tmp_path / "tok.bin").read_bytes()
    (tmp_path / "tok.bin").write_bytes(raw[:-3])
    with pytest.raises(ArtefactError, match="tokenizer is truncated"):
        load_language(tmp_path / "model.bin")
    (tmp_path / "tok.bin").unlink()
    with pytest.raises(ArtefactError, match="tokenizer is missing"):
        load_language(tmp_path / "model.bin")


@pytest.mark.parametrize("name", ["none.safetensors", "none.gguf", "none.bin"])
def test_files_that_are_not_there(tmp_path, name):
    with pytest.raises(ArtefactError):
        load_language(tmp_path / name)


def test_a_gguf_file_that_is_none(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 not gguf")
    with pytest.raises(ArtefactError, match="not a GGUF"):
        load_language(tmp_path / "x.gguf")


def test_a_real_small_model_has_its_known_loss():
    path = SHARED / "models" / "stories260K.bin"
    if not path.exists():
        pytest.skip("needs ../shared/data/models/stories260K.bin")
    language = load_language(path)
    text = (SHARED / "text" / "tinystories-niklas6.txt").read_text()
    ids = language.encode(text[:60_000])
    losses = []
    for start in range(0, 100 * 255, 25 * 255):  # 100 windows, 25 at a time
        windows = torch.tensor([[1, *ids[i : i + 255]] for i in range(start, start + 25 * 255, 255)])
        with torch.no_grad():
            logits = language.model(windows).logits[:, :-1]
        losses.append(float(nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())))
    assert sum(losses) / len(losses) == pytest.approx(1.688, abs=0.002)
