"""Read ``*.json``: an object of arrays by name, or a list of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundwork.opening.json_text import read_json
from labctl.errors import CaptureValues
from labctl.foreign.files.columns import arrays_of, without_unit
from labctl.foreign.files.contents import Array, Contents, too_large, unreadable
from labctl.foreign.files.times import is_like_a_time, seconds_of

_LARGEST_BYTES = 2**28
_EXPECTED = '{"inputs": [[…], …], "weights": [[…], …], "readings": [[…], …]}'


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The arrays of a JSON file; what in it is text or an object is passed over.

    Raises
    ------
    CaptureUnreadable
        When it is no JSON, or a list is ragged.
    CaptureValues
        When an array holds something else than numbers.
    """
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise too_large(path, "the JSON text", size)
    try:
        document = read_json(path, _LARGEST_BYTES, finite=False)
    except ValueError as error:
        raise unreadable(path, "not JSON, or only part of it", error, f"expected {_EXPECTED}") from error
    if isinstance(document, list) and document and all(isinstance(row, Mapping) for row in document):
        yield _rows(path, document)
        return
    if not isinstance(document, Mapping):
        raise unreadable(path, "the JSON text is no object of arrays", type(document).__name__, f"expected {_EXPECTED}")
    arrays: dict[str, Array] = {}
    units = {}
    notes: list[str] = []
    for name, value in document.items():
        if isinstance(value, list):
            arrays[name] = _array(path, name, _in_seconds(path, name, value, notes))
        elif name in ("unit", "units") and isinstance(value, str):
            units["readings"] = value
    yield Contents(arrays, units.get, notes=tuple(notes))


def _rows(path: Path, rows: list[Mapping[str, Any]]) -> Contents:
    names = list(dict.fromkeys(name for row in rows for name in row))
    said: list[str] = []
    columns: dict[str, list[Any]] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        seconds = _in_seconds(path, name, values, said)
        columns[name if seconds is values else without_unit(name)] = seconds  # dates have no unit
    lists = {name for name, values in columns.items() if any(isinstance(value, list) for value in values)}
    if lists:
        numbers = {n: v for n, v in columns.items() if n in lists or any(isinstance(x, (int, float)) for x in v)}
        return Contents({name: _array(path, name, values) for name, values in numbers.items()}, notes=tuple(said))
    table = _array(path, "the rows", [list(row) for row in zip(*columns.values(), strict=True)])
    arrays, units, notes = arrays_of(path, list(columns), np.asarray(table, np.float64))
    return Contents(arrays, units.get, table=True, notes=(*said, *notes))


def _in_seconds(path: Path, name: str, values: list[Any], notes: list[str]) -> list[Any]:
    """Texts of dates with their time of day as seconds, which is noted; other values as they are."""
    if not values or not isinstance(values[0], str) or not is_like_a_time(values[0].strip()):
        return values
    try:
        found, words = seconds_of(path, name, values)
    except CaptureValues:
        if name != "time":  # texts that nobody needs
            return values
        raise
    notes.append(words)
    return list(found.tolist())


def _array(path: Path, name: str, values: list[Any]) -> NDArray[np.float64]:
    try:
        wide = next((len(row) for row in values if isinstance(row, list)), 0)
        rows = [[None] * wide if wide and row is None else row for row in values]  # a row without any value
        array = np.array([[np.nan if v is None else v for v in row] if isinstance(row, list) else row for row in rows])
        if array.dtype.kind not in "biuf" and array.dtype.kind != "O":
            raise TypeError(f"type {array.dtype}")
        return array.astype(np.float64)
    except ValueError as error:
        raise unreadable(
            path, f"{name} is ragged: its rows differ in length", error, "write rows of one length"
        ) from error
    except (TypeError, OverflowError) as error:
        raise CaptureValues(
            f"{name} holds something else than numbers", device=str(path), expected="numbers", seen=str(error)[:200],
            hint="write plain numbers; a reading that is missing is null",
        ) from error  # fmt: skip
