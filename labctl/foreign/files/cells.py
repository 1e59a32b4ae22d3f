"""How numbers are written in a text file: what stands between them, decimal points or commas, quotation marks."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.foreign.files.decimals import DECIMALS, STYLES, in_doubt_beside_whole_numbers, told

_SEPARATORS = ("\t", ";", ",")
_BLANKS = re.compile(r"[ \t\r\f\v]+")
_FORTRAN = re.compile(r"([+-]?(?:\d+\.\d*|\.\d+))[dD]([+-]?\d+)")
_MISSING = frozenset(
    ("", "-", "--", "\u2013", "\u2014", "na", "n/a", "#n/a", "#na", "nan", "-nan", "-nan(ind)", "nan(ind)", "1.#qnan",
     "-1.#ind", "null", "none", "missing")
)  # fmt: skip
"""What programs and people write into a cell that holds nothing, in small letters."""
_SPREADSHEET = re.compile(r"#(n/?a|[a-z]+[!?]|div/0!)\s*(?=[\t;,\"]|$)", re.IGNORECASE)
"""What a spreadsheet writes into a cell whose formula has failed."""
_BETWEEN_THOUSANDS = " '\u2019\u00a0\u2009\u202f"


@dataclass(frozen=True)
class Cells:
    """The way one file is written.

    Attributes
    ----------
    separator
        Between cells; a blank for any number of blanks.
    comma
        Whether numbers have a decimal comma.
    notes
        What a person should know, in words.
    doubt
        A number that may be a thousand times as large, where no other one of the file tells; else empty.
    """

    separator: str
    comma: bool = False
    notes: tuple[str, ...] = ()
    doubt: str = ""

    @classmethod
    def of(cls, lines: Sequence[str], separator: str | None = None, decimal: str | None = None) -> Cells:
        """What the lines of a file show; ``separator`` and ``decimal`` (point or comma) where that was said."""
        first = lines[0]
        found = separator or next((s for s in _SEPARATORS if s in first), None)
        if found is None:
            found = " " if len(first.split()) > 1 else ","
        plain = cls(found)
        mark, doubt = (DECIMALS[decimal], "") if decimal else plain._mark_of(lines)
        notes = ("decimal commas are read as decimal points",) if mark == "," else ()
        return cls(found, mark == ",", notes + plain._left_out(lines, mark), doubt)

    def split(self, line: str) -> list[str]:
        """The cells of a line, without blanks and quotation marks around them."""
        if '"' in line and line.count('"') % 2 == 0 and self.separator != " ":
            words = next(csv.reader([line], delimiter=self.separator))
        else:
            line = line.replace('"', "")
            words = _BLANKS.split(line.strip(" \t\r\f\v")) if self.separator == " " else line.split(self.separator)
        return [word.strip() for word in words]

    def count(self, line: str) -> int:
        """Number of cells of a line."""
        if self.separator == " " or '"' in line:
            return len(self.split(line))
        return line.count(self.separator) + 1

    def plain(self, line: str) -> str:
        """A line as tabs between numbers with decimal points."""
        if not self.comma and '"' not in line:
            return "\t".join(self.split(line)) if self.separator == " " else line.replace(self.separator, "\t")
        return "\t".join(self._number(word) for word in self.split(line))

    def numbers(self, words: Sequence[str]) -> NDArray[np.float64]:
        """Cells as numbers."""
        return np.array([self.number(word) for word in words])

    def number(self, word: str) -> float:
        """A cell as a number, NaN for one that says that there is none.

        Raises
        ------
        ValueError
            When it is neither.
        """
        if is_missing(word):
            return np.nan
        plain = self._number(word)
        fortran = _FORTRAN.fullmatch(plain)
        return float(f"{fortran[1]}e{fortran[2]}" if fortran else plain)

    def is_name(self, word: str) -> bool:
        """Whether a cell is neither empty nor a number."""
        try:
            self.number(word)
        except ValueError:
            return True
        return False

    def counts(self, words: Sequence[str]) -> bool:
        """Whether cells are the whole numbers from 0 or 1 on."""
        if len(words) < 2 or not all(re.fullmatch(r"\d+", word) for word in words):
            return False
        first = int(words[0])
        return first in (0, 1) and [int(word) for word in words] == list(range(first, first + len(words)))

    @staticmethod
    def is_remark(line: str) -> bool:
        """Whether a line is not of the table: it starts with ``#``, and not with a cell such as ``#REF!``."""
        text = line.lstrip(' "')
        return text.startswith("#") and not _SPREADSHEET.match(text)

    def _number(self, word: str) -> str:
        return STYLES["," if self.comma else "."].plain(word)

    def _has_commas(self, line: str) -> bool:
        """Whether a comma may stand inside of a cell."""
        return "," in line and (self.separator != "," or '"' in line)

    def _mark_of(self, lines: Sequence[str]) -> tuple[str, str]:
        """The decimal mark, and a number that leaves it in doubt."""
        has_commas = any(self._has_commas(line) for line in lines)
        if not has_commas and self.separator not in (";", "\t"):
            return ".", ""
        marked = (line for line in lines if "." in line or self._has_commas(line))
        mark, doubt = told(word for line in marked for word in self.split(line))
        if doubt and not has_commas and self.separator == "\t":
            doubt = doubt if in_doubt_beside_whole_numbers(self.split(line) for line in lines) else ""
        return mark or ".", doubt

    def _left_out(self, lines: Sequence[str], mark: str) -> tuple[str, ...]:
        """What is said of marks between thousands, with the first number that has any."""
        marks = [*_BETWEEN_THOUSANDS.replace(self.separator, ""), *("." if mark == "," else ())]
        style = STYLES[mark]
        for line in lines:
            if self._has_commas(line) or any(sign in line for sign in marks):
                for word in self.split(line):
                    if style.is_grouped(word):
                        return (f"marks between thousands are left out: {word} is {float(style.plain(word)):.12g}",)
        return ()


def is_missing(word: str) -> bool:
    """Whether a cell says that there is no number: it is empty, or ``NA``, ``NaN``, ``null``, ``-``, ``#N/A`` …"""
    return word.strip().lower() in _MISSING
