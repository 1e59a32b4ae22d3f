"""``labctl`` and ``python -m labctl``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments after the program's name; those of the process when None.

    Returns
    -------
    The exit code, one of `labctl.verdicts.VERDICTS`.
    """
    if argv is None:
        from labctl.engine import supervisor
        from labctl.osal import fill_closed_streams

        fill_closed_streams()
        if supervisor.wanted(sys.argv[1:]):
            return supervisor.supervise(sys.argv[1:])
        supervisor.enlist()
    from labctl.cli import app
    from labctl.cli.handler import run_app

    if argv is None:
        return run_app(app, sys.argv[1:], supervisor.ready)
    return run_app(app, list(argv))


if __name__ == "__main__":
    sys.exit(main())
