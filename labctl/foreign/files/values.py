"""Values that are missing or that no bench can have measured: what leaves rows out, and what refuses the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.response.missing import MOST_MISSING, NONE_LEFT
from labctl.errors import CaptureValues

LARGEST = 1e30
"""Magnitudes beyond are refused: no instrument has such a scale, and their squares leave the range of float64."""


MOST_UNUSABLE = 0.1
"""Share of rows that may be unusable: a camera that drops out now and then, not a broken export."""
NOT_FINITE = "not finite"
MISSING_INPUT = "missing input"
"""Why a row is left out whole: it holds infinity, or lacks an input."""


def check_share(path: Path, unusable: Mapping[int, str], rows: int) -> None:
    """Refuse a file of which too many rows are unusable.

    Raises
    ------
    CaptureValues
        With their number and the first one.
    """
    if len(unusable) > MOST_UNUSABLE * rows:
        first = min(unusable)
        raise CaptureValues(
            f"{len(unusable)} of {rows} rows lack an input, or hold infinity",
            device=str(path),
            expected=f"at most {MOST_UNUSABLE:.0%} of the rows; so many would be left out and counted",
            seen=f"first in row {first}: {unusable[first]}",
            hint="how was the file written?   ·   other rows: --rows START:STOP",
        )


@dataclass(frozen=True)
class Missing:
    """Readings that a file lacks.

    Attributes
    ----------
    readings, rows
        How many, and in how many rows.
    first_row
        Counted in the file.
    by_output
        (M,) how many of each output.
    unread
        (k,) rows without any reading, counted in the file.
    """

    readings: int
    rows: int
    first_row: int
    by_output: NDArray[np.int64]
    unread: NDArray[np.int64]


class MissingTally:
    """Counts readings that are missing in an array that comes block by block.

    Parameters
    ----------
    path
        The file, for the message.
    outputs
        M
    single
        Whether each row reads one output.
    """

    def __init__(self, path: Path, outputs: int, *, single: bool) -> None:
        self._path, self._single = path, single
        self._of = np.zeros(outputs, np.int64)
        self._rows, self._one_each, self._read = 0, True, 0
        self._lacking: list[NDArray[np.int64]] = []
        self._unread: list[NDArray[np.int64]] = []

    def add(self, missing: NDArray[np.bool_], first_row: int, output: NDArray[np.intp] | None) -> None:
        """Look at a block (n, M) or (n,) of rows, of which each read one ``output`` (n,) if that is given."""
        gone = missing.reshape(len(missing), -1)
        if output is not None:
            self._of += np.bincount(output[gone[:, 0]], minlength=len(self._of))[: len(self._of)]
        else:
            self._of += gone.sum(axis=0)
        self._rows += len(gone)
        self._read += int((~gone).sum())
        self._one_each &= bool(((~gone).sum(axis=1) == 1).all())
        self._lacking.append(first_row + np.nonzero(gone.any(axis=1))[0])
        self._unread.append(first_row + np.nonzero(gone.all(axis=1))[0])

    def conclude(self) -> Missing | None:
        """What is missing, None for nothing.

        Raises
        ------
        CaptureValues
            When no reading is left, or one output lacks more than a fifth, and yet has some.
        """
        total = int(self._of.sum())
        if not total:
            return None
        lacking, unread = np.concatenate(self._lacking), np.concatenate(self._unread)
        if not self._read:
            raise self._refused("every reading is missing", f"{total} readings", f"first in row {lacking[0]}")
        share = (np.array([total]) if self._single else self._of) / self._rows
        share = np.where((share >= NONE_LEFT) & (not self._single), 0.0, share)
        worst = int(np.argmax(share))
        if share[worst] > MOST_MISSING:
            who = "the detector" if self._single else f"output {worst}"
            count = total if self._single else int(self._of[worst])
            raise self._refused(
                f"{who} lacks {count} of {self._rows} readings",
                f"at most {MOST_MISSING:.0%} of the readings of each output; so many would be left out and counted",
                f"{share[worst]:.0%}, first in row {lacking[0]}",
            )
        return Missing(total, len(lacking), int(lacking[0]), self._of, unread)

    def _refused(self, what: str, expected: str, seen: str) -> CaptureValues:
        one = "one reading a row belongs into `readings` (rows,), with its number in `output` (rows,)"
        other = "other rows: --rows START:STOP   ·   or leave that output out of weights and readings"
        alone = self._one_each and len(self._of) > 1 and not self._single
        return CaptureValues(what, device=str(self._path), expected=expected, seen=seen, hint=one if alone else other)


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
        if np.isnan(self._value):
            raise CaptureValues(
                f"{self._name} lacks {many}",
                device=str(self._path),
                expected="a number everywhere; only a reading or an input may be missing",
                seen=f"first in row {self._row}: empty, NA or NaN",
                hint=f"write the number into {self._name}, or take that row out of the file",
            )
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
