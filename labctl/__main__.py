"""``labctl`` and ``python -m labctl``."""

from __future__ import annotations

import os
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
        _only_what_is_installed()
        from labctl.engine import supervisor

        if supervisor.wanted(sys.argv[1:]):
            return supervisor.supervise(sys.argv[1:])
        supervisor.enlist()
    from labctl.cli import app
    from labctl.cli.handler import run_app

    if argv is None:
        return run_app(app, sys.argv[1:], supervisor.ready)
    return run_app(app, list(argv))


def _only_what_is_installed() -> None:
    """A ``drivers`` or ``simulation`` of one's own in the working folder does not stand in for ours.

    ``python -m`` puts that folder first on the path. It stays there only where this package itself lies in it.
    """
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it was removed
        here = ""
    if sys.path and sys.path[0] in ("", here) and here != ours:
        del sys.path[0]


if __name__ == "__main__":
    sys.exit(main())
