"""Inputs, weights and readings as somebody recorded them, in memory or on disk, checked once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.errors import BadObservations

Float = NDArray[np.float64]
Array = Any
"""A numpy array or an h5py dataset: anything with ``shape`` that slices to numbers."""

CHUNK_VALUES = 1 << 21


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows, in memory.

    Attributes
    ----------
    start
        Index of the first one in the file.
    inputs
        (rows, N)
    readings
        (rows, M), or (rows,) of a single detector; None for prediction only.
    output
        (rows,) which weights a single detector looked through; None when all outputs were read.
    at_s
        (rows,) clock [s]; the row index where the file has none.
    """

    start: int
    inputs: Float
    readings: Float | None
    output: NDArray[np.intp] | None
    at_s: Float

    def __len__(self) -> int:
        return len(self.inputs)

    def taken(self, kept: NDArray[np.bool_]) -> Rows:
        """Some of the rows; ``start`` stays that of all."""
        readings, output = self.readings, self.output
        return Rows(
            self.start,
            self.inputs[kept],
            None if readings is None else readings[kept],
            None if output is None else output[kept],
            self.at_s[kept],
        )


@dataclass(frozen=True)
class Observations:
    """What went in and what came out, row by row, in the order of recording.

    Parameters
    ----------
    inputs
        (rows, N) in any unit; negative values are accepted (they are signed operands already folded).
    weights
        (M, N), the same for all rows; negative values are accepted for the same reason.
    readings
        (rows, M), or (rows,) when one detector read one output per row; None for prediction only.
    output
        (rows,) index of the weights of each row, for readings of shape (rows,); with one row of weights it may be
        left out.
    at_s
        (rows,) seconds, never going backwards; the row index is the clock where it is missing.
    group
        (rows,) rows that belong together (a class, a session): a hold-out never divides them.
    unit
        Of the readings.
    place
        (rows,) number of each row in the recording, ascending, where rows of it were left out; the clock where there is
        no time.

    Raises
    ------
    BadObservations
        When shapes do not belong together, or a number is not finite, or time goes backwards.
    """

    inputs: Array
    weights: Array
    readings: Array | None = None
    output: Array | None = None
    at_s: Array | None = None
    group: Array | None = None
    unit: str = "DN"
    place: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", np.asarray(self.weights, np.float64))
        for name in ("at_s", "group", "output", "place"):
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value[...] if hasattr(value, "id") else value)
                # differences of times in the unsigned type of a file would never be negative
                object.__setattr__(self, name, value.astype(np.float64) if name == "at_s" else value)
        for name in ("inputs", "readings"):
            value = getattr(self, name)
            if value is not None and not hasattr(value, "shape"):
                object.__setattr__(self, name, np.asarray(value))
        self._check_shapes()
        self._check_index()
        self._check_clock()
        _finite("weights", self.weights, 0)
        for chunk in self._raw_chunks():
            for name, start, values in chunk:
                _finite(name, values, start)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.inputs.shape[0])

    @property
    def n_inputs(self) -> int:
        """N"""
        return int(self.inputs.shape[1])

    @property
    def n_outputs(self) -> int:
        """M: rows of weights."""
        return int(self.weights.shape[0])

    @property
    def single(self) -> bool:
        """Whether one detector read one output per row."""
        return self.output is not None or (self.readings is not None and len(self.readings.shape) == 1)

    @property
    def clock(self) -> str:
        """``"s"``, or ``"rows"`` where the row index is the clock."""
        return "rows" if self.at_s is None else "s"

    def rows(self, start: int, stop: int) -> Rows:
        """Rows ``start … stop − 1`` as float64."""
        stop = min(stop, self.count)
        if self.single:
            which = np.zeros(stop - start, np.intp) if self.output is None else self.output[start:stop].astype(np.intp)
        else:
            which = None
        at_s = self.clock_values[start:stop]
        readings = None if self.readings is None else np.asarray(self.readings[start:stop], np.float64)
        return Rows(start, np.asarray(self.inputs[start:stop], np.float64), readings, which, at_s)

    @cached_property
    def clock_values(self) -> Float:
        """(rows,) when each row was read: seconds, or its number in the recording."""
        if self.at_s is not None:
            return np.asarray(self.at_s, np.float64)
        return np.arange(self.count, dtype=np.float64) if self.place is None else self.place.astype(np.float64)

    def chunks(self, rows: int | None = None) -> Iterator[Rows]:
        """All rows in order, ``rows`` at a time (as many as fit 16 MiB by default)."""
        step = rows or self.chunk_rows
        for start in range(0, self.count, step):
            yield self.rows(start, start + step)

    def selected(
        self, rows: NDArray[np.intp], readings_of: NDArray[np.intp], outputs: NDArray[np.intp]
    ) -> Observations:
        """The inputs of some rows with the readings of the same rows or of others, of some outputs.

        Parameters
        ----------
        rows, readings_of
            (k,) ascending: where the inputs of each row stand, and where its readings stand.
        outputs
            (m,) those that are kept; all of them of a single detector.
        """
        whole = len(outputs) == self.n_outputs
        if len(rows) == self.count and whole and (rows == readings_of).all():
            return self
        columns = None if whole or self.single else outputs
        return Observations(
            _picked(self.inputs, rows),
            self.weights if whole else self.weights[outputs],
            None if self.readings is None else _picked(self.readings, readings_of, columns),
            None if self.output is None else self.output[rows],
            None if self.at_s is None else self.at_s[readings_of],
            None if self.group is None else self.group[rows],
            self.unit,
            rows if self.place is None else self.place[rows],
        )

    def with_readings(self, readings: Array) -> Observations:
        """The same rows with other readings of the same shape."""
        return replace(self, readings=readings)

    def between(self, start: int, stop: int) -> Observations:
        """The same bench over fewer rows: ``start … stop − 1``, read into memory."""

        def part(a: Array | None) -> Array | None:
            return None if a is None else a[start:stop]

        return Observations(
            part(self.inputs), self.weights, part(self.readings), part(self.output), part(self.at_s), part(self.group),
            self.unit, part(self.place),
        )  # fmt: skip

    @property
    def chunk_rows(self) -> int:
        """Rows that take 16 MiB."""
        return max(256, CHUNK_VALUES // (self.n_inputs + self.n_outputs))

    def _raw_chunks(self) -> Iterator[list[tuple[str, int, NDArray[Any]]]]:
        for start in range(0, self.count, self.chunk_rows):
            stop = start + self.chunk_rows
            yield [
                (name, start, np.asarray(array[start:stop]))
                for name, array in (("inputs", self.inputs), ("readings", self.readings))
                if array is not None
            ]

    def _check_shapes(self) -> None:
        inputs, weights, readings = self.inputs, self.weights, self.readings
        for name, array in (("inputs", inputs), ("weights", weights)):
            if len(array.shape) != 2 or 0 in array.shape:
                raise _bad(f"{name} is no matrix", "two dimensions, none empty", f"shape {tuple(array.shape)}")
        if inputs.shape[1] != weights.shape[1]:
            raise _bad(
                "inputs and weights have different numbers of columns",
                f"inputs (rows, N) and weights (M, N); weights are {weights.shape}",
                f"inputs {tuple(inputs.shape)}",
            )
        if readings is not None:
            if readings.shape[0] != inputs.shape[0]:
                raise _bad(
                    "inputs and readings have different numbers of rows",
                    f"{inputs.shape[0]} rows of readings",
                    f"{readings.shape[0]}",
                )
            if len(readings.shape) == 2 and readings.shape[1] == 1 and self.output is not None:
                object.__setattr__(self, "readings", readings[:, 0])
            elif len(readings.shape) == 2 and readings.shape[1] != weights.shape[0]:
                raise _bad(
                    "one column of readings per row of weights is needed",
                    f"readings (rows, {weights.shape[0]})",
                    f"readings {tuple(readings.shape)}",
                )
            elif len(readings.shape) > 2 or (len(readings.shape) == 2 and self.output is not None):
                raise _bad(
                    "readings have the wrong number of dimensions",
                    "(rows, M), or (rows,) with output (rows,)",
                    f"readings {tuple(readings.shape)}" + (" with output" if self.output is not None else ""),
                )
            elif len(readings.shape) == 1 and self.output is None and weights.shape[0] > 1:
                raise _bad(
                    "which weights each reading was taken through is not said",
                    f"output (rows,) with indices 0 … {weights.shape[0] - 1}",
                    "readings (rows,) alone",
                )
        for name in ("output", "at_s", "group", "place"):
            value = getattr(self, name)
            if value is not None and value.shape != (inputs.shape[0],):
                raise _bad(f"{name} needs one value per row", f"({inputs.shape[0]},)", f"{value.shape}")

    def _check_index(self) -> None:
        if self.output is None:
            return
        wrong = ~((self.output >= 0) & (self.output < self.n_outputs) & (self.output == np.floor(self.output)))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise _bad(
                "output index out of range",
                f"whole numbers 0 … {self.n_outputs - 1}",
                f"{self.output[first]} in row {first} ({int(wrong.sum())} such rows)",
            )

    def _check_clock(self) -> None:
        if self.at_s is None:
            return
        _finite("at_s", self.at_s, 0)
        back = np.diff(self.at_s) < 0
        if back.any():
            first = int(np.argmax(back)) + 1
            raise _bad(
                "time goes backwards",
                "at_s in the order of recording",
                f"{self.at_s[first]} s in row {first} after {self.at_s[first - 1]} s ({int(back.sum())} such rows)",
            )


def _picked(array: Array, rows: NDArray[np.intp], columns: NDArray[np.intp] | None = None) -> Array:
    if isinstance(array, np.ndarray):
        return array[rows] if columns is None else array[np.ix_(rows, columns)]
    return _Picked(array, rows, columns)


class _Picked:
    """Some rows and columns of an array on the disk, read when they are sliced."""

    def __init__(self, array: Array, rows: NDArray[np.intp], columns: NDArray[np.intp] | None) -> None:
        self._array, self._rows, self._columns = array, rows, columns
        wide = array.shape[1:] if columns is None else (len(columns),)
        self.shape = (len(rows), *wide)

    def __getitem__(self, key: slice) -> NDArray[Any]:
        rows = self._rows[key]
        if not len(rows):
            return np.empty((0, *self.shape[1:]))
        first = int(rows[0])
        block = np.asarray(self._array[first : int(rows[-1]) + 1])[rows - first]
        return block if self._columns is None else block[:, self._columns]


def _finite(name: str, values: NDArray[Any], start: int) -> None:
    if values.dtype.kind not in "fiub":
        raise _bad(f"{name} holds no real numbers", "floats or integers", f"dtype {values.dtype}")
    wrong = ~np.isfinite(values)
    if wrong.any():
        first = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        where = ", ".join(str(int(i) + (start if axis == 0 else 0)) for axis, i in enumerate(first))
        raise _bad(
            f"{name} holds numbers that are not finite",
            "no NaN, no infinity",
            f"{int(np.isnan(values).sum())} NaN and {int(np.isinf(values).sum())} infinite from row {start} on, "
            f"first at [{where}]",
        )


def _bad(what: str, expected: str, seen: str) -> BadObservations:
    return BadObservations(
        what,
        action="read observations",
        expected=expected,
        seen=seen,
        hint="correct the file; the arrays that are needed: docs/how-to/fit-somebody-elses-data.md",
    )
