"""Decimal marks and the marks between thousands, as programs and the spreadsheets of all countries write them.

``1,234`` is a thousand and some where the decimal mark is a point, and one and some where it is a comma. One number
that can be written in one way only, such as ``0.5``, ``1.234,5`` or ``1,234,567``, tells it for the whole file; where
there is none, nobody can know, and the file is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

DECIMALS = {"point": ".", "comma": ","}
_EXPONENT = r"(?:[eEdD][+-]?\d+)?"
_APART = re.compile(
    rf"[+-]?\d{{1,3}}(?P<apart>[ '\u2019\u00a0\u2009\u202f])\d{{3}}(?:(?P=apart)\d{{3}})*(?:[.,]\d*)?{_EXPONENT}"
)
"""Thousands set apart by blanks or apostrophes, which can be nothing else."""
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_SWAPPED = str.maketrans(".,", ",.")


class Style:
    """A decimal mark, and how numbers look in which the other mark stands between thousands."""

    def __init__(self, mark: str) -> None:
        self.mark, self.other = mark, "," if mark == "." else "."
        group, end = rf"(?:{re.escape(self.other)}\d{{3}})", re.escape(mark)
        self._thousands = re.compile(rf"[+-]?\d{{1,3}}{group}+(?:{end}\d*)?{_EXPONENT}")
        self._certain = re.compile(rf"[+-]?(?:\d{{1,3}}(?:{group}+{end}\d*|{group}{{2,}})|\d*{end}\d+){_EXPONENT}")

    def is_told_by(self, word: str) -> bool:
        """Whether a number can be written in this style only."""
        if _APART.fullmatch(word):
            return self.mark in word
        return bool(self._certain.fullmatch(word) and not _EITHER.fullmatch(word))

    def is_grouped(self, word: str) -> bool:
        """Whether something stands between the thousands of a number."""
        return bool(_APART.fullmatch(word) or self._thousands.fullmatch(word))

    def plain(self, word: str) -> str:
        """A number as `float` reads it: nothing between thousands, a decimal point.

        What is a number in the other style only is no number for `float` either.
        """
        if apart := _APART.fullmatch(word):
            word = word.replace(apart["apart"], "")
        if self._thousands.fullmatch(word):
            word = word.replace(self.other, "")
        return word if self.mark == "." else word.translate(_SWAPPED)


STYLES = {mark: Style(mark) for mark in DECIMALS.values()}


def told(words: Iterable[str]) -> tuple[str, str]:
    """The decimal mark that the first certain number has; empty if none is certain, and then one that is in doubt.

    Examples
    --------
    >>> told(["1,234", "0.5"]), told(["1.234", "1,234"]), told(["17", "x,y"])
    (('.', ''), ('', '1.234'), ('', ''))
    """
    doubt = ""
    for word in words:
        for mark, style in STYLES.items():
            if style.is_told_by(word):
                return mark, ""
        if not doubt and _EITHER.fullmatch(word):
            doubt = word
    return "", doubt


def in_doubt_beside_whole_numbers(rows: Iterable[list[str]]) -> bool:
    """Whether a column holds ``1.234`` and ``999``: a program would have written ``999.000``."""
    pointed: set[int] = set()
    whole: set[int] = set()
    for row in rows:
        for column, word in enumerate(row):
            if _EITHER.fullmatch(word):
                pointed.add(column)
            elif word.isdigit() and len(word) <= 3:
                whole.add(column)
    return bool(pointed & whole)
