"""Blocks of the pages on other systems that need packages of others, as they stand, from a folder with a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kept import unpacked

from drivers.testing import require_module
from labctl.__main__ import main

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
INSTALL = "pip install labctl[endpoints]"
BLOCKS = {
    ("take-data-elsewhere.md", "into_tiled.py"): ("tiled", "success"),
    ("take-data-elsewhere.md", "labelled.py"): ("xarray", "readings_dn"),
    ("run-under-bluesky.md", "scan.py"): ("bluesky", "success"),
    ("run-under-bluesky.md", "fly.py"): ("bluesky", "["),
}
"""Page and block → package that it needs, and words of what it prints."""


def script(page: str, name: str) -> str:
    text = (DOCS / page).read_text(encoding="utf-8")
    code = re.search(rf"^```python\n# {name}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert code is not None
    return code[1]


def keep_few(path: Path, streams: tuple[str, ...] = ("baseline", "gain", "gain_slm")) -> None:
    """Leave documents of some streams alone: there are forty, and each takes tiled a second."""
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    of = {d["doc"]["uid"] for d in documents if d["name"] == "descriptor" and d["doc"]["name"] in streams}
    of |= {d["doc"]["stream_resource"] for d in documents if d["doc"].get("descriptor") in of and "indices" in d["doc"]}
    kept = [
        d
        for d in documents
        if d["name"] in ("start", "stop") or d["doc"].get("descriptor") in of or str(d["doc"]["uid"]) in of
    ]
    path.write_text("".join(json.dumps(d) + "\n" for d in kept), encoding="utf-8")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("page", "name"), BLOCKS)
def test_block_of_a_page_runs_as_it_stands(
    page: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: the libraries leave threads and sockets behind."""
    needs, printed = BLOCKS[page, name]
    require_module(needs, INSTALL)
    unpacked(tmp_path)
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    to = {"into_tiled.py": "events", "labelled.py": "xarray"}.get(name)
    if to is not None:
        assert main(["export", "latest", "--to", to, "-o", "elsewhere", "--quiet"]) == 0
    for path in Path("elsewhere").glob("*.events.jsonl"):
        keep_few(path)
    (tmp_path / name).write_text(script(page, name), encoding="utf-8")
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, timeout=160, check=False)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout


def test_every_block_of_the_pages_is_run_somewhere() -> None:
    found = {
        (page.name, name)
        for page in (DOCS / "take-data-elsewhere.md", DOCS / "run-under-bluesky.md")
        for name in re.findall(r"^```python\n# (\w+\.py)\n", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert found - BLOCKS.keys() == {("take-data-elsewhere.md", "draw.py"), ("take-data-elsewhere.md", "ten_lines.py")}
