"""Every block of Python that a page shows as a whole runs as it stands, from an empty folder."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "index.md": "share of MACs",
    "how-to/run-your-own-model.md": "output head",
    "how-to/adapt-a-model-to-a-bench.md": "in light, after",  # trains for some seconds
    "explanation/the-transformer-in-light.md": "share of MACs",
}
"""Page → words of what its block prints."""


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "printed"),
    [pytest.param(*row, marks=pytest.mark.slow if "adapt" in row[0] else ()) for row in PAGES.items()],
)
def test_block_of_a_page_runs_as_it_stands(page, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    (code,) = blocks(page)
    exec(compile(code, page, "exec"), {"__name__": "page"})
    assert printed in capsys.readouterr().out
