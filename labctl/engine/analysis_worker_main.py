"""``python -m labctl.engine.analysis_worker_main PIPE DUMP`` begins the process that analyses.

It imports nothing itself but what makes the other imports quick.
"""

from __future__ import annotations

import sys

from groundwork.garbage import collect_later


def main() -> None:
    """Import what analyses, and answer."""
    collect_later()
    from labctl.engine import analysis_worker

    analysis_worker.main(sys.argv[1:])


if __name__ == "__main__":
    main()
