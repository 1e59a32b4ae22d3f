"""A checkpoint comes back as it was written, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from tokenizers import Tokenizer
from torch.overrides import TorchFunctionMode

from calibration.errors import ArtefactError
from simulation.models.bare import bare
from simulation.models.checkpoint import load_checkpoint, save_checkpoint
from simulation.models.gpt import GPT

RECORD = {"seed": 1, "texts": [{"name": "a.txt", "sha256": "00", "characters": 3}]}


@pytest.fixture
def saved(tmp_path: Path, model: GPT, tokenizer: Tokenizer) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, model, tokenizer, RECORD)
    return path


def test_round_trip_keeps_weights_to_half_precision(saved: Path, model: GPT, tokenizer: Tokenizer) -> None:
    loaded = load_checkpoint(saved)
    assert loaded.model.config == model.config
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor.half().float(), rtol=0, atol=0)
    assert loaded.tokenizer.to_str() == tokenizer.to_str()
    assert loaded.record == RECORD


def test_saving_what_was_loaded_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(saved)
    again = tmp_path / "again.safetensors"
    save_checkpoint(again, loaded.model, loaded.tokenizer, loaded.record)
    assert load_file(again).keys() == load_file(saved).keys()
    assert _metadata(again) == _metadata(saved)


def test_tied_head_is_stored_once_in_half_precision(saved: Path) -> None:
    tensors = load_file(saved)
    assert [name for name, tensor in tensors.items() if 300 in tensor.shape] == ["embedding.weight"]
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_record_lies_beside_with_the_digest_of_the_file(saved: Path) -> None:
    beside = json.loads(saved.with_suffix(".json").read_text(encoding="utf-8"))
    assert beside["checkpoint"]["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert beside["seed"] == 1


def test_interrupted_write_leaves_the_old_checkpoint_and_no_other_file(
    saved: Path, model: GPT, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, model, tokenizer, {"seed": 2})
    assert saved.read_bytes() == before
    assert sorted(file.name for file in saved.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


@pytest.mark.parametrize("bad", [float("nan"), 1e6], ids=["NaN", "beyond half precision"])
def test_weights_not_finite_are_never_saved(tmp_path: Path, model: GPT, tokenizer: Tokenizer, bad: float) -> None:
    model.blocks[1].ffn.up.weight.data[0, 0] = bad
    with pytest.raises(ArtefactError, match=r"blocks\.1\.ffn\.up\.weight"):
        save_checkpoint(tmp_path / "bad.safetensors", model, tokenizer, RECORD)
    assert not list(tmp_path.iterdir())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def _flip_weight_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)


def _pickle(path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, path)


def _other_schema(path: Path) -> None:
    _rewrite(path, schema="somebody.else/7")


def _no_metadata(path: Path) -> None:
    save_file(load_file(path), path)


def _bad_config(path: Path) -> None:
    _rewrite(path, config='{"vocabulary": 300, "width": 33, "heads": 4}')


def _config_not_json(path: Path) -> None:
    _rewrite(path, config="{")


def _bad_tokenizer(path: Path) -> None:
    _rewrite(path, tokenizer='{"version": "1.0"}')


def _missing_tensor(path: Path) -> None:
    tensors, metadata = load_file(path), _metadata(path)
    del tensors["blocks.0.attention.query.weight"]
    save_file(tensors, path, metadata)


def _nan_weight(path: Path) -> None:
    tensors, metadata = load_file(path), _metadata(path)
    tensors["position.weight"][0, 0] = float("nan")
    save_file(tensors, path, metadata)


def _missing_file(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncate, "truncated or damaged"),
        (_cut_header, "truncated or damaged"),
        (_flip_weight_bit, "altered"),
        (_pickle, "truncated or damaged"),
        (_other_schema, "another schema"),
        (_no_metadata, "another schema"),
        (_bad_config, "metadata cannot be read"),
        (_config_not_json, "metadata cannot be read"),
        (_bad_tokenizer, "tokenizer cannot be read"),
        (_missing_tensor, "1 of the checkpoint's tensors"),
        (_nan_weight, r"position\.weight are not finite"),
        (_missing_file, "cannot be read"),
    ],
)
def test_damaged_checkpoint_is_refused_with_a_reason(saved: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(saved)
    with pytest.raises(ArtefactError, match=says) as caught:
        load_checkpoint(saved)
    error = caught.value
    assert error.device == str(saved)
    assert all((error.what, error.expected, error.seen, error.hint))


def test_the_record_beside_a_checkpoint_is_not_taken_for_a_damaged_one(saved: Path) -> None:
    record = saved.with_suffix(".json")
    record.write_text('{"steps": 3}')
    with pytest.raises(ArtefactError, match="record beside a checkpoint") as caught:
        load_checkpoint(record)
    assert str(saved) in caught.value.hint


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def _rewrite(path: Path, **entries: str) -> None:
    save_file(load_file(path), path, {**_metadata(path), **entries})


def _flip(path: Path, places: range, raw: bytes) -> list[int]:
    """Bits whose flip goes unseen."""
    unseen = []
    for place in places:
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        try:
            load_checkpoint(path)
        except ArtefactError:
            continue
        unseen.append(place)
    return unseen


def test_no_flipped_bit_goes_unseen(saved: Path) -> None:
    raw = saved.read_bytes()
    header = 8 + int.from_bytes(raw[:8], "little")
    assert _flip(saved, range(0, 64), raw) == []
    assert _flip(saved, range(64, header * 8, header * 8 // 150), raw) == []
    assert _flip(saved, range(header * 8, len(raw) * 8, len(raw) * 8 // 50), raw) == []


def test_model_of_ten_million_blocks_is_refused_at_once(saved: Path) -> None:
    metadata = _metadata(saved)
    metadata["config"] = json.dumps({**json.loads(metadata["config"]), "blocks": 10**7})
    del metadata["metadata_digest"]
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(ArtefactError, match="fewer tensors than its model has blocks"):
        load_checkpoint(saved)


def test_checkpoint_of_the_version_before_is_loaded(saved: Path) -> None:
    metadata = _metadata(saved)
    del metadata["metadata_digest"]
    save_file(load_file(saved), saved, metadata)
    assert load_checkpoint(saved).record == RECORD


def test_metadata_that_do_not_belong_there_are_refused(saved: Path) -> None:
    save_file(load_file(saved), saved, {**_metadata(saved), "more": "words"})
    with pytest.raises(ArtefactError, match="what does not belong there"):
        load_checkpoint(saved)


def test_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(ArtefactError, match="not a regular file"):
        load_checkpoint(tmp_path / "model.safetensors")


class Calls(TorchFunctionMode):
    """What is asked of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def test_a_bare_model_has_shapes_and_nothing_is_drawn_for_it(model: GPT) -> None:
    """A draw without memory would load torch's compiler."""
    with Calls() as calls, bare():
        made = GPT(model.config)
    shapes = {name: tensor.shape for name, tensor in made.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert all(tensor.is_meta for tensor in made.state_dict().values())
    assert "empty" in calls.names
    assert not calls.names & {"normal_", "uniform_", "kaiming_uniform_"}
