"""Times of day, and counts since 1970, as seconds from the first row of a recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureValues
from labctl.foreign.files.rows import RowArray

Floats = NDArray[np.float64]

_ISO = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2})[T ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,](?P<part>\d{1,12}))?"
    r"\s?(?P<zone>Z|z|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2})?"
)
_LIKE_A_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?|\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s?[AaPp][Mm])?")
_EPOCHS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
_SECONDS = {
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3,
    "milliseconds": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "microsecond": 1e-6, "microseconds": 1e-6, "ns": 1e-9,
    "nanosecond": 1e-9, "nanoseconds": 1e-9, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hour": 3600.0,
    "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
"""By how a file writes its unit of time, in small letters; what follows ``since`` does not count."""
_YEARS_2000_TO_2100_S = (946_684_800.0, 4_102_444_800.0)
_LONGEST_STEP_S = 3600.0
_WRITTEN = "2026-11-29T12:00:00Z"


def is_like_a_time(word: str) -> bool:
    """Whether a cell is written as a date or a time of day, in whatever order."""
    return bool(_LIKE_A_TIME.fullmatch(word))


class Instants:
    """Reads a column of dates with their time of day, one cell after another.

    Parameters
    ----------
    path, name
        The file and its column, for messages.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._first: tuple[datetime, float] | None = None
        self._said, self._has_zone = "", False

    def seconds(self, word: str, where: str) -> float:
        """Seconds from the first cell.

        Raises
        ------
        CaptureValues
            When it is no date with a time of day, or only some of the cells say their offset from UTC.
        """
        found = _ISO.fullmatch(word)
        if found is None:
            raise self._refused(f"{where} is no time that can be read in one way only", word)
        zone = found["zone"]
        try:
            at = datetime.fromisoformat(f"{found['day']}T{found['clock']}{_offset(zone)}")
        except ValueError as error:
            raise self._refused(f"{where} is no time: {error}", word) from error
        part = float(f"0.{found['part']}") if found["part"] else 0.0
        if self._first is None:
            self._first, self._said, self._has_zone = (at, part), word, zone is not None
        if self._has_zone != (zone is not None):
            raise self._refused(f"{where} {'says' if zone else 'lacks'} an offset from UTC, unlike the first row", word)
        return (at - self._first[0]) / timedelta(seconds=1) + (part - self._first[1])

    @property
    def words(self) -> str:
        """What was read."""
        return f"{self._name} holds dates with times: read as seconds from the first row ({self._said})"

    def _refused(self, what: str, word: str) -> CaptureValues:
        tried = "a date, a time of day and, in all rows or in none, an offset from UTC"
        return CaptureValues(
            what, device=str(self._path), expected=f"{tried}: {_WRITTEN}", seen=repr(word[:40]),
            hint=f"write {self._name} as {_WRITTEN}, or as seconds from any start",
        )  # fmt: skip


def _offset(zone: str | None) -> str:
    if zone is None:
        return ""
    return "+00:00" if zone in ("Z", "z", "UTC") else zone


def seconds_of(path: Path, name: str, words: Sequence[Any]) -> tuple[Floats, str]:
    """Texts of dates with their time of day as seconds from the first one, and what was read.

    Raises
    ------
    CaptureValues
        As `Instants.seconds`.
    """
    instants = Instants(path, name)
    found = [instants.seconds(str(word).strip(), f"{name}, row {row}") for row, word in enumerate(words)]
    return np.array(found, np.float64), instants.words


def is_datetime(dtype: np.dtype[Any]) -> bool:
    """Whether a type is one of numpy's own for times, or for spans of time that have a unit of fixed length."""
    return dtype.kind in "mM" and np.datetime_data(dtype)[0] not in ("generic", "Y", "M")


def from_datetime64(name: str, times: NDArray[Any]) -> tuple[Floats, str]:
    """Times or spans of time in numpy's own types as seconds, and what was read; NaN where there is none.

    Times are counted from the first one; spans are as long as they are.
    """
    known = times[~np.isnat(times)]
    first: Any = np.timedelta64(0, "s")
    words = f"{name} holds spans of time: read as seconds"
    if times.dtype.kind == "M":
        first = known[0] if len(known) else np.datetime64("1970-01-01T00:00:00")
        words = f"{name} holds dates with times: read as seconds from the first row ({first})"
    seconds = np.where(np.isnat(times), np.nan, (times - first) / np.timedelta64(1, "s"))
    return np.asarray(seconds, np.float64), words


class SinceFirst(RowArray):
    """Numbers of a clock, as seconds from the first of them.

    Parameters
    ----------
    rows
        As the file counts.
    first
        The number that becomes 0: mostly the first one.
    per_second
        What it counts in a second.
    """

    def __init__(self, rows: RowArray, first: Any, per_second: float) -> None:
        super().__init__(len(rows), None, np.dtype(np.float64))
        self._rows, self._first, self._per_second = rows, first, per_second

    def read(self, start: int, stop: int) -> NDArray[Any]:
        values = self._rows.read(start, stop)
        if values.dtype.kind == "u":  # differences of an unsigned type are never negative
            values = values.astype(np.int64)
        return np.asarray((values - self._first) / self._per_second, np.float64)


def in_seconds(name: str, rows: RowArray, unit: str | None) -> tuple[RowArray, tuple[str, ...]]:
    """A clock whose file says its unit, as seconds, and what was read; one without a unit as it is."""
    word = (unit or "s").partition(" since ")[0].strip()
    factor = _SECONDS.get(word.lower())
    if factor is None:
        return rows, (f"{name} is in {unit!r}, which is taken for seconds",)
    if factor == 1:
        return rows, ()
    return SinceFirst(rows, 0, 1 / factor), (f"{name} is in {word}: read as seconds",)


def from_1970(path: Path, name: str, rows: RowArray, start: int) -> tuple[RowArray, tuple[str, ...]]:
    """A clock that counts from 1970 in less than seconds, as seconds from its first row; another one as it is.

    Parameters
    ----------
    name
        What the file calls it.
    rows, start
        The numbers, and which row of the file the first of them stands in.

    Raises
    ------
    CaptureValues
        When numbers so large leave more than an hour from row to row: another unit, perhaps, from another start.
    """
    values = rows[:].reshape(-1)
    if not len(values) or not np.isfinite(values).all():
        return rows, ()
    low, high = _YEARS_2000_TO_2100_S
    first = values[0].item()
    unit = next((unit for unit, scale in _EPOCHS.items() if low <= first / scale <= high), None)
    if unit is None:
        return rows, ()
    scale = _EPOCHS[unit]
    since = SinceFirst(rows, first, scale)
    step_s = float(np.median(np.abs(np.diff(since[:])))) if len(values) > 1 else 0.0
    when = datetime.fromtimestamp(first / scale, UTC).isoformat(timespec="milliseconds")
    if step_s > _LONGEST_STEP_S:
        raise CaptureValues(
            f"{name} is in a unit that cannot be told",
            device=str(path),
            expected=f"seconds, or {', '.join(_EPOCHS)} from 1970",
            seen=f"row {start}: {first:g}; tried as {unit} from 1970, {when}: {step_s / 3600:.3g} h from row to row",
            hint=f"save {name} in seconds, or write its unit behind its name: time [ns]",
        )
    return since, (f"{name} counts {unit} from 1970: read as seconds from the first row ({when})",)
