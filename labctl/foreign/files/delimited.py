"""Read ``*.csv``, ``*.tsv``, ``*.txt`` and ``*.dat``: a header line with names, then one line per row.

Text in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, as spreadsheets write it.

Columns ``input_0 … input_35`` and ``reading_0 … reading_3``, or one column ``reading`` together with ``output``;
optional ``output``, ``time`` [s] and ``group``. Lines that start with ``#`` are remarks. The separator (comma, tab,
semicolon or blanks) is the one in the header line, or what a spreadsheet says in ``sep=;``. The weights lie in a file
of their own: one line per output.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, TextIO

import numpy as np
from numpy.typing import NDArray

from groundwork.opening.regular import open_regular
from labctl.errors import CaptureUnreadable, CaptureValues
from labctl.foreign.files.cells import Cells
from labctl.foreign.files.columns import arrays_of, check_header, without_unit
from labctl.foreign.files.contents import MEMORY_LIMIT_BYTES, Contents, Reading, too_large, unreadable
from labctl.foreign.files.times import Instants, is_like_a_time

_BLOCK_LINES = 4096
_LONGEST_LINE = 2**24
_EXPECTED = "a header line: input_0,input_1,…,reading_0,…"

Line = tuple[int, str]
Floats = NDArray[np.float64]


@contextmanager
def open_contents(path: Path, decimal: str | None = None) -> Iterator[Contents]:
    """The columns of a table, those that are numbered (``input_0 …``) joined to one array by their name.

    Numbers have a decimal point or comma, as ``decimal`` says; as the file shows if None.

    Raises
    ------
    CaptureUnreadable
        When it is not text, has no header, or has a line of another length than the header.
    CaptureValues
        When an entry is not a number, or may be a thousand times as large.
    """
    cells, first, rest = _opened(path, _EXPECTED, decimal)
    names = cells.split(first[1])
    if not any(cells.is_name(name) for name in names):
        raise CaptureUnreadable(
            "the first line has no names", device=str(path), expected=_EXPECTED, seen=", ".join(names[:6]),
            hint="add a line of names, or bring each array in a file of its own: --inputs F --readings F --weights F",
        )  # fmt: skip
    check_header(path, names)
    second = next(rest, None)
    clocks = _clocks(path, cells, names, second)
    table = _numbers(path, rest if second is None else chain([second], rest), cells, len(names), clocks)
    table, ended = _without_empty_end(table)
    plain = [without_unit(name) if k in clocks else name for k, name in enumerate(names)]  # dates have no unit
    arrays, units, notes = arrays_of(path, plain, table)
    said = tuple(clock.words for clock in clocks.values())
    yield Contents(arrays, units.get, table=True, notes=(*cells.notes, *ended, *said, *notes))


@contextmanager
def open_matrix(path: Path, name: str, decimal: str | None = None) -> Iterator[Contents]:
    """A file that is one array: a line of numbers per output or row, with or without names above and numbers in front.

    A first line that counts (0, 1, 2, …) is what some programs write above their columns; it is taken for a header, and
    for numbers only where the shapes say so.

    Raises
    ------
    CaptureUnreadable, CaptureValues
        As `open_contents`.
    """
    cells, first, rest = _opened(path, "one line per output or row", decimal)
    head = cells.split(first[1])
    unnamed = not head[0] or head[0].lower() in ("index", "unnamed: 0", "output", "row")
    named = any(cells.is_name(word) for word in head)
    counting = cells.counts(head[1:] if unnamed else head)
    blank = unnamed and (named or counting)  # a number that is missing stands before numbers
    lines = rest if named or counting else chain([first], rest)
    table = _numbers(path, lines, cells, len(head), {})
    said = "its first line taken for a header"
    ways = [Reading(table, f"{path.name}: {said}" if counting and not named else "")]
    if counting and not named and not blank:
        numbers = cells.numbers(head)
        ways.append(Reading(np.vstack([numbers, table]), f"{path.name}: its first line taken for numbers"))
    if table.shape[1] > 1 and len(table) and _counts_rows(table[:, 0]):
        without = [Reading(way.array[:, 1:], f"{path.name}: its first column taken for row numbers") for way in ways]
        ways = [*without, *ways] if blank else [*ways, *without]
    yield Contents({name: ways[0].array}, readings={name: tuple(ways)}, notes=cells.notes)


def _opened(path: Path, expected: str, decimal: str | None) -> tuple[Cells, Line, Iterator[Line]]:
    """How numbers are written in a file, its first line, and the others."""
    try:
        with open_regular(path) as binary, io.TextIOWrapper(binary, encoding=_encoding(binary), newline=None) as stream:
            lines = list(_lines(path, stream))
    except UnicodeError as error:
        raise unreadable(path, "not text", error, "save it as UTF-8, or as npz or HDF5") from error
    separator = None
    if lines and lines[0][1].strip().lower().startswith("sep=") and len(lines[0][1].strip()) == 5:
        separator = lines.pop(0)[1].strip()[4]
    if not lines:
        raise CaptureUnreadable("the file has no lines", device=str(path), expected=expected)
    cells = Cells.of([text for _, text in lines], separator, decimal)
    if cells.doubt:
        raise _in_doubt(path, cells.doubt)
    return cells, lines[0], iter(lines[1:])


def _in_doubt(path: Path, word: str) -> CaptureValues:
    as_thousands, as_decimals = re.sub("[.,]", "", word), word.replace(",", ".")
    one, other = ("point", "comma") if "," in word else ("comma", "point")
    return CaptureValues(
        "a number that may be a thousand times as large",
        device=str(path),
        expected="one number in the file that shows what its decimal mark is, such as 0.5, 0,5 or 1,234.5",
        seen=f"{word}, which is {as_thousands} or {as_decimals}, and no such number",
        hint=f"--decimal {one} if it is {as_thousands}   ·   --decimal {other} if it is {as_decimals}",
    )


def _encoding(stream: IO[bytes]) -> str:
    """By the mark at the beginning of the file, if there is one; the stream stands there again."""
    start = stream.read(4)
    stream.seek(0)
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _clocks(path: Path, cells: Cells, names: Sequence[str], first: Line | None) -> dict[int, Instants]:
    """The columns that hold dates with times, by what stands in the first row of them."""
    words = [] if first is None else cells.split(first[1])
    return {k: Instants(path, names[k]) for k, word in enumerate(words[: len(names)]) if is_like_a_time(word)}


def _without_empty_end(table: Floats) -> tuple[Floats, tuple[str, ...]]:
    """A table without the empty lines that a spreadsheet writes below it, and how many they were."""
    full = np.nonzero(~np.isnan(table).all(axis=1))[0]
    rows = int(full[-1]) + 1 if len(full) else 0
    left = len(table) - rows
    if not left:
        return table, ()
    return table[:rows], (f"the last {left} lines hold no value: not read" if left > 1 else
                          "the last line holds no value: not read",)  # fmt: skip


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
        if text.strip(" \r\v\f") and not Cells.is_remark(text):
            yield number, text


def _numbers(path: Path, lines: Iterator[Line], cells: Cells, columns: int, clocks: Mapping[int, Instants]) -> Floats:
    """(rows, columns), block by block; ``clocks`` are the columns that hold dates."""
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
                    hint=f"look at line {number}: a cell that was left away, or a comma inside a number?",
                )
        blocks.append(_block(path, block, cells, clocks))
    return np.concatenate(blocks) if blocks else np.empty((0, columns))


def _block(path: Path, block: Sequence[Line], cells: Cells, clocks: Mapping[int, Instants]) -> Floats:
    if not clocks:
        try:
            plain = [cells.plain(text) for _, text in block]
            return np.loadtxt(plain, np.float64, delimiter="\t", comments=None, ndmin=2)
        except ValueError:  # a cell that is missing, or no number: cell by cell
            pass
    return np.array([_row(path, number, cells.split(text), cells, clocks) for number, text in block])


def _row(path: Path, number: int, words: Sequence[str], cells: Cells, clocks: Mapping[int, Instants]) -> list[float]:
    found: list[float] = []
    for column, word in enumerate(words):
        try:
            clock = clocks.get(column)
            found.append(
                cells.number(word) if clock is None else clock.seconds(word, f"line {number}, column {column + 1}")
            )
        except ValueError as error:
            raise CaptureValues(
                f"line {number}, column {column + 1} is not a number",
                device=str(path),
                expected=f"a number with a decimal {'comma' if cells.comma else 'point'}",
                seen=repr(word[:40]),
                hint=f"look at line {number}; a reading that is missing is empty, NA or nan",
            ) from error
    return found
