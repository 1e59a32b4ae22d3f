"""``labctl`` and ``python -m labctl``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


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
        from groundwork.garbage import collect_later
        from labctl.engine import supervisor
        from labctl.osal import fill_closed_streams

        collect_later()
        fill_closed_streams()
        if supervisor.wanted(sys.argv[1:]):
            return supervisor.supervise(sys.argv[1:])
        supervisor.enlist()
    from labctl.cli import app
    from labctl.cli.handler import run_app

    if argv is None:
        return run_app(app, sys.argv[1:], supervisor.ready)
    return run_app(app, list(argv))


def _leave_out_working_folder() -> None:
    """Take the working folder, which ``python -m`` has put before all packages, off the path, as ``labctl`` has it.

    A ``calibration.py`` of somebody's own would hide ours. Where this package itself lies there, it stays.
    """
    with suppress(OSError):  # the folder was removed
        here = Path.cwd()
        if not sys.flags.safe_path and sys.path[0] == str(here) and not here.samefile(Path(__file__).parents[1]):
            del sys.path[0]


if __name__ == "__main__":
    _leave_out_working_folder()
    sys.exit(main())
