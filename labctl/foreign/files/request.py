"""What the operator says about a measurement: which files, which rows, which names, which unit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labctl.errors import UsageError
from labctl.foreign.files.decimals import DECIMALS
from labctl.foreign.files.formats import no_such_file

ARRAYS = ("inputs", "weights", "readings", "output", "time", "group")
"""What a file may hold; the first two it must."""

_PAIR = re.compile(rf"(?:^|,)\s*({'|'.join(ARRAYS)})\s*=")


@dataclass(frozen=True)
class Elsewhere:
    """Where an array lies that is not in the file of the others.

    Attributes
    ----------
    path
        The file.
    there
        Its name in it, with ``.T`` if it lies the other way round; None for the only one, or the one of that name.
    """

    path: Path
    there: str | None = None


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
    files
        Arrays that lie in files of their own.
    decimal
        Of numbers in texts: point or comma; None where the file shows it.
    """

    unit: str | None = None
    rows: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Elsewhere] = field(default_factory=dict)
    decimal: str | None = None

    @property
    def said(self) -> dict[str, str]:
        """Array → its name, as it was said for the file of all or for its own."""
        return {**self.names, **{name: place.there for name, place in self.files.items() if place.there}}

    @property
    def turned(self) -> frozenset[str]:
        """Arrays that were said to be transposed."""
        return frozenset(name for name, there in self.said.items() if there.endswith(".T"))

    @property
    def as_typed(self) -> frozenset[str]:
        """Arrays that were named without ``.T``."""
        return frozenset(self.said) - self.turned

    @property
    def pinned(self) -> frozenset[str]:
        """Arrays of which it was said that they are what they are called: ``--map weights=weights``."""
        return frozenset(name for name, there in self.said.items() if there == name)

    def name_of(self, array: str) -> str | None:
        """Its name in the file, if that was said."""
        return self.said[array].removesuffix(".T") if array in self.said else None


def requested(
    file: Path | None,
    unit: str | None,
    rows: str | None,
    pairs: Sequence[str],
    apart: Mapping[str, str | None],
    decimal: str | None = None,
) -> tuple[Path, Request]:
    """The file of all arrays that do not lie apart, and what was said about it and the others.

    Parameters
    ----------
    file
        As typed; None where every array lies apart: it is then that of the inputs.
    pairs
        What ``--map`` said.
    apart
        Array → ``FILE`` or ``FILE:NAME``, None where nothing was said.
    decimal
        What ``--decimal`` said.

    Raises
    ------
    UsageError
        No such file, no file at all, an array named twice, a decimal mark that is none.
    """
    if decimal not in (None, *DECIMALS):
        raise UsageError("no such decimal mark", expected=f"--decimal {' or '.join(DECIMALS)}", seen=repr(decimal))
    files = {name: parse_elsewhere(name, text) for name, text in apart.items() if text is not None}
    names = parse_map(pairs)
    twice = sorted(set(names) & set(files))
    if twice:
        raise UsageError(
            f"{twice[0]} is named twice", expected="--map for the FILE of all, or a file of its own",
            seen=f"--map {twice[0]}={names[twice[0]]} and --{twice[0]} {apart[twice[0]]}",
            hint=f"--{twice[0]} {files[twice[0]].path}:{names[twice[0]]}",
        )  # fmt: skip
    if file is None and "inputs" not in files:
        raise UsageError(
            "no file",
            expected="FILE, or --inputs F:NAME --weights F:NAME --readings F:NAME",
            hint="labctl import FILE   ·   labctl predict CALIB FILE",
        )
    return file or files["inputs"].path, Request(unit, rows, names, files, decimal)


def parse_elsewhere(array: str, text: str) -> Elsewhere:
    """``"w.npz:W.T"`` → the file and the name in it; a file whose own name has a colon is taken as it is.

    Raises
    ------
    UsageError
        When there is no such file.
    """
    whole, (before, colon, after) = Path(text), text.rpartition(":")
    if whole.is_file():
        return Elsewhere(whole)
    if colon and after and Path(before).is_file():
        return Elsewhere(Path(before), after)
    raise no_such_file(Path(before if colon and before else text), f"--{array} FILE or --{array} FILE:NAME")


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
    """``["inputs=X,readings=y"]`` → ``{"inputs": "X", "readings": "y"}``; a name may hold spaces, commas, brackets.

    Raises
    ------
    UsageError
        When a pair is not ``NAME=NAME IN THE FILE``.
    """
    found: dict[str, str] = {}
    for text in pairs:
        starts = list(_PAIR.finditer(text))
        ends = [match.start() for match in starts[1:]] + [len(text)]
        named = {match[1]: text[match.end() : end].strip(" ,") for match, end in zip(starts, ends, strict=False)}
        loose = text[: starts[0].start()] if starts else text
        plain = [there for there in named.values() if "," in there and "=" in there]
        if loose.strip(" ,") or not starts or plain or not all(there.removesuffix(".T") for there in named.values()):
            raise UsageError(
                "--map is NAME=NAME IN THE FILE", expected=f"a NAME of {', '.join(ARRAYS)}", seen=text,
                hint='--map inputs=X,readings=y   ·   with spaces: --map "inputs=my X"   ·   transposed: '
                "--map weights=W.T",
            )  # fmt: skip
        found |= named
    return found
