"""The report of an old run, made again with every figure drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import without_figures

from labctl.__main__ import main

pytestmark = pytest.mark.figures


def test_report_of_an_old_run_is_made_anywhere(measured_once: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["report", "latest", "--runs", str(measured_once), "-o", str(page), "--quiet"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Registration" in text
    images = re.findall(r"data:image/png;base64,([^']+)'", text)
    assert len(images) >= 7
    assert all(len(image) > 10_000 for image in images)  # drawn, each of them
    assert "http" not in without_figures(text)
