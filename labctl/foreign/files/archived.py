"""An imported measurement in the archive: written in segments, read back in pieces, each checked against its hash."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.archive import RunReader, RunWriter, Segment, SegmentRow
from labctl.archive.reader import IMPORT
from labctl.archive.seal import SEGMENTS
from labctl.archive.segments import read_segment
from labctl.console import Progress
from labctl.errors import RunDamaged, UsageError
from labctl.foreign.files.capture import Capture
from labctl.foreign.files.rows import RowArray
from labctl.foreign.files.values import NOT_FINITE

WEIGHTS, ROWS = "weights", "rows"
_CACHE_BYTES = 2**28


@dataclass(frozen=True)
class Archived:
    """The measurement of an import run.

    Attributes
    ----------
    inputs, weights, readings, output, time_s, group
        As in `labctl.foreign.files.Capture`.
    unit
        Of the readings.
    start, unusable
        First row, and rows that are left out whole with the reason, counted in the file.
    info
        The run's ``run.json``.
    """

    inputs: RowArray
    weights: NDArray[np.float64]
    readings: RowArray
    output: RowArray | None
    time_s: RowArray | None
    group: RowArray | None
    unit: str
    start: int
    unusable: Mapping[int, str]
    info: dict[str, Any]


def archive(capture: Capture, run: RunWriter, progress: Progress) -> tuple[float, float] | None:
    """Write a capture into a run, block by block; return its first and last time [s], if it has times."""
    run.write_segment(WEIGHTS, {"weights": capture.weights}, {"unit": "1"})
    span: tuple[float, float] | None = None
    first = capture.start
    for block in capture.blocks():
        run.write_segment(ROWS, block, {"first_row": first, "unit": capture.unit})
        rows = len(block["inputs"])
        first += rows
        if "time_s" in block:
            low, high = float(block["time_s"].min()), float(block["time_s"].max())
            span = (low, high) if span is None else (min(span[0], low), max(span[1], high))
        progress.advance(rows)
    return span


def open_archived(run: RunReader) -> Archived:
    """The measurement of an import run; rows are read when they are sliced.

    Raises
    ------
    UsageError
        When the run is not an import.
    RunDamaged
        When it has no seal, or a segment is missing or altered.
    """
    if run.info.get("purpose") != IMPORT:
        raise UsageError("not an import", device=run.run_id, seen=str(run.info.get("purpose")), hint="labctl run list")
    if run.status in ("running", "crashed"):
        raise RunDamaged(
            "the import did not finish", device=run.run_id, seen=run.status, hint="import the file again: labctl import"
        )
    manifest = run.manifest
    blocks = [row for row in manifest if row.kind == ROWS]
    weights = next((row for row in manifest if row.kind == WEIGHTS), None)
    if weights is None or not blocks:
        raise RunDamaged("the import holds no rows", device=run.run_id, hint="import the file again: labctl import")
    folder = run.path / SEGMENTS
    store = _Segments(run, blocks)
    arrays = {name: _SegmentRows(store, name, values) for name, values in store.segment(0).arrays.items()}
    return Archived(
        arrays["inputs"],
        np.asarray(read_segment(folder, weights).arrays["weights"], np.float64),
        arrays["readings"],
        arrays.get("output"),
        arrays.get("time_s"),
        arrays.get("group"),
        str(store.segment(0).attrs["unit"]),
        int(run.info["rows"]["start"]),
        _unusable(run.info),
        run.info,
    )


def unusable_as_json(unusable: Mapping[int, str]) -> dict[str, list[int]]:
    """Rows that are left out whole, by reason, as ``run.json`` has them."""
    return {
        reason: [row for row, why in unusable.items() if why == reason] for reason in dict.fromkeys(unusable.values())
    }


def _unusable(info: Mapping[str, Any]) -> dict[int, str]:
    """The reverse; ``not_finite`` is what runs have that were imported before readings could be missing."""
    by_reason = {NOT_FINITE: info.get("not_finite", []), **info.get("unusable", {})}
    return dict(sorted((int(row), reason) for reason, rows in by_reason.items() for row in rows))


class _Segments:
    """The blocks of a run, of which the last used stay in memory."""

    def __init__(self, run: RunReader, rows: list[SegmentRow]) -> None:
        self._folder, self._rows = run.path / SEGMENTS, rows
        self._cache: OrderedDict[int, Segment] = OrderedDict()
        self._kept = max(1, _CACHE_BYTES // max(row.bytes for row in rows))
        self.starts = [0, *accumulate(row.rows for row in rows)]

    def segment(self, index: int) -> Segment:
        """Block number ``index``, checked against its hash when it is read from the disk."""
        if index not in self._cache:
            self._cache[index] = read_segment(self._folder, self._rows[index])
            if len(self._cache) > self._kept:
                self._cache.popitem(last=False)
        self._cache.move_to_end(index)
        return self._cache[index]


class _SegmentRows(RowArray):
    def __init__(self, store: _Segments, name: str, first: NDArray[Any]) -> None:
        super().__init__(store.starts[-1], first.shape[1] if first.ndim == 2 else None, first.dtype)
        self._store, self._name = store, name

    def read(self, start: int, stop: int) -> NDArray[Any]:
        parts = [np.empty((0, *self.shape[1:]), self.dtype)]
        index = bisect_right(self._store.starts, start) - 1
        while start < stop:
            offset = self._store.starts[index]
            end = min(stop, self._store.starts[index + 1])
            parts.append(self._store.segment(index).arrays[self._name][start - offset : end - offset])
            start, index = end, index + 1
        return np.concatenate(parts)
