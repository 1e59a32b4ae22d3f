"""A killed training goes on bit for bit, and only with its own state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from calibration.errors import ArtefactError, BadOperands, OutOfDomain
from simulation.models.checkpoint import Checkpoint
from simulation.models.gpt import GPT
from simulation.models.text import Text
from simulation.training.forward import Forward
from simulation.training.physical import CalibratedForward
from simulation.training.qat import QuantisedForward
from simulation.training.recipe import TrainingConfig
from simulation.training.train import Progress, train

TINY = TrainingConfig(
    width=8, blocks=1, heads=2, context=16, vocabulary=300, steps=12, batch=4, warmup=3, evaluate_every=5
)
TEXT = Text("rhyme.txt", "the light is cheap and the answer is noisy, " * 50, "ab")


@pytest.fixture(autouse=True)
def short_heldout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation reads a page instead of a book."""
    short = {split: Text(split, "the answer of the light is a number. " * 40, split) for split in ("train", "heldout")}
    monkeypatch.setattr("simulation.training.train.pydoc_text", short.__getitem__)


class Killed(Exception):
    pass


def killed_at(step: int):
    def progress(now: Progress) -> None:
        if now.step == step:
            raise Killed

    return progress


def same(a: GPT, b: GPT) -> bool:
    return all(torch.equal(tensor, b.state_dict()[name]) for name, tensor in a.state_dict().items())


@pytest.mark.parametrize(
    ("forward", "precision"),
    [
        (None, "float32"),
        (None, "bfloat16"),
        (QuantisedForward(), "float32"),
        (QuantisedForward("running"), "float32"),
        (CalibratedForward("paper", 50.0), "float32"),
    ],
    ids=["float", "bfloat16", "quantised", "quantised, running ranges", "in light"],
)
def test_killed_training_ends_bit_for_bit_as_one_that_was_not(
    tmp_path: Path, forward: Forward | None, precision: str
) -> None:
    config, state = replace(TINY, precision=precision), tmp_path / "tiny.training"
    whole, _, record = train(config, [TEXT], forward=forward)
    for step in (2, 8, 11):  # before the first state, and twice after one
        with pytest.raises(Killed):
            train(config, [TEXT], forward=forward, state=state, progress=killed_at(step))
    resumed, _, again = train(config, [TEXT], forward=forward, state=str(state))
    assert same(whole, resumed)
    assert record["curve"] == again["curve"]
    assert record.get("forward") == again.get("forward")


def test_state_of_another_training_is_refused_and_says_which_part_differs(tmp_path: Path) -> None:
    state = tmp_path / "tiny.training"
    train(TINY, [TEXT], state=state)
    with pytest.raises(ArtefactError, match="another training") as error:
        train(replace(TINY, learning_rate=1e-3), [TEXT], state=state)
    assert "0.001" in error.value.expected
    assert "0.002" in error.value.seen


@pytest.mark.parametrize(
    "damage",
    ["truncated", "NaN", "a tensor missing", "a weight altered", "a count altered", "a key more", "no state"],
)
def test_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    state = tmp_path / "tiny.training"
    train(TINY, [TEXT], state=state)
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-50])
    elif damage == "no state":
        save_file({"a": torch.zeros(2)}, state)
    else:
        from safetensors import safe_open

        with safe_open(state, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(state)
        if damage == "a key more":
            metadata["more"] = "1"
        elif damage == "a count altered":
            metadata["counts"] = metadata["counts"].replace("1", "2", 1)
        elif damage == "a weight altered":
            tensors["model/norm.weight"][0] += 1
        elif damage == "NaN":
            tensors["model/norm.weight"][0] = torch.nan
        else:
            del tensors["model/norm.weight"]
        save_file(tensors, state, metadata)
    with pytest.raises(ArtefactError) as error:
        train(TINY, [TEXT], state=state)
    assert "tiny.training" in error.value.hint


def test_full_disk_leaves_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "tiny.training"
    with pytest.raises(Killed):
        train(TINY, [TEXT], state=state, progress=killed_at(6))
    before = state.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        train(TINY, [TEXT], state=state)
    assert state.read_bytes() == before
    assert list(tmp_path.iterdir()) == [state]


def test_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(BadOperands, match="no longer finite"):
        train(replace(TINY, learning_rate=1e30, warmup=1), [TEXT])


def test_going_on_from_a_model_keeps_its_tokenizer_and_learns() -> None:
    model, tokenizer, first = train(replace(TINY, learning_rate=1e-2), [TEXT])
    begun = Checkpoint(model, tokenizer, first)
    further, same_tokenizer, record = train(replace(TINY, learning_rate=1e-2, seed=1), [TEXT], start=begun)
    assert same_tokenizer is tokenizer
    assert record["heldout"]["nats_per_token"] < first["heldout"]["nats_per_token"]
    assert not same(model, further)
    assert len(record["start"]) == 64
    with pytest.raises(OutOfDomain, match="another shape"):
        train(replace(TINY, width=16), [TEXT], start=begun)


def test_levels_are_not_trained_in_bfloat16() -> None:
    with pytest.raises(OutOfDomain, match="bfloat16"):
        train(replace(TINY, precision="bfloat16"), [TEXT], forward=QuantisedForward())
