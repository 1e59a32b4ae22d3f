"""A report in a real browser, Chromium: printed, and read by keyboard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from drivers.testing import require_module, require_program
from labctl.report.document import section, table, write_page
from labctl.report.pdf import write_pdf

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    figure = Figure(figsize=(8, 3))
    figure.subplots().plot([0, 1])
    parts = [section(f"Part {k}", "What is seen.", figure) for k in range(1, 5)]
    columns = table(["figure", "", "a very long heading"] * 4, [["1.234567890123456"] * 12])
    return write_page(tmp_path_factory.mktemp("page") / "report.html", "A page", ["<h1>Verdict</h1>", *parts, columns])


def test_a_report_is_printed_by_the_browser_that_is_here(page: Path):
    require_program("chromium", ".ci/endpoints")
    printed = write_pdf(page).read_bytes()
    assert printed.startswith(b"%PDF")
    assert printed.rstrip().endswith(b"%%EOF")
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 1


def test_figures_grow_and_shrink_by_the_space_bar_and_nothing_is_fetched(page: Path):
    require_module("playwright", "pip install labctl[endpoints]")
    program = require_program("chromium", ".ci/endpoints")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=flags) as browser:
        opened = browser.new_page(viewport={"width": 390, "height": 800})
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.goto(page.as_uri())
        picture = opened.locator("img").first
        small = picture.bounding_box()
        assert small is not None
        assert small["width"] == 640  # its words can be read; it scrolls sideways, and the page does not
        cue = "getComputedStyle(document.querySelector('label.figure'), '::before').content"
        assert "goes on to the side" in opened.evaluate(cue)
        opened.get_by_role("checkbox").first.focus()
        opened.keyboard.press("Space")
        large = picture.bounding_box()
        assert large is not None
        assert large["width"] >= 1300
        opened.keyboard.press("Space")
        assert picture.bounding_box() == small
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390
        opened.set_viewport_size({"width": 1200, "height": 800})
        assert opened.evaluate(cue) == "none"  # there it fits
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe_in_a_report_on_a_phone(page: Path, scheme: str) -> None:
    require_module("axe_playwright_python", "pip install labctl[endpoints]")
    program = require_program("chromium", ".ci/endpoints")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=flags) as browser:
        opened = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        opened.goto(page.as_uri())
        found = [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in Axe().run(opened).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    assert found == []
