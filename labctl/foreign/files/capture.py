"""Open a file of somebody's measurement: names, shapes, orientation, unit and rows settled before a number is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.opening.regular import open_regular
from labctl.archive.atomic import storage
from labctl.foreign.files.contents import Array
from labctl.foreign.files.formats import format_of
from labctl.foreign.files.numbering import counted_from_0
from labctl.foreign.files.orientation import Orientation
from labctl.foreign.files.request import Request, parse_rows
from labctl.foreign.files.rows import FileRows, RowArray
from labctl.foreign.files.settling import settle
from labctl.foreign.files.sources import Source, missing, sources
from labctl.foreign.files.times import from_1970, in_seconds
from labctl.foreign.files.values import (
    MISSING_INPUT,
    NOT_FINITE,
    Missing,
    MissingTally,
    Tally,
    check_clock,
    check_share,
)

UNKNOWN_UNIT = "a.u."
_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class Capture:
    """A file of products as somebody's bench measured them.

    Attributes
    ----------
    path, format, sha256, bytes
        The file.
    inputs
        (rows, N) `RowArray`, in the file's own scale.
    weights
        (M, N) float64.
    readings
        (rows, M), or (rows,) together with `output`; None when the file has none.
    output
        (rows,) which output each row read, counted from 0; None when every row has all.
    time_s, group
        (rows,) when, and in which part of the recording; None when the file does not say.
    unit
        Of the readings.
    start, stop
        The rows chosen, counted in the file; `file_rows` are in it.
    notes
        What a person should know about how the file was read, in words.
    names
        Array → its name in the file.
    unusable
        Rows that lack an input or hold infinity, counted in the file, and why; `check` finds them.
    missing
        Readings that are missing, NaN in `readings`; None where none is.
    """

    path: Path
    format: str
    sha256: str
    bytes: int
    inputs: RowArray
    weights: NDArray[np.float64]
    readings: RowArray | None
    output: RowArray | None
    time_s: RowArray | None
    group: RowArray | None
    unit: str
    start: int
    stop: int
    file_rows: int
    notes: tuple[str, ...]
    names: Mapping[str, str]
    unusable: Mapping[int, str]
    missing: Missing | None

    @property
    def rows(self) -> int:
        """Number of rows chosen."""
        return self.stop - self.start

    @property
    def block_rows(self) -> int:
        """Number of rows that are read at a time: about 16 MB of them."""
        return max(1, _BLOCK_BYTES // (8 * (self.inputs.shape[1] + len(self.weights))))

    def per_row(self) -> dict[str, RowArray]:
        """The arrays that have one entry per row, by name."""
        found = {"inputs": self.inputs, "readings": self.readings, "output": self.output}
        found |= {"time_s": self.time_s, "group": self.group}
        return {name: rows for name, rows in found.items() if rows is not None}

    def blocks(self) -> Iterator[dict[str, NDArray[Any]]]:
        """The arrays that have one entry per row, by name, in pieces that fit into memory."""
        arrays = self.per_row()
        for first in range(0, self.rows, self.block_rows):
            yield {name: rows[first : first + self.block_rows] for name, rows in arrays.items()}

    def check(self) -> Capture:
        """Read everything once: the same capture with the rows that are `unusable` and the readings that are `missing`.

        Raises
        ------
        CaptureValues
            Too many of them; weights or times that are missing or not finite; an output that does not exist: how many,
            and where the first is.
        """
        unusable: dict[int, str] = {}
        weights = Tally(self.path, "weights")
        weights.add(self.weights, 0)
        weights.conclude()
        for name, rows in self.per_row().items():
            tally = Tally(self.path, name.removesuffix("_s"), len(self.weights) if name == "output" else None)
            for first in range(0, self.rows, self.block_rows):
                block = rows[first : first + self.block_rows]
                if name in ("inputs", "readings"):
                    unusable = _unusable(block, name, self.start + first) | unusable
                    block = np.where(np.isfinite(block), block, 0)
                tally.add(block, self.start + first)
            tally.conclude()
        if self.time_s is not None:
            check_clock(self.path, self.time_s[:], self.start)
        check_share(self.path, unusable, self.rows)
        return replace(self, unusable=dict(sorted(unusable.items())), missing=self._missing(unusable))

    def _missing(self, unusable: Mapping[int, str]) -> Missing | None:
        """The readings that are missing in rows that are not left out whole."""
        if self.readings is None or self.readings.dtype.kind != "f":
            return None
        tally = MissingTally(self.path, len(self.weights), single=self.readings.ndim == 1)
        whole = np.array(sorted(unusable), np.int64) - self.start
        for first in range(0, self.rows, self.block_rows):
            gone = np.isnan(self.readings[first : first + self.block_rows])
            here = whole[(whole >= first) & (whole < first + len(gone))] - first
            gone[here] = False
            of = None if self.output is None else self.output[first : first + len(gone)].astype(np.intp)
            tally.add(gone, self.start + first, of)
        return tally.conclude()


@contextmanager
def open_capture(
    path: Path, request: Request | None = None, default_weights: NDArray[np.float64] | None = None
) -> Iterator[Capture]:
    """Open a file; the arrays may be sliced while the block lasts.

    Parameters
    ----------
    path
        Of a kind that `formats.FORMATS` has: npz, HDF5, csv, …
    request
        What the operator said about it.
    default_weights
        (M, N) for a file without weights.

    Raises
    ------
    UsageError
        No such file, an extension that no reader knows, rows that the file does not have.
    CaptureUnreadable, CaptureIncomplete, CaptureMismatch, CaptureValues
        When the file cannot be used as it is.
    """
    request = request or Request()
    with ExitStack() as stack:
        found, notes = sources(stack, path, request, default_weights)
        for name in ("inputs", "weights"):
            if name not in found:
                raise missing(path, name, found, request.decimal)
        for source in found.values():
            for reading in source.ways:
                getattr(reading.array, "check", lambda: None)()
        arrays, way, words = settle(path, found, request)
        start, stop = parse_rows(request.rows, way.rows)
        rows = {
            name: _rows(name, array, start, stop, way, arrays) for name, array in arrays.items() if name != "weights"
        }
        weights = np.asarray(arrays["weights"][:], np.float64)
        weights = (weights.T if "weights" in way.transposed else weights).reshape(way.outputs, way.inputs)
        if "output" in rows:
            rows["output"], more = counted_from_0(rows["output"], rows, weights)
            words = (*words, *more)
        if "time" in rows:
            called = found["time"].called
            rows["time"], more = in_seconds(called, rows["time"], found["time"].unit)
            rows["time"], since = from_1970(path, called, rows["time"], start)
            words = (*words, *more, *since)
        unit, said = _unit(found, request.unit)
        form, digest, size = _identity(path, found)
        yield Capture(
            path, form, digest, size, rows["inputs"], np.ascontiguousarray(weights),
            rows.get("readings"), rows.get("output"), rows.get("time"), rows.get("group"), unit,
            start, stop, way.rows, (*notes, *words, *said), {name: source.called for name, source in found.items()},
            {}, None,
        )  # fmt: skip


def _unusable(block: NDArray[Any], name: str, first_row: int) -> dict[int, str]:
    """Rows of a block that a fit cannot use, by their number in the file, and why."""
    values = block.reshape(len(block), -1)
    infinite, missing = np.isinf(values).any(axis=1), np.isnan(values).any(axis=1)
    found = {first_row + int(row): NOT_FINITE for row in np.nonzero(infinite)[0]}
    if name == "inputs":
        found |= {first_row + int(row): MISSING_INPUT for row in np.nonzero(missing)[0]}
    return found


def _identity(path: Path, found: Mapping[str, Source]) -> tuple[str, str, int]:
    """Format, SHA-256 and size of the file; of several, the formats and the hash and size of all, one after another."""
    files = list(dict.fromkeys([source.path for source in found.values() if source.path is not None])) or [path]
    digest = hashlib.sha256()
    for file in files:
        with storage(file, "hashing"), open_regular(file) as stream:
            while block := stream.read(2**20):
                digest.update(block)
    forms = dict.fromkeys(format_of(file).name for file in files)
    return " + ".join(forms), digest.hexdigest(), sum(file.stat().st_size for file in files)


def _rows(name: str, array: Array, start: int, stop: int, way: Orientation, arrays: Mapping[str, Array]) -> RowArray:
    if name == "inputs":
        width: int | None = way.inputs
    elif name == "readings" and "output" not in arrays:
        width = way.outputs
    else:
        width = None
    return FileRows(array, start, stop, width, name in way.transposed)


def _unit(found: Mapping[str, Source], said: str | None) -> tuple[str, tuple[str, ...]]:
    written = found["readings"].unit if "readings" in found else None
    if written and said and written != said:
        return written, (f"unit {written}, as the file says, and not {said}",)
    return written or said or UNKNOWN_UNIT, ()
