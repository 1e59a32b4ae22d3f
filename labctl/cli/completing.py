"""Names that the shell completes: runs and calibrations of the archive that the command would use.

``labctl --install-completion`` switches it on. A word that cannot be completed is left to the shell, which tries files;
nothing here raises, or waits for a bench.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import typer

SHOWN = 50
"""The newest of an archive of many nights."""


def run_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Runs, newest first: whole ids, or their ends where one of these was begun."""
    from labctl.archive.index import list_runs

    with suppress(Exception):
        found = [(row.run_id, f"{row.status}, {row.bench}") for row in list_runs(_archive(context))]
        ends = [(name.rpartition("-")[2], said) for name, said in found]
        return list(_begun(_newest(found), incomplete)) or list(_begun(ends, incomplete))
    return []


def calibration_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Calibrations of the store, newest first, and the benches that have one in use."""
    from labctl.archive.calibrations import CalibrationStore

    with suppress(Exception):
        store = CalibrationStore(_archive(context))
        found = [(row.id, f"of {row.acquired[:16]}, {row.bench}") for row in store.rows()]
        benches = [(bench, "the one that this bench uses") for bench in store.benches() if store.applied(bench)]
        return list(_begun(_newest([*benches, *found]), incomplete))
    return []


def _archive(context: typer.Context) -> Path:
    return Path(context.params.get("runs") or "runs")


def _newest(names: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("latest", "the newest"), *names] if names else []


def _begun(names: list[tuple[str, str]], incomplete: str) -> Iterator[tuple[str, str]]:
    return islice((each for each in names if each[0].startswith(incomplete)), SHOWN)
