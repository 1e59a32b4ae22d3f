"""Text as documents: windows lie in one of them each, all are read, and what noise costs adds up over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.errors import BadOperands
from simulation.models.gpt import GPT, GPTConfig
from simulation.models.text import Text, pydoc_text
from simulation.scaling.by_document import cost_by_document
from simulation.scaling.documents import Document, documents_of, held_out_documents, stream_of, windows_of
from simulation.scaling.expansion import expand

CONTEXT = 8


def letters(content: str) -> list[int]:
    return [ord(letter) % 64 for letter in content]


def documents(*lengths: int) -> list[Document]:
    """Of one letter each, so that a window shows which document it is from."""
    return [Document(f"d{i}", chr(64 + i) * length) for i, length in enumerate(lengths)]


def test_articles_of_wikitext_are_documents() -> None:
    content = "\n = Robert Boulter = \n\n words \n\n = = Career = = \n\n more \n\n = Du Fu = \n\n others \n"
    found = documents_of(Text("w", content, "s"))
    assert [d.content.split(" = ")[1] for d in found] == ["Robert Boulter", "Du Fu"]
    assert "more" in found[0].content


def test_text_without_titles_is_cut_at_blank_lines_and_nothing_is_lost() -> None:
    content = "\n\n".join(f"paragraph {i} " * 50 for i in range(40))
    found = documents_of(Text("novel", content, "s"))
    assert len(found) > 3
    assert "".join(d.content for d in found).strip() == content.strip()


def test_every_held_out_topic_is_a_document() -> None:
    assert "\n".join(d.content for d in held_out_documents()) == pydoc_text("heldout").content


def test_no_window_spans_two_documents_and_short_ones_are_read() -> None:
    found = windows_of(documents(40, 5, 100), letters, CONTEXT, 10_000)
    rows = [row for inputs, targets in found.batches for row in torch.cat([inputs, targets], 1)]
    assert [set(row.tolist()) == {int(n)} for row, n in zip(rows, found.documents, strict=True)] == [True] * len(rows)
    assert np.bincount(found.documents).tolist() == [4, 1, 12]


def test_few_tokens_are_spread_over_all_documents() -> None:
    found = windows_of(documents(800, 800, 800), letters, CONTEXT, 6 * CONTEXT)
    assert np.bincount(found.documents).tolist() == [2, 2, 2]


def test_long_windows_are_read_few_at_once() -> None:
    """16 windows of 1,024 tokens, answered for in a vocabulary of 49,152, are six gigabytes."""
    found = windows_of(documents(5000, 5000), letters, 1024, 10_000)
    assert {len(inputs) for inputs, _ in found.batches} == {1}
    assert max(len(inputs) for inputs, _ in windows_of(documents(5000, 5000), letters, 128, 10_000).batches) == 16


def test_stream_cut_at_the_context_is_the_windows() -> None:
    ids, numbers = stream_of(documents(5, 40, 100, 30), letters, CONTEXT, 10_000)
    assert len(ids) == CONTEXT * len(numbers) + 1
    rows = np.array(ids[:-1]).reshape(-1, CONTEXT)
    assert (rows == numbers[:, None]).all()
    assert set(numbers[:3].tolist()) == {1, 2, 3}


def test_one_document_cannot_say_how_far_to_trust_it() -> None:
    with pytest.raises(BadOperands, match="too few documents"):
        windows_of(documents(500), letters, CONTEXT, 1000)


def test_costs_of_documents_add_up_to_those_of_the_expansion() -> None:
    config = GPTConfig(vocabulary=64, context=CONTEXT, width=16, heads=2, blocks=2)
    model = GPT(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(10)
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(64, 128, 60 * CONTEXT + 1))) for _ in range(4)]
    parts = [Document(str(i), text) for i, text in enumerate(texts)]
    found = cost_by_document(model, windows_of(parts, letters, CONTEXT, 10_000), [d.name for d in parts])
    ids, _ = stream_of(parts, letters, CONTEXT, 10_000)
    expected = expand(model, ids, context=CONTEXT)
    for kind, cost in expected.kinds().items():
        assert float(found.cost(kind)) == pytest.approx(cost.kl, abs=5 * cost.kl_stderr)
        assert cost.kl_stderr < 0.1 * cost.kl
    weights = np.array([[1.0, 0, 0, 0], [0, 0, 0, 3.0]])
    assert found.cost("ffn", weights)[1] == pytest.approx(found.kl["ffn"][3] / found.tokens[3])
