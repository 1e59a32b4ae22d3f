"""Texts: a split that shares nothing, and a tokenizer that loses nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from tokenizers import Tokenizer

from calibration.errors import BadOperands
from simulation.models.text import load_texts, pydoc_topics, train_tokenizer


def test_held_out_topics_share_no_paragraph_with_training() -> None:
    train, heldout = ({p.strip() for p in pydoc_topics(split).split("\n\n")} - {""} for split in ("train", "heldout"))
    assert len(heldout) > 100
    assert len(train) > len(heldout)
    assert not train & heldout


def test_split_follows_the_name_of_the_topic() -> None:
    held = [name for name in topics if int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") % 5 == 0]
    assert "comparisons" in held  # pinned: a checkpoint trained elsewhere held out the same names
    assert "slicings" in held
    assert all(topics[name] in pydoc_topics("heldout") for name in held)


@pytest.mark.parametrize("text", ["", "naïve ×2\n\ttab  and   runs", "日本語 \x00 \u200b", "unseen: q€ž"])
def test_tokens_decode_to_the_same_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_training_a_tokenizer_twice_gives_the_same_merges() -> None:
    a, b = (train_tokenizer([pydoc_topics("heldout")], 400).to_str() for _ in range(2))
    assert a == b


def test_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(BadOperands, match="vocabulary"):
        train_tokenizer(["text"], 100)


def test_text_keeps_its_name_and_the_digest_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\r\ntwo")
    (text,) = load_texts([file])
    assert (text.name, text.content) == ("a.txt", "one\ntwo")
    assert text.sha256 == hashlib.sha256(b"one\r\ntwo").hexdigest()


@pytest.mark.parametrize("raw", [None, b"", b"\xff\xfe\xfa"], ids=["missing", "empty", "not UTF-8"])
def test_unreadable_text_is_refused_by_name(tmp_path: Path, raw: bytes | None) -> None:
    file = tmp_path / "b.txt"
    if raw is not None:
        file.write_bytes(raw)
    with pytest.raises(BadOperands) as caught:
        load_texts([file])
    assert caught.value.device == str(file)
