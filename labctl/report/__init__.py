"""One self-contained HTML page for a run: what came out, how well, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.engine.analyst import Desk
    from labctl.summary import Summary

__all__ = ["write_report"]


def write_report(path: Path, run: Path, summary: Summary, desk: Desk, options: Mapping[str, str] | None = None) -> Path:
    """Write the page of a run as `labctl.report.page.write_report` does.

    What draws is imported where the page is written: the process at the bench hands this function to the one that
    analyses, and draws nothing.
    """
    from labctl.report import page

    return page.write_report(path, run, summary, desk, options)
