"""A checkpoint that does not fill the model, tensor by tensor and token by token, is refused by the names of both."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import Shape, gguf_file, llama, llama2c, tokenizer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from calibration.errors import ArtefactError
from simulation.models.checkpoint import load_checkpoint, save_checkpoint
from simulation.models.filling import require_filled
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.loading import load_language

transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

UP = "model.layers.1.mlp.up_proj.weight"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    llama().save_pretrained(folder)
    tokenizer(50).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(source: Path) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        load_language(source)
    assert caught.value.hint
    return caught.value


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        answer: Tensor = model(torch.tensor([[3, 7, 11]])).logits
    return answer


def test_missing_and_renamed_tensors_are_named_with_their_number(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({f"x.{UP}": tensors.pop(UP)}))
    error = refused(folder)
    assert "(tensors: 1 missing, 1 without a place in the model)" in error.what
    assert f"missing: {UP}; without a place in the model: x.{UP}" in error.seen


def test_tensor_of_another_shape_is_named_with_both(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({UP: tensors[UP].T}))
    error = refused(folder)
    assert "1 of another shape" in error.what
    assert f"{UP} (16×24 for 24×16)" in error.seen


def test_layers_that_the_configuration_leaves_out_are_not_left_out_in_silence(folder: Path) -> None:
    configure(folder, num_hidden_layers=1)
    error = refused(folder)
    assert "9 without a place" in error.what
    assert "and 4 more" in error.seen


@pytest.mark.parametrize(
    "name", ["h.0.attn.bias", "h.0.attn.masked_bias", "h.0.attn.rotary_emb.inv_freq", "embeddings.position_ids"]
)
def test_tables_that_libraries_used_to_write_are_no_tensors_too_many(tmp_path: Path, name: str) -> None:
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer(50).save_pretrained(tmp_path)
    edit(tmp_path, lambda tensors: tensors.update({f"transformer.{name}": torch.ones(1, 1, 4, 4).bool()}))
    assert load_language(tmp_path).vocabulary == 50


@pytest.mark.parametrize("claimed", [True, False])
def test_tied_weights_are_what_the_file_holds(tmp_path: Path, claimed: bool) -> None:
    """A head of its own in the file stays, whatever the configuration says; one that is not there is not drawn."""
    model = llama(tied=not claimed)
    model.save_pretrained(tmp_path)
    tokenizer(50).save_pretrained(tmp_path)
    configure(tmp_path, tie_word_embeddings=claimed)
    if claimed:
        torch.testing.assert_close(logits(load_language(tmp_path).model), logits(model))
    else:
        assert refused(tmp_path).seen == "missing: lm_head.weight"


def test_tied_weights_are_loaded_tied(tmp_path: Path) -> None:
    model = llama(tied=True)
    model.save_pretrained(tmp_path)
    tokenizer(50).save_pretrained(tmp_path)
    found = load_language(tmp_path).model
    torch.testing.assert_close(logits(found), logits(model))
    assert found.lm_head.weight is found.model.embed_tokens.weight


def test_missing_shards_are_named(folder: Path) -> None:
    llama().save_pretrained(folder, max_shard_size="8KB")
    (folder / WEIGHTS).unlink()
    torch.testing.assert_close(logits(load_language(folder).model), logits(llama()))
    index, shards = folder / INDEX, sorted(folder.glob("model-*.safetensors"))
    document = index.read_text()
    shards[1].unlink()
    assert shards[1].name in refused(folder).seen
    index.unlink()
    assert shards[1].name in refused(folder).seen, "shards are numbered"
    shutil.copy(shards[0], shards[1])
    assert refused(folder).expected == INDEX
    index.write_text(document)
    assert "missing: " in refused(folder).seen, "the second shard is the first again"


def test_shard_that_goes_by_the_name_of_the_whole_is_refused(folder: Path) -> None:
    llama().save_pretrained(folder, max_shard_size="8KB")
    next(iter(sorted(folder.glob("model-*.safetensors")))).replace(folder / WEIGHTS)
    for path in (folder / INDEX, *folder.glob("model-*.safetensors")):
        path.unlink()
    assert re.search(r"\d+ tensors are missing: lm_head.weight, model\S+, .* and \d+ more", refused(folder).seen)


@pytest.mark.parametrize(
    "index",
    [[], {}, {"weight_map": [1]}, {"weight_map": {"a": ["b"]}}, {"weight_map": {"a": "../elsewhere.safetensors"}}],
)
def test_index_that_is_none_is_refused(folder: Path, index: object) -> None:
    (folder / INDEX).write_text(json.dumps(index))
    assert "index" in refused(folder).what


def test_one_file_of_a_folder_says_that_the_folder_is_meant(folder: Path) -> None:
    assert "CALIB FOLDER" in refused(folder / WEIGHTS).hint


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_numbers_of_any_width_become_float32(folder: Path, dtype: torch.dtype) -> None:
    edit(folder, lambda tensors: tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()}))
    configure(folder, dtype=str(dtype).removeprefix("torch."))
    model = load_language(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(model), logits(llama().to(dtype).float()))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_packed_into_fewer_bits_are_refused_by_name(folder: Path, dtype: torch.dtype) -> None:
    """The library would take their bytes for the numbers themselves."""
    edit(folder, lambda tensors: tensors.update({UP: (100 * tensors[UP]).to(dtype)}))
    error = refused(folder)
    assert UP in error.seen
    assert "fewer bits" in error.what


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "fp8", "nobody's"])
def test_quantised_checkpoint_is_refused_by_its_method(folder: Path, method: str) -> None:
    configure(folder, quantization_config={"quant_method": method})
    assert method in refused(folder).seen


@pytest.mark.parametrize("alone", [True, False])
def test_adapter_is_no_model_with_its_base_beside_it_or_without(folder: Path, alone: bool) -> None:
    if alone:
        (folder / "config.json").unlink()
        (folder / WEIGHTS).unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/model"}')
    error = refused(folder)
    assert "adapter" in error.what
    assert "merge_and_unload" in error.hint


def test_tokenizer_larger_than_the_model_is_refused(folder: Path) -> None:
    tokenizer(53).save_pretrained(folder)
    error = refused(folder)
    assert "larger than the model" in error.what
    assert "2 are beyond: 'w50', 'w51'" in error.seen, "and a special token"


def test_special_token_beyond_the_model_is_refused_only_where_a_text_has_it(folder: Path) -> None:
    made = tokenizer(50)
    made.add_special_tokens({"pad_token": "<pad>"})
    made.save_pretrained(folder)
    language = load_language(folder)
    assert language.encode("w3 w4") == [3, 4]
    with pytest.raises(ArtefactError, match="does not fit"):
        language.encode("w3 <pad>")


def test_tokenizer_of_another_vocabulary_is_refused(folder: Path) -> None:
    tokenizer(20).save_pretrained(folder)
    configure(folder, eos_token_id=[2, 40])
    error = refused(folder)
    assert "another vocabulary" in error.what
    assert "a token 40, the model's eos_token_id" in error.expected


def test_own_checkpoint_names_all_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path, model = tmp_path / "own.safetensors", GPT(GPTConfig(40, 8, 8, 2, 2))
    table = {f"w{i}": i for i in range(39)} | {"?": 39}
    save_checkpoint(path, model, Tokenizer(WordLevel(table, unk_token="?")), {})
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    names = sorted(tensors)
    tensors["strange"] = tensors.pop(names[0])
    tensors[names[1]] = tensors[names[1]][..., :3].contiguous()
    save_file(tensors, path, metadata)
    with pytest.raises(ArtefactError, match="3 of the checkpoint's tensors") as caught:
        load_checkpoint(path)
    for name in (names[0], names[1], "strange"):
        assert name in caught.value.seen


GGUF_UP = "blk.1.ffn_up.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop(GGUF_UP), f"missing: {UP}"),
        (lambda s: s.update({"blk.1.up.weight": s.pop(GGUF_UP)}), f"missing: {UP}"),
        (lambda s: s.update({GGUF_UP: (16, 24)}), f"of another shape: {UP} (16×24 for 24×16)"),
        (lambda s: s.update({"strange.weight": (8,)}), "8 more: strange.weight"),
        (lambda s: s.update({"blk.0.attn_q.bias": (16,)}), "16 more: blk.0.attn_q.bias"),
        (lambda s: s.update({"blk.2.ffn_up.weight": (24, 16)}), "384 more: blk.2.ffn_up.weight"),
        (lambda s: s.update({"token_embd.weight": (300, 16)}), "model.embed_tokens.weight (300×16 for 258×16)"),
    ],
    ids=["missing", "renamed", "turned round", "extra", "a bias", "one block more", "a larger table"],
)
def test_gguf_that_does_not_fill_its_model_is_refused(
    tmp_path: Path, change: Callable[[Mapping[str, Shape]], object], words: str
) -> None:
    assert words in refused(gguf_file(tmp_path / "tiny.gguf", change)).seen


def test_gguf_with_a_head_of_its_own_and_without_is_loaded(tmp_path: Path) -> None:
    tied = load_language(gguf_file(tmp_path / "tied.gguf")).model
    own = load_language(gguf_file(tmp_path / "own.gguf", lambda s: s.update({"output.weight": (258, 16)}))).model
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert not torch.equal(own.lm_head.weight, own.model.embed_tokens.weight)


def test_nothing_is_written_while_a_gguf_file_is_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = gguf_file(tmp_path / "tiny.gguf")
    capfd.readouterr()
    load_language(path)
    assert capfd.readouterr() == ("", "")


def test_first_part_of_a_split_gguf_is_refused(tmp_path: Path) -> None:
    error = refused(gguf_file(tmp_path / "x-00001-of-00003.gguf", split_count=3, split_no=0))
    assert "part 1 of 3" in error.seen
    assert "--merge x-00001-of-00003.gguf" in error.hint


def test_gguf_with_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    assert "larger than the model" in refused(gguf_file(tmp_path / "tiny.gguf", words=270)).what


@pytest.mark.parametrize("number", [39, 41, 512])
def test_llama2c_with_the_tokenizer_of_another_model_is_refused(tmp_path: Path, number: int) -> None:
    error = refused(llama2c(tmp_path, tok=number))
    assert "does not fit" in error.what
    assert error.seen == f"tok.bin: {number} pieces"


def test_llama2c_takes_the_tokenizer_that_fits(tmp_path: Path) -> None:
    language = load_language(llama2c(tmp_path, tok1=512, tok2=40))
    assert language.vocabulary == 40
    with pytest.raises(ArtefactError, match="no token for"):
        language.encode("39")


def test_model_without_numbers_is_refused_by_its_weights() -> None:
    with torch.device("meta"):
        absent = llama()
    told: dict[str, set[str]] = {"missing_keys": set(), "mismatched_keys": set(), "unexpected_keys": set()}
    with pytest.raises(ArtefactError, match="21 without numbers"):
        require_filled("nowhere", absent, told, None)


def test_positions_of_llama_3_in_a_gguf_file_are_scaled_as_its_library_scales_them(tmp_path: Path) -> None:
    import transformers

    ids = torch.randint(0, 256, (1, 30), generator=torch.Generator().manual_seed(0))
    plain = load_language(gguf_file(tmp_path / "plain.gguf")).model
    assert isinstance(plain, transformers.LlamaForCausalLM)
    config = copy.deepcopy(plain.config)
    config.rope_parameters = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 1024,
    }  # fmt: skip
    scaled = transformers.LlamaForCausalLM(config).eval()
    scaled.load_state_dict(plain.state_dict())
    factor = 1 / ((1 - (1024 / (200 * math.pi) - 1) / 3) / 8 + (1024 / (200 * math.pi) - 1) / 3)
    found = load_language(gguf_file(tmp_path / "scaled.gguf", rope_factors=(1.0, factor))).model
    logits = found(ids).logits
    assert found.config.rope_parameters["factor"] == pytest.approx(factor, rel=1e-6)
    with torch.no_grad():
        frequencies = found.model.rotary_emb.inv_freq
    torch.testing.assert_close(frequencies, scaled.model.rotary_emb.inv_freq)
    torch.testing.assert_close(logits, scaled(ids).logits)
    assert not torch.allclose(logits, plain(ids).logits)


@pytest.mark.parametrize("factors", [(2.0, 8.0), (1.0,), (0.0, 0.0), (math.nan, 8.0), (1.0, 1.0, 8.0)])
def test_positions_that_are_scaled_in_another_way_are_refused(factors: tuple[float, ...], tmp_path: Path) -> None:
    error = refused(gguf_file(tmp_path / "odd.gguf", rope_factors=factors))
    assert "rope_freqs.weight" in error.what
