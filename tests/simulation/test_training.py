"""Training from one seed, on tiny shapes, and the checkpoint that the project ships."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from calibration.errors import BadOperands, OutOfDomain
from simulation.conversion.quantise import quantise_int8
from simulation.evaluation.perplexity import perplexity
from simulation.models.checkpoint import load_checkpoint
from simulation.models.text import Text, pydoc_topics
from simulation.training.recipe import TrainingConfig
from simulation.training.train import Progress, train

TINY = TrainingConfig(
    width=16,
    blocks=1,
    heads=2,
    context=16,
    vocabulary=300,
    steps=60,
    batch=8,
    warmup=5,
    evaluate_every=30,
    learning_rate=1e-2,
)
TEXT = Text("rhyme.txt", "the light is cheap and the answer is noisy, " * 50, "ab")
MODELS = Path(__file__).parents[2] / "data" / "models"
SHIPPED = MODELS / "optical-gpt-d128.safetensors"
FAMILY = sorted((MODELS / "family").glob("*.safetensors"))


@pytest.mark.parametrize(
    "nonsense",
    [
        {"steps": 0}, {"steps": 1.5}, {"batch": 2.5}, {"seed": -1}, {"warmup": -1}, {"learning_rate": math.nan},
        {"learning_rate": math.inf}, {"weight_decay": -1.0}, {"clip": 0.0}, {"clip": math.nan}, {"pydoc_share": 2.0},
    ],
)  # fmt: skip
def test_schedule_that_is_none_is_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(OutOfDomain, match="no training has this schedule"):
        replace(TINY, **nonsense)


def test_training_lowers_the_loss_and_records_how() -> None:
    steps: list[Progress] = []
    model, tokenizer, record = train(TINY, [TEXT], progress=steps.append)
    assert [p.step for p in steps] == list(range(1, 61))
    assert [p.step for p in steps if p.heldout_nats is not None] == [30, 60]
    assert steps[0].train_nats == pytest.approx(math.log(300), abs=0.1)  # knows nothing yet
    assert steps[-1].train_nats < steps[0].train_nats - 1
    assert record["curve"][-1][2] == record["heldout"]["nats_per_token"] < math.log(300) - 0.5
    assert [text["name"] for text in record["texts"]] == ["pydoc_data.topics/train", "rhyme.txt"]
    assert record["tokens_seen"] == 60 * 8 * 16
    assert json.loads(json.dumps(record)) == record
    assert not model.training
    assert model.config.vocabulary == tokenizer.get_vocab_size()


def test_same_seed_gives_the_same_weights_whatever_the_global_generator() -> None:
    short = replace(TINY, steps=5)
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        runs.append(train(short, [TEXT])[0].state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_another_seed_gives_other_weights() -> None:
    a, b = (train(replace(TINY, steps=1, seed=seed), [])[0] for seed in (0, 1))
    assert not torch.equal(a.embedding.weight, b.embedding.weight)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"pydoc_share": 1.5}, {"learning_rate": 0.0}, {"width": 15}])
def test_impossible_schedule_is_refused_before_any_work(wrong: dict[str, int]) -> None:
    with pytest.raises(OutOfDomain):
        replace(TINY, **wrong)


def test_text_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(BadOperands, match="too little text"):
        train(TINY, [Text("word.txt", "word", "cd")])


def test_shipped_checkpoint_is_small_and_far_better_than_counting_tokens() -> None:
    assert SHIPPED.stat().st_size < 4e6
    checkpoint = load_checkpoint(SHIPPED)
    ids = checkpoint.tokenizer.encode(pydoc_topics("heldout")).ids[:6000]
    shares = [count / len(ids) for count in Counter(ids).values()]
    unigram = math.exp(-sum(share * math.log(share) for share in shares))  # fitted on this very text
    result = perplexity(checkpoint.model, ids, context=128)
    assert result.ppl < unigram / 8
    int8 = perplexity(quantise_int8(checkpoint.model), ids, context=128)
    assert result.ppl < int8.ppl < 1.1 * result.ppl
    assert {"seed", "steps", "texts", "curve", "heldout"} <= checkpoint.record.keys()


def test_shipped_family_differs_in_width_only_and_is_small() -> None:
    records = sorted((json.loads(path.with_suffix(".json").read_text()) for path in FAMILY), key=_width)
    assert [_width(record) for record in records] == [32, 64, 128, 256]
    assert sum(path.stat().st_size for path in FAMILY) < 20e6
    for path in FAMILY:
        record = next(record for record in records if record["checkpoint"]["name"] == path.name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["checkpoint"]["sha256"]
    perplexities = [record["heldout"]["ppl"] for record in records]
    assert perplexities == sorted(perplexities, reverse=True)
    for record in records:
        record["config"].pop("width")
    for same in ("config", "texts", "tokens_seen", "seed"):
        assert all(record[same] == records[0][same] for record in records)
    tokenizers = {load_checkpoint(path).tokenizer.to_str() for path in FAMILY}
    assert len(tokenizers) == 1


def _width(record: dict[str, Any]) -> int:
    return record["config"]["width"]
