"""What the operator says about a file: which rows, which names, which unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.errors import UsageError

ARRAYS = ("inputs", "weights", "readings", "output", "time", "group")
"""What a file may hold; the first two it must."""


@dataclass(frozen=True)
class Request:
    """What the operator said about a file.

    Attributes
    ----------
    unit
        Of the readings; an HDF5 attribute ``units`` wins.
    rows
        ``"0:2000"``, ``":2000"``, ``"-1000:"``: as a Python slice; None is all.
    names
        ``{"inputs": "X", "weights": "W.T"}``: names in the file, ``.T`` for an array that lies the other way round.
    weights
        A file with the weights, when they lie apart.
    """

    unit: str | None = None
    rows: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    weights: Path | None = None

    @property
    def turned(self) -> frozenset[str]:
        """Arrays that were said to be transposed."""
        return frozenset(name for name, there in self.names.items() if there.endswith(".T"))

    @property
    def as_typed(self) -> frozenset[str]:
        """Arrays that were named without ``.T``."""
        return frozenset(self.names) - self.turned

    def name_of(self, array: str) -> str | None:
        """Its name in the file, if that was said."""
        return self.names[array].removesuffix(".T") if array in self.names else None


def parse_rows(text: str | None, rows: int) -> tuple[int, int]:
    """``"0:2000"`` → (0, 2000), half-open and with negative ends counted from the last row, as in Python.

    Raises
    ------
    UsageError
        When it is not ``START:STOP``, or chooses no row.
    """
    if text is None:
        return 0, rows
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        ends = [int(word) if word.strip() else None for word in (first, last)]
        start, stop, _ = slice(*ends).indices(rows)
    except (ValueError, OverflowError):
        raise UsageError("--rows is START:STOP", expected="for example 0:2000, :2000 or -1000:", seen=text) from None
    if stop <= start or (ends[0] or 0) > rows or (ends[1] is not None and ends[1] > rows):
        raise UsageError("--rows goes beyond the file, or chooses no row", expected=f"within 0:{rows}", seen=text)
    return start, stop


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """``["inputs=X,readings=y"]`` → ``{"inputs": "X", "readings": "y"}``.

    Raises
    ------
    UsageError
        When a pair is not ``NAME=NAME IN THE FILE``.
    """
    found: dict[str, str] = {}
    for pair in (part.strip() for text in pairs for part in text.split(",")):
        name, equals, there = pair.partition("=")
        if not equals or name not in ARRAYS or not there.removesuffix(".T"):
            raise UsageError(
                "--map is NAME=NAME IN THE FILE", expected=f"a NAME of {', '.join(ARRAYS)}", seen=pair,
                hint="--map inputs=X,readings=y   ·   transposed: --map weights=W.T",
            )  # fmt: skip
        found[name] = there
    return found
