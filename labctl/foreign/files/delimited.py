"""Read ``*.csv``, ``*.tsv``, ``*.txt`` and ``*.dat``: a header line with names, then one line per row.

Columns ``input_0 … input_35`` and ``reading_0 … reading_3``, or one column ``reading`` together with ``output``;
optional ``output``, ``time`` [s] and ``group``. Lines that start with ``#`` are remarks. The separator (comma, tab,
semicolon or blanks) is the one in the header line, or what a spreadsheet says in ``sep=;``. The weights lie in a file
of their own: one line per output.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from groundwork.opening.regular import open_regular
from labctl.errors import CaptureUnreadable, CaptureValues
from labctl.foreign.files.cells import Cells
from labctl.foreign.files.columns import arrays_of, check_header
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Contents, Reading, too_large, unreadable

_BLOCK_LINES = 4096
_LOOKED_AT = 20
_LONGEST_LINE = 2**24
_EXPECTED = "a header line: input_0,input_1,…,reading_0,…"

Line = tuple[int, str]
Floats = NDArray[np.float64]


@contextmanager
def open_contents(path: Path) -> Iterator[Contents]:
    """The columns of a table, those that are numbered (``input_0 …``) joined to one array by their name.

    Raises
    ------
    CaptureUnreadable
        When it is not text, has no header, or has a line of another length than the header.
    CaptureValues
        When an entry is not a number.
    """
    cells, first, rest = _opened(path, _EXPECTED)
    names = cells.split(first[1])
    if not any(cells.is_name(name) for name in names):
        raise CaptureUnreadable(
            "the first line has no names", device=str(path), expected=_EXPECTED, seen=", ".join(names[:6]),
            hint="add a line of names, or bring each array in a file of its own: --inputs F --readings F --weights F",
        )  # fmt: skip
    check_header(path, names)
    table = _numbers(path, rest, cells, len(names))
    arrays, units, notes = arrays_of(path, names, table)
    yield Contents(arrays, units.get, table=True, notes=(*cells.notes, *notes))


@contextmanager
def open_matrix(path: Path, name: str) -> Iterator[Contents]:
    """A file that is one array: a line of numbers per output or row, with or without names above and numbers in front.

    A first line that counts (0, 1, 2, …) is what some programs write above their columns; it is taken for a header, and
    for numbers only where the shapes say so.

    Raises
    ------
    CaptureUnreadable, CaptureValues
        As `open_contents`.
    """
    cells, first, rest = _opened(path, "one line per output or row")
    head = cells.split(first[1])
    blank = not head[0] or head[0].lower() in ("index", "unnamed: 0", "output", "row")
    named = any(cells.is_name(word) for word in head)
    counting = cells.counts(head[1:] if blank else head)
    lines = rest if named or counting or blank else chain([first], rest)
    table = _numbers(path, lines, cells, len(head))
    said = "its first line taken for a header"
    ways = [Reading(table, f"{path.name}: {said}" if counting and not named else "")]
    if counting and not named and not blank:
        numbers = cells.numbers(head)
        ways.append(Reading(np.vstack([numbers, table]), f"{path.name}: its first line taken for numbers"))
    if table.shape[1] > 1 and len(table) and _counts_rows(table[:, 0]):
        without = [Reading(way.array[:, 1:], f"{path.name}: its first column taken for row numbers") for way in ways]
        ways = [*without, *ways] if blank else [*ways, *without]
    yield Contents({name: ways[0].array}, readings={name: tuple(ways)}, notes=cells.notes)


def _opened(path: Path, expected: str) -> tuple[Cells, Line, Iterator[Line]]:
    """How numbers are written in a file, its first line, and the others."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline=None) as stream:
            lines = list(_lines(path, stream))
    except UnicodeDecodeError as error:
        raise unreadable(path, "not text", error, "save it as UTF-8, or as npz or HDF5") from error
    separator = None
    if lines and lines[0][1].strip().lower().startswith("sep=") and len(lines[0][1].strip()) == 5:
        separator = lines.pop(0)[1].strip()[4]
    if not lines:
        raise CaptureUnreadable("the file has no lines", device=str(path), expected=expected)
    cells = Cells.of([text for _, text in lines[: _LOOKED_AT + 1]], separator)
    return cells, lines[0], iter(lines[1:])


def _counts_rows(column: Floats) -> bool:
    return bool(np.array_equal(column, np.arange(len(column)) + column[0]) and column[0] in (0, 1) and len(column) > 1)


def _lines(path: Path, stream: TextIO) -> Iterator[Line]:
    """Numbered lines, without remarks and empty ones."""
    number, size = 0, 0
    while line := stream.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise unreadable(path, f"line {number} is longer than {_LONGEST_LINE} characters")
        text = line.rstrip("\n")
        if "\0" in text:
            raise unreadable(path, f"line {number} holds binary data", hint="is it really a csv file?")
        size += len(text)
        if size > MEMORY_LIMIT_BYTES:
            raise too_large(path, "the table", size)
        if text.strip() and not text.lstrip().startswith("#"):
            yield number, text


def _numbers(path: Path, lines: Iterator[Line], cells: Cells, columns: int) -> Floats:
    """(rows, columns), block by block."""
    blocks: list[Floats] = []
    rows = 0
    while block := list(islice(lines, _BLOCK_LINES)):
        rows += len(block)
        if rows * columns * 8 > MEMORY_LIMIT_BYTES:
            raise too_large(path, "the table", rows * columns * 8)
        for number, text in block:
            if (seen := cells.count(text)) != columns:
                raise CaptureUnreadable(
                    f"line {number} has another number of columns than the first",
                    device=str(path),
                    expected=f"{columns} columns",
                    seen=f"{seen}",
                    hint=f"look at line {number}: a missing value, or a comma inside a number?",
                )
        blocks.append(_block(path, block, cells))
    return np.concatenate(blocks) if blocks else np.empty((0, columns))


def _block(path: Path, block: Sequence[Line], cells: Cells) -> Floats:
    try:
        return np.loadtxt([cells.plain(text) for _, text in block], np.float64, delimiter="\t", comments=None, ndmin=2)
    except ValueError as error:
        for number, text in block:
            for column, word in enumerate(cells.split(text)):
                if cells.is_name(word) or not word.strip():
                    raise CaptureValues(
                        f"line {number}, column {column + 1} is not a number",
                        device=str(path),
                        expected=f"a number with a decimal {'comma' if cells.comma else 'point'}",
                        seen=repr(word[:40]),
                        hint=f"look at line {number}; a reading that is missing is written nan",
                    ) from error
        raise unreadable(path, "a line cannot be read as numbers", error) from error
