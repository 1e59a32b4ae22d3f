"""Odd words on the command line: each is answered with a code, and nothing is written somewhere else."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from captures import measurement, write_npz

from labctl.errors import as_coded
from labctl.osal import write_line

Invoke = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "a.npz", "--runs", ""), "no folder for the runs"),
        (("run", "list", "--runs", ""), "no folder for the runs"),
        (("import", "a.npz", "--name", "x" * 201), "name is too long"),
        (("import", "a.npz", "--runs", "a.npz"), "a.npz is no folder"),
        (("fit", "-o", "a.npz"), "a folder is wanted"),
        (("plan", "--bench", ""), "no bench"),
        (("import", "\udcff.npz"), "is no UTF-8 text"),
        (("energy", "--shape", "gpt2", "--photons-per-mac", "1e308"), "a light level is"),
        (("simulate", "ideal", "--photons-per-mac", "1e300"), "a light level is"),
        (("simulate", "ideal", ""), "the model has no configuration"),
        (("simulate", "ideal", "--threads", "99999"), "less than or equal to 256"),
        (("scaling", "ideal", "--jobs", "99999"), "less than or equal to 256"),
    ],
)
def test_odd_words_are_refused_and_leave_nothing(words: tuple[str, ...], said: str, labctl: Invoke, here: Path) -> None:
    write_npz(here / "a.npz", measurement())
    shutil.copy(here / "a.npz", here / "\udcff.npz")
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux, on which nothing can be written")
def test_full_disk_below_what_is_printed_is_not_blamed_on_the_working_folder() -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 — closing it fails as well
    with pytest.raises(OSError, match="No space left") as caught:
        write_line("words", full)
    with contextlib.suppress(OSError):
        full.close()
    assert f"{as_coded(caught.value)}" == "the disk is full"
    assert "/dev/fd/" in as_coded(caught.value).device  # type: ignore[attr-defined]
