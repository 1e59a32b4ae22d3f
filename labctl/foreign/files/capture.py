"""Open a file of somebody's measurement: names, shapes, orientation, unit and rows settled before a number is read."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.archive.atomic import storage
from labctl.errors import CaptureIncomplete
from labctl.foreign.files.contents import Array, Contents
from labctl.foreign.files.formats import format_of
from labctl.foreign.files.orientation import orient
from labctl.foreign.files.request import ARRAYS, Request, parse_rows
from labctl.foreign.files.rows import FileRows, RowArray
from labctl.foreign.files.values import Tally, check_clock, check_share

UNKNOWN_UNIT = "a.u."
_COLUMNS = {"inputs": "input", "weights": "weight", "readings": "reading"}
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
    not_finite
        Rows whose inputs or readings are not finite, counted in the file; `check` finds them.
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
    not_finite: NDArray[np.int64]

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
        """Read everything once: the same capture with the rows that are `not_finite`.

        Raises
        ------
        CaptureValues
            Too many such rows; weights or times that are not finite; an output that does not exist: how many, and
            where the first is.
        """
        not_finite = np.zeros(self.rows, np.bool_)
        weights = Tally(self.path, "weights")
        weights.add(self.weights, 0)
        weights.conclude()
        for name, rows in self.per_row().items():
            tally = Tally(self.path, name.removesuffix("_s"), len(self.weights) if name == "output" else None)
            for first in range(0, self.rows, self.block_rows):
                block = rows[first : first + self.block_rows]
                if name in ("inputs", "readings"):
                    finite = np.isfinite(block)
                    not_finite[first : first + len(block)] |= ~finite.reshape(len(block), -1).all(axis=1)
                    block = np.where(finite, block, 0)
                tally.add(block, self.start + first)
            tally.conclude()
        if self.time_s is not None:
            check_clock(self.path, self.time_s[:], self.start)
        found = self.start + np.nonzero(not_finite)[0]
        check_share(self.path, found, self.rows)
        return replace(self, not_finite=found)


@contextmanager
def open_capture(
    path: Path, request: Request | None = None, default_weights: NDArray[np.float64] | None = None
) -> Iterator[Capture]:
    """Open a file; the arrays may be sliced while the block lasts.

    Parameters
    ----------
    path
        ``*.npz``, ``*.h5``, ``*.hdf5``, ``*.csv`` or ``*.tsv``.
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
    form = format_of(path)
    with ExitStack() as stack:
        contents = stack.enter_context(form.open(path))
        found = _find(path, contents, request)
        if request.weights:
            found["weights"] = ("weights", stack.enter_context(_weights(request.weights)))
        elif "weights" not in found and default_weights is not None:
            found["weights"] = ("weights", default_weights)
        for name in ("inputs", "weights"):
            if name not in found:
                raise _missing(path, name, contents)
        for _, array in found.values():
            if (check := getattr(array, "check", None)) is not None:
                check()
        shapes = {name: tuple(int(n) for n in array.shape) for name, (_, array) in found.items()}
        way = orient(path, shapes, request.turned, request.as_typed)
        start, stop = parse_rows(request.rows, way.rows)
        rows = {
            name: _rows(name, array, start, stop, shapes, name in way.transposed)
            for name, (_, array) in found.items()
            if name != "weights"
        }
        weights = np.asarray(found["weights"][1][:], np.float64)
        weights = (weights.T if "weights" in way.transposed else weights).reshape(way.outputs, way.inputs)
        unit, notes = _unit(contents, found, request.unit)
        if default_weights is not None and found["weights"][1] is default_weights:
            notes = (*notes, "weights: none in the file, those of the calibration are taken")
        ignored = sorted(set(contents.arrays) - {name for name, _ in found.values()})
        if ignored:
            notes = (*notes, f"not read: {', '.join(ignored[:8])}{' …' if len(ignored) > 8 else ''}")
        with storage(path, "hashing"), path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield Capture(
            path, form.name, digest, path.stat().st_size, rows["inputs"], np.ascontiguousarray(weights),
            rows.get("readings"), rows.get("output"), rows.get("time"), rows.get("group"), unit,
            start, stop, way.rows, (*way.notes, *notes), {name: there for name, (there, _) in found.items()},
            np.zeros(0, np.int64),
        )  # fmt: skip


@contextmanager
def _weights(path: Path) -> Iterator[Array]:
    """The weights in a file of their own: the lines of a csv or tsv, or the array ``weights`` of npz or HDF5."""
    with format_of(path).open_weights(path) as contents:
        if "weights" not in contents.arrays:
            raise _missing(path, "weights", contents)
        array = contents.arrays["weights"]
        getattr(array, "check", lambda: None)()
        yield array


def _find(path: Path, contents: Contents, request: Request) -> dict[str, tuple[str, Array]]:
    found = {}
    for name in ARRAYS:
        there = request.name_of(name) or (_COLUMNS.get(name, name) if contents.table else name)
        there = there if there in contents.arrays else there.strip("/")
        if there in contents.arrays:
            found[name] = (there, contents.arrays[there])
        elif name in request.names:
            raise _missing(path, there, contents)
    return found


def _missing(path: Path, name: str, contents: Contents) -> CaptureIncomplete:
    there = sorted(contents.arrays)
    seen = ", ".join(f"{key} {tuple(contents.arrays[key].shape)}" for key in there[:12]) or "no array at all"
    if contents.table and name == "weights":
        return CaptureIncomplete(
            "a table of rows has no weights", device=str(path), expected="a second file: one line per output",
            hint="--weights WEIGHTS.csv",
        )  # fmt: skip
    lower = {key.lower().rpartition("/")[2]: key for key in there}
    near = lower.get(name) or next(iter(difflib.get_close_matches(name, there, n=1, cutoff=0.5)), None)
    expected = f"columns {_COLUMNS[name]}_0, {_COLUMNS[name]}_1, …" if contents.table and name in _COLUMNS else name
    return CaptureIncomplete(
        f"the file has no {name}", device=str(path), expected=expected, seen=seen,
        hint=f"if it has another name: --map {name if name in ARRAYS else 'inputs'}={near or 'NAME'}",
    )  # fmt: skip


def _rows(
    name: str, array: Array, start: int, stop: int, shapes: Mapping[str, tuple[int, ...]], transposed: bool
) -> RowArray:
    shape = shapes[name]
    if name == "inputs":
        width: int | None = shape[0] if transposed else shape[1]
    elif name == "readings" and "output" not in shapes:
        width = 1 if len(shape) == 1 else shape[0] if transposed else shape[1]
    else:
        width = None
    return FileRows(array, start, stop, width, transposed)


def _unit(contents: Contents, found: Mapping[str, tuple[str, Array]], said: str | None) -> tuple[str, tuple[str, ...]]:
    written = contents.unit_of(found["readings"][0]) if "readings" in found else None
    if written and said and written != said:
        return written, (f"unit {written}, as the file says, and not {said}",)
    return written or said or UNKNOWN_UNIT, ()
