"""Waiting for what other processes do, and for their end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LIMIT_S = 200.0
"""What takes longer hangs: a machine on which much else runs is several times as slow, and that is no failure [s]."""


def wait_for(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Until it is so; a failure of the test where that takes longer."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """It has ended, or waits as a zombie for whoever adopted it."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
