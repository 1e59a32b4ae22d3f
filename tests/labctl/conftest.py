"""Runs, stations and small file systems to try them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.archive import RunWriter
from labctl.station.loading import load_station


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder that holds the runs."""
    return tmp_path / "runs"


@pytest.fixture
def new_run(runs: Path) -> Iterator[Callable[[], RunWriter]]:
    """Makes runs, and lets go of their locks at the end."""
    made: list[RunWriter] = []

    def make() -> RunWriter:
        made.append(RunWriter.create(runs, "demo", load_station()))
        return made[-1]

    yield make
    for run in made:
        run.close()
