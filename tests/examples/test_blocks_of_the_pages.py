"""Every block of Python that a page shows as a whole runs as it stands, from an empty folder."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "index.md": ("share of",),
    "how-to/run-your-own-model.md": ("output head",),
    "how-to/generate-save-and-adapt.md": ("shared with the original: True", "in light: True"),
    "how-to/adapt-a-model-to-a-bench.md": ("in light, after",),  # trains for some seconds
    "explanation/the-transformer-in-light.md": ("multiply–accumulates in light",),
}
"""Page → words of what each of its blocks prints."""


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_no_block_of_these_pages_is_left_out():
    assert {page: len(blocks(page)) for page in PAGES} == {page: len(printed) for page, printed in PAGES.items()}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize(
    ("page", "number", "printed"),
    [
        pytest.param(page, number, words, marks=pytest.mark.slow if "adapt-a-model" in page else ())
        for page, each in PAGES.items()
        for number, words in enumerate(each)
    ],
)
def test_block_of_a_page_runs_as_it_stands(page, number, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABCTL_RUNS", raising=False)
    code = blocks(page)[number]
    for package in ("transformers", "peft"):
        if f"from {package} import" in code:
            pytest.importorskip(package)
    exec(compile(code, page, "exec"), {"__name__": "page"})
    assert printed in capsys.readouterr().out
