"""Values that no bench can have measured: where single rows are not finite, and what refuses the whole file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureValues

LARGEST = 1e30
"""Magnitudes beyond are refused: no instrument has such a scale, and their squares leave the range of float64."""


MOST_NOT_FINITE = 0.1
"""Share of rows that may hold NaN or infinity: a camera that drops out now and then, not a broken export."""
NOT_FINITE = "not finite"
"""Why such a row is left out."""


def check_share(path: Path, not_finite: NDArray[np.int64], rows: int) -> None:
    """Refuse a file of which too many rows are not finite.

    Raises
    ------
    CaptureValues
        With their number and the first one.
    """
    if len(not_finite) > MOST_NOT_FINITE * rows:
        raise CaptureValues(
            f"{len(not_finite)} of {rows} rows hold NaN or infinity",
            device=str(path),
            expected=f"at most {MOST_NOT_FINITE:.0%} of the rows; so many would be left out and counted",
            seen=f"first in row {not_finite[0]}",
            hint="how was the file written?   ·   other rows: --rows START:STOP",
        )


def check_clock(path: Path, time_s: NDArray[Any], first_row: int) -> None:
    """Refuse times that go backwards: rows are in the order recorded.

    Raises
    ------
    CaptureValues
        With the first such row.
    """
    seconds = time_s.astype(np.float64)  # differences of an unsigned type are never negative
    back = np.diff(seconds) < 0
    if back.any():
        at = int(np.argmax(back)) + 1
        wraps = time_s.dtype.kind in "iu" and seconds[at - 1] > 0.9 * float(np.iinfo(time_s.dtype).max)
        raise CaptureValues(
            f"`time` goes backwards in {int(back.sum())} rows",
            device=str(path),
            expected="seconds, rows in the order recorded",
            seen=f"row {first_row + at}: {seconds[at]:.12g} after {seconds[at - 1]:.12g}",
            hint=f"the counter wraps: save it as np.unwrap(time.astype(float), period=2**{8 * time_s.dtype.itemsize})"
            if wraps
            else "sort the rows by time, or leave `time` out if it is no clock",
        )


class Tally:
    """Counts what is wrong in an array that comes block by block.

    Parameters
    ----------
    path, name
        The file and the array, for the message.
    outputs
        Given for ``output``: the values must be whole numbers below it.
    """

    def __init__(self, path: Path, name: str, outputs: int | None = None) -> None:
        self._path, self._name, self._outputs = path, name, outputs
        self._count, self._row, self._value = 0, -1, 0.0

    def add(self, values: NDArray[Any], first_row: int) -> None:
        """Look at a block whose first row is row ``first_row`` of the file."""
        numbers = values.astype(np.float64)
        wrong = ~(np.abs(numbers) <= LARGEST)
        if self._outputs is not None:
            wrong |= ~((numbers >= 0) & (numbers < self._outputs) & (numbers == np.floor(numbers)))
        if wrong.any():
            if not self._count:
                at = tuple(np.argwhere(wrong)[0])
                self._row, self._value = first_row + int(at[0]), float(numbers[at])
            self._count += int(wrong.sum())

    def conclude(self) -> None:
        """Raise `CaptureValues` if anything was wrong."""
        if not self._count:
            return
        many = f"{self._count} value{'s' if self._count > 1 else ''}"
        first = f"first in row {self._row}: {self._value:g}"
        if self._outputs is not None:
            raise CaptureValues(
                f"`output` names outputs that do not exist: {many}",
                device=str(self._path),
                expected=f"0 … {self._outputs - 1}, one for each row of weights",
                seen=first,
                hint="outputs are counted from 0, or all of them from 1",
            )
        raise CaptureValues(
            f"{self._name} holds {many} that no bench can have measured",
            device=str(self._path),
            expected=f"finite numbers, magnitude up to {LARGEST:g}",
            seen=first,
            hint="leave those rows out of the file, or choose others: --rows START:STOP",
        )
