"""The report of a run that is on the disk already."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from labctl.archive.index import open_run
from labctl.archive.reader import RunReader
from labctl.archive.seal import REPORT
from labctl.console import Console
from labctl.engine.refit import refit
from labctl.lab import Lab
from labctl.report import write_report


def report_run(
    run: RunReader | str | Path = "latest",
    path: str | Path | None = None,
    *,
    runs: str | Path = "runs",
    lab: Lab | None = None,
) -> Path:
    """Analyse a bench run again from its data, write its page, and return where the page is.

    Opens no device and changes nothing else.

    Parameters
    ----------
    run
        From `open_run`, or what that understands.
    path
        The page; ``report.html`` in the run folder if None.
    runs
        The archive.
    lab
        Where progress is told; nowhere if None.

    Raises
    ------
    RunNotFound
        When no run, or more than one, goes by this name.
    RunDamaged
        When the run's data are altered or incomplete.

    Examples
    --------
    >>> import labctl
    >>> labctl.report_run("latest").name
    'report.html'
    """
    run = run if isinstance(run, RunReader) else open_run(str(run), runs)
    lab = lab or Lab(Console(quiet=True))
    again = refit(lab, run.path)
    page = Path(path or run.path / REPORT)
    return again.walk.analyst.ask(partial(write_report, page, run.path, again.summary, options=lab.console.options))
