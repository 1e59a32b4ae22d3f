"""One self-contained HTML page for a run: what came out, how well, and where it comes from."""

from labctl.report.page import write_report

__all__ = ["write_report"]
