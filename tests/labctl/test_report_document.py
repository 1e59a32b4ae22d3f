"""What every page shares: contents, figures that can be enlarged, and its PDF."""

from __future__ import annotations

import html.parser
import re
import stat
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from labctl.errors import NotPrinted
from labctl.report import pdf
from labctl.report.document import section, write_page


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([0, 1])
    return drawn


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = [section(f"Part {k} & more", "What is seen.", figure()) for k in range(1, 5)]
    return write_page(tmp_path_factory.mktemp("page") / "report.html", "A page", ["<h1>Verdict</h1>", *parts])


def test_a_page_lists_what_is_on_it_before_the_first_part_and_after_the_verdict(page: Path):
    written = page.read_text()
    links = re.findall(r"<li><a href='#(part-\d)'>(.*?)</a>", written)
    assert links == [(f"part-{k}", f"Part {k} &amp; more") for k in range(1, 5)]
    assert re.findall(r"<h2 id=(part-\d)>(.*?)</h2>", written) == links
    assert written.index("Verdict") < written.index("<nav") < written.index("<h2")


def test_a_short_page_has_no_list_of_contents(tmp_path: Path):
    written = write_page(tmp_path / "short.html", "Short", [section("One", "Seen.", figure())]).read_text()
    assert "<nav" not in written


def test_every_figure_can_be_enlarged_without_a_script(page: Path):
    written = page.read_text()
    assert written.count("type=checkbox") == written.count("<img") == 4
    assert "<script" not in written
    html.parser.HTMLParser().feed(written)


def test_without_a_browser_the_page_stays_and_the_answer_says_what_to_do(page: Path, monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    with pytest.raises(NotPrinted, match="no browser") as refused:
        pdf.write_pdf(page)
    assert "print it" in refused.value.hint
    assert not page.with_suffix(".pdf").exists()


@pytest.mark.parametrize(
    ("does", "printing_s", "seen"),
    [
        ("echo no display >&2; exit 1", 20.0, "no display"),
        ("exit 0", 20.0, "no file"),
        ("exec sleep 30", 0.3, "nothing after"),
        ("for a in $*; do case $a in --print-to-pdf=*) echo text > ${a#*=};; esac; done", 20.0, "no word"),
    ],
    ids=["fails", "does nothing", "hangs", "prints something else"],
)
def test_a_browser_that_does_not_print_is_an_error_with_its_word(
    page: Path, tmp_path: Path, monkeypatch, does: str, printing_s: float, seen: str
):
    browser = tmp_path / "chromium"
    browser.write_text(f"#!/bin/sh\n{does}\n")
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(pdf, "BROWSERS", (str(browser),))
    with pytest.raises(NotPrinted) as refused:
        pdf.write_pdf(page, printing_s=printing_s)
    assert seen in refused.value.seen
    assert not page.with_suffix(".pdf").exists()


def test_what_the_browser_printed_stands_beside_the_page(page: Path, tmp_path: Path, monkeypatch):
    browser = tmp_path / "chromium"
    browser.write_text(
        '#!/bin/sh\nfor a in "$@"; do case $a in --print-to-pdf=*) printf "%%PDF-1.7 of $9" > "${a#*=}";; esac; done\n'
    )
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(pdf, "BROWSERS", (str(browser),))
    printed = pdf.write_pdf(page)
    assert printed == page.with_suffix(".pdf")
    assert printed.read_bytes().startswith(b"%PDF-1.7")
    printed.unlink()
