"""The page on slmsuite and Micro-Manager: its blocks run one after the other, as somebody would type them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivers.testing import require_module
from labctl.bench.marks import look_at

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-bench-from-slmsuite.md"


def test_blocks_of_the_page_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_module("slmsuite", "pip install labctl[endpoints]")
    require_module("pymmcore_plus", "pip install labctl[endpoints]")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    typed: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), typed)
        assert not look_at("tiny").held
    printed = capsys.readouterr().out
    assert float(re.findall(r"largest residual (\S+) px", printed)[0]) < 0.5
    dark, bright = (float(number) for number in re.findall(r"panel: (\d+) DN", printed))
    assert bright > 2 * dark
