"""Make a bench safe that a process has left open: ``python -m labctl.engine.safe_state SECONDS BENCH [PROCESS]``.

In a fresh process, which imports no more than that takes; with a process, only what that one has left. Exit code 0
says that the bench is safe.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from labctl.bench.marks import make_marked_safe
from labctl.engine.fresh import FAILED, end_after
from labctl.station.secrets import take_secrets


def main(argv: Sequence[str]) -> int:
    """The program."""
    seconds, bench, *process = argv
    end_after(seconds)
    take_secrets(bench, lambda problem: None)  # a panel that is a monitor may have its display from there
    return 0 if make_marked_safe(bench, int(process[0]) if process else None) else FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
