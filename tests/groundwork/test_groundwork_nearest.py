"""A name that is not known is answered with the nearest one that is."""

from __future__ import annotations

import doctest

import pytest

import groundwork.nearest
from groundwork.nearest import did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("gp2", ["gpt2", "gpt2-xl"], "gpt2"),
        ("KIMI_K2", ["kimi-k2"], "kimi-k2"),
        ("E-USE-01", ["E-USE-001", "E-WEB-001"], "E-USE-001"),
        ("gpt3", ["gpt2", "gpt3-13b"], "gpt3-13b"),
        ("aoc", ["aoc-1", "aoc-2", "aoc-3", "aoc-4"], "aoc-4 or aoc-3 or aoc-2"),
        (9, [8, 16], ""),
        ("", ["gpt2"], ""),
        ("gpt2", [], ""),
    ],
)
def test_the_nearest_name_is_asked_for(word: object, known: list[object], meant: str) -> None:
    assert did_you_mean(word, known) == (f"did you mean {meant}?" if meant else "")


def test_where_names_lie_is_said_and_not_compared() -> None:
    assert did_you_mean("gian", ["gain", "offset"], "all of them", "camera.") == (
        "did you mean camera.gain?   ·   all of them"
    )
    assert did_you_mean("xyz", ["gain"], "all of them", "camera.") == "all of them"


def test_the_examples_in_the_docstring_work() -> None:
    found = doctest.testmod(groundwork.nearest)
    assert found.attempted
    assert not found.failed
