"""Odd words on the command line: each is answered with a code, and nothing is written somewhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from captures import measurement, write_npz

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "a.npz", "--runs", ""), "no folder for the runs"),
        (("run", "list", "--runs", ""), "no folder for the runs"),
        (("import", "a.npz", "--name", "x" * 201), "name is too long"),
        (("import", "a.npz", "--runs", "a.npz"), "a.npz is no folder"),
        (("fit", "-o", "a.npz"), "a folder is wanted"),
        (("energy", "--shape", "gpt2", "--photons-per-mac", "1e308"), "not a law of photons"),
        (("simulate", "ideal", "--photons-per-mac", "1e300"), "a light level is"),
        (("simulate", "ideal", ""), "the model has no configuration"),
        (("simulate", "ideal", "--threads", "99999"), "less than or equal to 256"),
        (("scaling", "ideal", "--jobs", "99999"), "less than or equal to 256"),
    ],
)
def test_odd_words_are_refused_and_leave_nothing(words: tuple[str, ...], said: str, labctl: Invoke, here: Path) -> None:
    write_npz(here / "a.npz", measurement())
    if words[0] == "fit":
        assert labctl("import", "a.npz")[0] == 0
    before = sorted(here.rglob("*.json"))
    code, _, err = labctl(*words)
    assert (code in (2, 22), said in err) == (True, True), err
    assert before == sorted(here.rglob("*.json"))


@pytest.mark.parametrize(
    "shape", [("--vocabulary", "99999999999"), ("--blocks", "99999999"), ("--context", "9999999999")]
)
def test_model_that_does_not_fit_into_memory_is_refused_with_what_it_takes(
    shape: tuple[str, str], labctl: Invoke, here: Path
) -> None:
    """A vocabulary of 10¹¹ ended the process in the middle: the tokenizer's library gives up without a word."""
    code, _, err = labctl("train", "x.safetensors", *shape)
    assert (code, "does not fit into memory" in err, " GB" in err) == (2, True, True), err
    assert not list(here.glob("*x.safetensors*"))
