"""The live page in a real browser, Chromium, while runs go on on the mock bench."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import LIMIT_S

from drivers.testing import require_module, require_program

STATION = """
[bench]
name = "small"
[layout]
rows = 32
columns = 32
[mock]
seed = 1
[mock.slm]
rows = 1024
cols = 1280
[mock.display]
rows = 1024
cols = 1280
[mock.camera]
rows = 1240
cols = 1520
"""
LIMIT_MS = 45_000
pytestmark = pytest.mark.timeout(150)
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    require_module("playwright", "pip install labctl[endpoints]")
    program = require_program("chromium", ".ci/endpoints")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("lab")
    (found / "small.toml").write_text(STATION)
    return found


@pytest.fixture(scope="module")
def start(folder: Path) -> Iterator[Start]:
    """Starts ``labctl`` in the folder; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def launch(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "labctl", *words, "--runs", "runs"]
        started.append(
            subprocess.Popen(command, cwd=folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        )
        return started[-1]

    yield launch
    for process in started:
        process.terminate()
        process.communicate(timeout=LIMIT_S)


@pytest.fixture(scope="module")
def url(start: Start) -> str:
    """Of the page, which is served while the tests of this file run."""
    require_module("starlette", "pip install labctl[web]")
    process = start("serve", "--port", "0", "--json")
    assert process.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline()
        assert line, "labctl serve has ended"
        said += line
    return str(json.loads(said)["url"])


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """A page that asks nobody but its own server, and complains of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda request: None if request.url.startswith((url, "data:")) else elsewhere.append(request.url)
    )
    opened.set_default_timeout(LIMIT_MS)
    yield opened
    context.close()
    assert elsewhere == []
    assert complaints == []


def seen_until(page: Any, condition: str) -> None:
    """Wait for a condition that is asked again and again: the page's policy lets nothing be waited for inside of it."""
    for _ in range(LIMIT_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"it did not come: {condition}")


def calibrate(start: Start, *more: str) -> subprocess.Popen[str]:
    return start("calibrate", *more, "--bench", "small.toml", "--quiet")


def test_run_is_seen_to_go_on_to_fail_and_another_to_end_in_its_report(page: Any, url: str, start: Start) -> None:
    page.goto(url)
    page.get_by_text("labctl demo").wait_for()
    page.get_by_text("● live").wait_for()
    lost = ("--set", 'mock.faults=["disconnect@1800"]', "--set", "acquisition.reopen_attempts=0")
    failing = calibrate(start, *lost)
    page.locator("#jobs .badge", has_text="running").wait_for()
    seen_until(page, "() => document.querySelector('#jobs progress')?.value > 0")
    first = page.evaluate("() => document.querySelector('#jobs progress').value")
    seen_until(page, f"() => document.querySelector('#jobs progress')?.value > {first}")
    page.locator("#overlay img.picture").wait_for()
    seen = page.locator("#overlay img.picture").get_attribute("src")
    other = f"() => document.querySelector('#overlay img.picture')?.getAttribute('src') !== {json.dumps(seen)}"
    seen_until(page, other)
    seen_until(page, "() => document.querySelector('#overlay img.picture')?.naturalWidth > 0")
    page.locator("#overlay .regions polygon").nth(31).wait_for(state="attached")
    assert page.locator("#overlay .regions polygon").count() == 32
    assert page.locator("#camera .histogram rect").count() > 0
    alarm = page.locator("#jobs .alarm", has_text="E-DEV-005")
    alarm.wait_for()
    assert "camera" in alarm.inner_text()
    page.locator("#jobs .badge", has_text="fault").wait_for()
    assert "E-DEV-005" in page.locator("#jobs .alarm").inner_text()
    assert failing.wait(LIMIT_S) == 20
    going = calibrate(start, "timing")
    page.locator("#jobs .badge", has_text="ok").wait_for()
    assert going.wait(LIMIT_S) == 0
    page.get_by_role("link", name="Open the report").click()
    page.locator("h1").wait_for()
    assert page.url.endswith("/report")
    assert "small" in page.locator("h1").inner_text()
    assert page.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


@pytest.fixture
def addresses(folder: Path) -> list[str]:
    """Every page of the archive that the first test has left."""
    runs = [f"runs/{path.parent.name}" for path in sorted(folder.glob("runs/*/*/*/*/run.json"))]
    assert len(runs) == 2, "the test above makes them"
    return ["", "runs", *runs, "nights", "calibrations", "nothing"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe(browser: Any, url: str, addresses: list[str], scheme: str) -> None:
    require_module("axe_playwright_python", "pip install labctl[endpoints]")
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    found = {}
    for address in addresses:
        page.goto(url + address, wait_until="load")
        found[address] = [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in Axe().run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
    context.close()
    assert {address: some for address, some in found.items() if some} == {}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_page_is_wider_than_its_window(browser: Any, url: str, addresses: list[str], width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    widths = {}
    for address in addresses:
        page.goto(url + address, wait_until="load")
        widths[address] = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert all(wide <= width for wide in widths.values()), widths


def test_everything_is_reached_with_the_keyboard_and_stays_there(page: Any, url: str, addresses: list[str]) -> None:
    page.goto(url)
    page.get_by_text("● live").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.dataset.key || ''"))
    assert {"show-regions", "show-saturated"} <= set(reached)
    assert any(name.startswith("report-") for name in reached)
    page.locator("#show-regions").focus()
    page.keyboard.press("Space")
    assert not page.locator("#overlay .regions").is_visible()
    page.locator("[data-key^=report-]").focus()
    page.evaluate("document.querySelector('[data-key^=report-]').closest('[data-part]').dataset.mark = 'x'")
    page.wait_for_timeout(2500)
    assert page.evaluate("document.activeElement.dataset.key").startswith("report-")


def test_page_is_of_use_without_scripts(browser: Any, url: str, addresses: list[str]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert "reload the page" in page.locator("h1").inner_text()
    assert page.get_by_role("link", name="Open the report").is_visible()
    assert page.locator("#overlay img.picture").is_visible()
    context.close()
