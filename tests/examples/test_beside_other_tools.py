"""The page on other tools: what it shows of ours runs, and what it shows of aihwkit where that is installed."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "beside-other-tools.md"


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    return found


def test_our_block_of_the_page_runs(blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks[0], PAGE.name, "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"in light: rms error 0\.0\d\d", printed)
    assert "share of MACs" in printed


def test_the_block_with_aihwkit_says_about_the_same(blocks: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("aihwkit") is None:
        pytest.skip("needs aihwkit: python -m pip install aihwkit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n".join(blocks), PAGE.name, "exec"), {})
    ours, theirs = (float(number) for number in re.findall(r"rms error (\S+)", capsys.readouterr().out))
    assert theirs == pytest.approx(ours, rel=0.2)
