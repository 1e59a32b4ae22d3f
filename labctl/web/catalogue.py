"""The runs of the archive as the page lists them: read at most every few seconds, and noted in memory alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from groundwork.errors import CodedError, FileRefused
from labctl.archive import RunReader, list_runs
from labctl.archive.ids import is_run_id, run_folder
from labctl.archive.index import RunRow
from labctl.archive.rows import Rows, kept_in_memory
from labctl.web.kept import Kept

SPACING_S = 3.0
"""The archive is listed this seldom [s], and more seldom where that takes long."""


class Catalogue:
    """The runs of one archive, for any number of threads.

    Parameters
    ----------
    runs
        The archive.
    clock
        Monotonic seconds.
    """

    def __init__(self, runs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.runs = runs
        self._memory: dict[Path, Rows] = {}
        self._rows: Kept[list[RunRow]] = Kept(SPACING_S, 1, clock)

    def rows(self) -> list[RunRow]:
        """Newest first, as `labctl.archive.list_runs` has them."""
        return self._rows.get("", self._listed)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside the block whatever lists the runs writes no index into the archive."""
        with kept_in_memory(self._memory):
            yield

    def folder(self, run_id: str) -> Path | None:
        """The folder of a run by its whole id; None where there is none: no name leads out of the archive."""
        if not is_run_id(run_id):
            return None
        folder = run_folder(self.runs, run_id)
        try:
            return folder if (folder / "run.json").is_file() else None
        except OSError:
            return None

    def reader(self, run_id: str) -> RunReader | None:
        """A run by its whole id; None where there is none that can be read."""
        folder = self.folder(run_id)
        try:
            return RunReader(folder) if folder else None
        except (CodedError, FileRefused):
            return None

    def benches(self) -> list[str]:
        """Those of the runs, the one of the newest first."""
        return [bench for bench in dict.fromkeys(row.bench for row in self.rows()) if bench]

    def _listed(self) -> list[RunRow]:
        with self.reading():
            return list_runs(self.runs)
