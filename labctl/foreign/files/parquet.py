"""Read ``*.parquet`` where pyarrow is at hand: a table of columns, as in a csv file."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from groundwork.opening.regular import open_regular
from labctl.errors import CaptureUnreadable, CaptureValues
from labctl.foreign.files.columns import arrays_of, check_header, without_unit
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Array, Contents, too_large, unreadable
from labctl.foreign.files.times import from_datetime64, is_like_a_time, seconds_of


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The columns of a Parquet file; a column of lists of one length is an array of rows.

    Raises
    ------
    CaptureUnreadable
        When pyarrow is missing, or it is not a whole Parquet file.
    CaptureValues
        When a column that has the name of an array holds no numbers.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        lib: Any = importlib.import_module("pyarrow")
    except ImportError as error:
        raise CaptureUnreadable(
            "reading Parquet needs pyarrow, which is not installed", device=str(path), seen=str(error),
            hint="python -m pip install pyarrow   ·   or save the table as csv",
        ) from error  # fmt: skip
    try:
        with open_regular(path) as stream, parquet.ParquetFile(stream) as file:
            about = file.metadata
            size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            # a column of one value a million times is stored in a few bytes
            size = max(size, 8 * about.num_rows * about.num_columns)
            if size > MEMORY_LIMIT_BYTES:
                raise too_large(path, "the table", size)
            columns = {name: file.read([name]).column(0).combine_chunks() for name in file.schema_arrow.names}
    except (lib.ArrowException, OSError, KeyError, IndexError) as error:
        raise unreadable(path, "not a Parquet file, or only part of one", error, "write it again") from error
    plain: dict[str, np.ndarray[Any, Any]] = {}
    lists: dict[str, Array] = {}
    said: list[str] = []
    for name, column in columns.items():
        before = len(said)
        values = _values(path, name, column, lib, said)
        if values is not None:
            called = name if len(said) == before else without_unit(name)  # dates have no unit
            (plain if values.ndim == 1 else lists)[called] = values
    names = list(plain)
    check_header(path, names)
    table = np.column_stack([plain[name] for name in names]) if names else np.empty((0, 0))
    arrays, units, notes = arrays_of(path, names, table)
    yield Contents({**arrays, **lists}, units.get, table=not lists, notes=(*said, *notes))


def _values(path: Path, name: str, column: Any, lib: Any, said: list[str]) -> np.ndarray[Any, Any] | None:
    kind = column.type
    if lib.types.is_list(kind) or lib.types.is_fixed_size_list(kind) or lib.types.is_large_list(kind):
        rows = column.to_pylist()
        widths = {len(row) for row in rows if row is not None}
        rows = [[None] * max(widths, default=0) if row is None else row for row in rows]
        if len(widths) != 1:
            raise CaptureValues(
                f"{name} is ragged: its rows differ in length", device=str(path), expected="lists of one length",
                seen=str(kind), hint="write rows of one length",
            )  # fmt: skip
        return np.array(rows, np.float64)
    if lib.types.is_floating(kind) or lib.types.is_integer(kind) or lib.types.is_boolean(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    if lib.types.is_timestamp(kind):
        values, words = from_datetime64(name, np.asarray(column.to_numpy(zero_copy_only=False)))
    elif lib.types.is_string(kind) and len(column) and is_like_a_time(str(column[0].as_py()).strip()):
        try:
            values, words = seconds_of(path, name, column.to_pylist())
        except CaptureValues:
            if name != "time":  # texts that nobody needs
                return None
            raise
    else:
        return None
    said.append(words)
    return values
