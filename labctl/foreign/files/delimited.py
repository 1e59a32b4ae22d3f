"""Read ``*.csv`` and ``*.tsv``: a header line with the names of the columns, then one line per row.

Columns ``input_0 … input_35`` and ``reading_0 … reading_3``, or one column ``reading`` together with ``output``;
optional ``output``, ``time`` [s] and ``group``. Lines that start with ``#`` are remarks. The separator (comma, tab or
semicolon) is the one in the header line. The weights lie in a file of their own: one line per output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureIncomplete, CaptureUnreadable, CaptureValues
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Array, Contents, too_large, unreadable

_BLOCK_LINES = 4096
_LONGEST_LINE = 2**24
_SEPARATORS = ("\t", ";", ",")


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The columns of a csv or tsv file, those that are numbered (``input_0 …``) joined to one array by their name.

    Raises
    ------
    CaptureUnreadable
        When it is not text, has no header, or has a line of another length than the header.
    CaptureValues
        When an entry is not a number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=None) as stream:
            lines = _lines(path, stream)
            header = next(lines, None)
            if header is None:
                raise CaptureUnreadable("the file has no lines", device=str(path), expected=_EXPECTED)
            separator = _separator(header[1])
            names = [name.strip().strip('"') for name in header[1].split(separator)]
            _check_header(path, names)
            table = _numbers(path, lines, separator, len(names))
    except UnicodeDecodeError as error:
        raise unreadable(path, "not text", error, "save it as UTF-8, or as npz or HDF5") from error
    yield Contents(_arrays(path, names, table), table=True)


def read_weights(path: Path) -> NDArray[np.float64]:
    """A file of weights: one line per output, one number per input, with or without a line of names above.

    Raises
    ------
    CaptureUnreadable, CaptureValues
        As `open_contents`.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=None) as stream:
            lines = _lines(path, stream)
            first = next(lines, None)
            if first is None:
                raise CaptureUnreadable("the file has no lines", device=str(path), expected="one line per output")
            separator = _separator(first[1])
            columns = first[1].count(separator) + 1
            above = [] if any(_is_name(word) for word in first[1].split(separator)) else [first]
            return _numbers(path, iter([*above, *lines]), separator, columns)
    except UnicodeDecodeError as error:
        raise unreadable(path, "not text", error, "save it as UTF-8, or as npz or HDF5") from error


_EXPECTED = "a header line: input_0,input_1,…,reading_0,…"


def _lines(path: Path, stream: TextIO) -> Iterator[tuple[int, str]]:
    """Numbered lines, without remarks and empty ones."""
    number = 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise unreadable(path, f"line {number} is longer than {_LONGEST_LINE} characters")
        text = line.rstrip("\n")
        if "\0" in text:
            raise unreadable(path, f"line {number} holds binary data", hint="is it really a csv file?")
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text


def _separator(line: str) -> str:
    return next((separator for separator in _SEPARATORS if separator in line), ",")


def _is_name(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return bool(word.strip())
    return False


def _check_header(path: Path, names: Sequence[str]) -> None:
    if not any(_is_name(name) for name in names):
        raise CaptureUnreadable(
            "the first line has no names", device=str(path), expected=_EXPECTED, seen=", ".join(names[:6])
        )
    twice = sorted({name for name in names if name and names.count(name) > 1}) if len(names) < 10_000 else []
    if twice:
        raise CaptureUnreadable("a column name is there twice", device=str(path), seen=", ".join(twice[:6]))


def _numbers(path: Path, lines: Iterator[tuple[int, str]], separator: str, columns: int) -> NDArray[np.float64]:
    """(rows, columns), block by block."""
    blocks: list[NDArray[np.float64]] = []
    rows = 0
    while block := list(islice(lines, _BLOCK_LINES)):
        rows += len(block)
        if rows * columns * 8 > MEMORY_LIMIT_BYTES:
            raise too_large(path, "the table", rows * columns * 8)
        for number, text in block:
            if text.count(separator) + 1 != columns:
                raise CaptureUnreadable(
                    f"line {number} has another number of columns than the first",
                    device=str(path),
                    expected=f"{columns} columns",
                    seen=f"{text.count(separator) + 1}",
                    hint=f"look at line {number}: a missing value, or a comma inside a number?",
                )
        blocks.append(_block(path, block, separator))
    return np.concatenate(blocks) if blocks else np.empty((0, columns))


def _block(path: Path, block: Sequence[tuple[int, str]], separator: str) -> NDArray[np.float64]:
    texts = [text.replace('"', "") for _, text in block]
    try:
        return np.loadtxt(texts, np.float64, delimiter=separator, comments=None, ndmin=2)
    except ValueError as error:
        for (number, _), text in zip(block, texts, strict=True):
            for column, word in enumerate(text.split(separator)):
                if _is_name(word) or not word.strip():
                    raise CaptureValues(
                        f"line {number}, column {column + 1} is not a number",
                        device=str(path),
                        expected="a number with a decimal point",
                        seen=repr(word[:40]),
                    ) from error
        raise unreadable(path, "a line cannot be read as numbers", error) from error


def _arrays(path: Path, names: Sequence[str], table: NDArray[np.float64]) -> Mapping[str, Array]:
    """Columns by name; ``x_0, x_1, …`` as the array ``x`` of shape (rows, count)."""
    numbered: dict[str, dict[int, int]] = {}
    arrays: dict[str, Array] = {}
    for column, name in enumerate(names):
        if match := re.fullmatch(r"(.+)_(0|[1-9]\d{0,8})", name):
            numbered.setdefault(match[1], {})[int(match[2])] = column
        elif name:
            arrays[name] = table[:, column]
    for name, columns in numbered.items():
        missing = next((index for index in range(len(columns)) if index not in columns), None)
        if missing is not None:
            raise CaptureIncomplete(
                f"column {name}_{missing} is missing",
                device=str(path),
                expected=f"{name}_0 … {name}_{max(columns)} without a gap",
                seen=f"{len(columns)} of them, from {name}_{min(columns)} on",
            )
        arrays[name] = table[:, [columns[index] for index in range(len(columns))]]
    return arrays
