"""Names of a table's columns: a number at the end joins columns to one array, brackets hold a unit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureIncomplete, CaptureMismatch, CaptureUnreadable
from labctl.foreign.files.contents import Array

_UNIT = re.compile(r"\s*[\[(]([^\[\]()]*[^\[\]()\d\s][^\[\]()]*)[\])]\s*$")
_NUMBERED = re.compile(r"(.*?[^\d\s_\-.\[(])[\s_\-.]*[\[(]?(0|[1-9]\d{0,8})[\])]?")
_OURS = ("input", "reading", "weight")


def check_header(path: Path, names: Sequence[str]) -> None:
    """Refuse a header with a name twice.

    Raises
    ------
    CaptureUnreadable
        With the names.
    """
    counts = Counter(name for name in names if name)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise CaptureUnreadable(
            "a column name is there twice", device=str(path), seen=", ".join(twice[:6]), hint="rename one of them"
        )


def arrays_of(
    path: Path, names: Sequence[str], table: NDArray[np.float64]
) -> tuple[Mapping[str, Array], dict[str, str], tuple[str, ...]]:
    """Arrays, units and notes; ``x_0, x_1, …`` is the array ``x`` of shape (rows, count).

    Raises
    ------
    CaptureIncomplete
        When a column between others is missing.
    CaptureMismatch
        When columns of one array are in different units.
    """
    plain = [without_unit(name) for name in names]
    counts = Counter(plain)
    alone = [name if counts[name] == 1 else whole for name, whole in zip(plain, names, strict=True)]
    units = {name: unit[1].strip() for name, whole in zip(alone, names, strict=True) if (unit := _UNIT.search(whole))}
    numbered: dict[str, dict[int, int]] = {}
    for column, name in enumerate(alone):
        if match := _NUMBERED.fullmatch(name):
            numbered.setdefault(match[1], {})[int(match[2])] = column
    arrays: dict[str, Array] = {}
    notes: list[str] = []
    joined: set[int] = set()
    for name, columns in numbered.items():
        first = min(columns)
        missing = next((index for index in range(min(first, 1), max(columns)) if index not in columns), None)
        if missing is not None:
            if name.lower() in _OURS:
                raise _gap(path, name, missing, columns)
            continue
        joined |= set(columns.values())
        arrays[name] = table[:, [columns[index] for index in sorted(columns)]]
        said = [units[alone[column]] for column in columns.values() if alone[column] in units]
        if name.lower() in _OURS and len(set(said)) > 1:
            raise _several_units(path, name, said)
        units |= {name: said[0]} if said else {}
        if first == 1 and name.lower() in _OURS:
            notes.append(f"{name}_1 … {name}_{max(columns)}: columns counted from 1")
    arrays |= {name: table[:, i] for i, name in enumerate(alone) if name and i not in joined and name not in arrays}
    for name in _OURS:  # under its own name it stays, too: that may have been said with --map
        written = [other for other in arrays if other.lower() == name]
        if len(written) == 1 and written != [name]:
            arrays[name] = arrays[written[0]]
            units |= {name: units[written[0]]} if written[0] in units else {}
            notes.append(f"{written[0]} is read as {name}")
    return arrays, units, tuple(notes)


def without_unit(name: str) -> str:
    """``"reading_0 (mV)"`` → ``"reading_0"``"""
    return _UNIT.sub("", name).strip()


def _several_units(path: Path, name: str, said: Sequence[str]) -> CaptureMismatch:
    return CaptureMismatch(
        f"the columns {name}_… are in different units",
        device=str(path),
        expected=f"all in {said[0]}",
        seen=", ".join(dict.fromkeys(said)),
        hint=f"bring the columns of {name} to one unit, and write it behind each name",
    )


def _gap(path: Path, name: str, missing: int, columns: Mapping[int, int]) -> CaptureIncomplete:
    return CaptureIncomplete(
        f"column {name}_{missing} is missing",
        device=str(path),
        expected=f"{name}_0 … {name}_{max(columns)} without a gap",
        seen=f"{len(columns)} of them, from {name}_{min(columns)} on",
        hint="add the column, or number the others without a gap",
    )
