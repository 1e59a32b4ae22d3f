"""A page as a PDF, printed by the browser that this computer has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from groundwork.opening.regular import is_file, read_regular
from labctl.archive import atomic_write_bytes
from labctl.errors import NotPrinted

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
    "brave-browser",
)
"""Programs that print without a window, the first that is found."""

INSTALLED = {
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    "win32": (
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    ),
}
"""Where systems keep them that do not put them on the path, by `sys.platform`."""

PRINTING_S = 120.0
"""Longer than the largest page takes; a browser that waits for something is ended then [s]."""


def write_pdf(page: Path, *, printing_s: float = PRINTING_S) -> Path:
    """Print a page that holds all it needs, all of it or nothing.

    Parameters
    ----------
    page
        The HTML file; the PDF stands beside it under the same name.
    printing_s
        How long the browser may take [s].

    Returns
    -------
    Where the PDF is.

    Raises
    ------
    NotPrinted
        When there is no browser that prints, or it did not.
    StorageError
        When the PDF cannot be written.
    """
    browser = _browser(page)
    with TemporaryDirectory() as scratch:
        printed = Path(scratch, "page.pdf")
        said = _print(browser, page, printed, scratch, printing_s)
        raw = read_regular(printed) if is_file(printed) else b""
    if not raw.startswith(b"%PDF"):
        raise _refused(page, "the browser printed no PDF", "a PDF", said or "no file, and no word", browser)
    pdf = page.with_suffix(".pdf")
    atomic_write_bytes(pdf, raw)
    return pdf


def _browser(page: Path) -> str:
    """The first browser there is."""
    for name in (*BROWSERS, *INSTALLED.get(sys.platform, ())):
        if found := shutil.which(name):
            return found
    raise _refused(page, "no browser that prints was found", f"one of {', '.join(BROWSERS)} on the path", "none", "")


def _print(browser: str, page: Path, printed: Path, scratch: str, printing_s: float) -> str:
    """Run the browser, with a profile of its own, and return the last line of what it says."""
    # Its sandbox does not start for root, and the page is ours and runs nothing.
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    command = [
        browser, "--headless", "--disable-gpu", *(["--no-sandbox"] if is_root else []), f"--user-data-dir={scratch}",
        "--no-pdf-header-footer", f"--print-to-pdf={printed}", page.absolute().as_uri(),
    ]  # fmt: skip
    # A file, not a pipe: processes that the browser leaves behind would hold a pipe open, and we would wait for them.
    with TemporaryFile() as said:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=printing_s, check=False)
        except subprocess.TimeoutExpired:
            return f"nothing after {printing_s:.0f} s"
        except OSError as error:
            return str(error)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _refused(page: Path, what: str, expected: str, seen: str, browser: str) -> NotPrinted:
    return NotPrinted(
        what,
        device=browser,
        action="printing a report",
        expected=expected,
        seen=seen,
        safe=f"the page is written: {page}",
        hint="open the page in any browser, and print it from there",
    )
