"""What every reader hands on: arrays by name, of which nothing has been read but shape and type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureUnreadable, CaptureValues

MEMORY_LIMIT_BYTES = 2**31
"""The most that a file which can only be read whole may unfold to; HDF5 is read in pieces and has no such limit."""


class Array(Protocol):
    """What numpy arrays, HDF5 datasets and members of an npz file have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""

    def __getitem__(self, key: Any, /) -> Any:
        """A part of it, read now."""


@dataclass(frozen=True)
class Reading:
    """One way to read an array that can be read in several.

    Attributes
    ----------
    array
        As it is read this way.
    words
        What was taken for what; empty for the plain way.
    """

    array: Array
    words: str = ""


@dataclass(frozen=True)
class Contents:
    """The arrays of a file.

    Attributes
    ----------
    arrays
        By name.
    unit_of
        Array name → its unit, None where the file does not say it.
    table
        Whether the file is one table with a line per row: its arrays are columns (``input_0``, ``input_1``, …), and
        weights have no place in it.
    readings
        Of arrays that can be read in several ways, all of them, the likeliest first.
    notes
        What a person should know, in words.
    """

    arrays: Mapping[str, Array]
    unit_of: Callable[[str], str | None] = lambda _: None
    table: bool = False
    readings: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def ways(self, name: str) -> tuple[Reading, ...]:
        """How an array can be read."""
        return self.readings.get(name) or (Reading(self.arrays[name]),)


def check_numbers(path: Path, name: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is not a real number: text, records, complex numbers, pickled objects.

    Raises
    ------
    CaptureValues
        With what the array holds instead.
    """
    if dtype.kind in "biuf" and dtype.itemsize <= np.dtype(np.longdouble).itemsize:
        return
    lengths = dict(dtype.metadata or {}).get("vlen")
    if lengths is not None:  # HDF5: of variable length
        what = "texts" if lengths in (str, bytes) else "rows of different lengths"
        raise CaptureValues(
            f"{name} holds {what}",
            device=str(path),
            expected="real numbers in rows of one length",
            seen=f"HDF5 values of variable length, of type {getattr(lengths, '__name__', lengths)}",
            hint="save them as plain numbers: file[NAME] = np.asarray(values, float)",
        )
    if dtype.hasobject:
        raise CaptureValues(
            f"{name} holds pickled objects, which can run code and are never opened",
            device=str(path),
            expected="real numbers",
            seen=f"type {dtype}",
            hint="save plain numbers: np.savez(FILE, inputs=np.asarray(inputs, float), …)",
        )
    raise CaptureValues(
        f"{name} does not hold real numbers", device=str(path), expected="integers or floats", seen=f"type {dtype}"
    )


def too_large(path: Path, name: str, nbytes: int) -> CaptureUnreadable:
    """The error for an array that would unfold to more than the memory limit."""
    return CaptureUnreadable(
        f"{name} unfolds to {nbytes / 1e9:.3g} GB",
        device=str(path),
        expected=f"at most {MEMORY_LIMIT_BYTES / 1e9:.1f} GB in a file that is read whole",
        hint="save it as HDF5: that is read in pieces, whatever its size",
    )


def unreadable(path: Path, what: str, seen: object = "", hint: str = "") -> CaptureUnreadable:
    """The error for a file whose bytes are not what its name says."""
    said = " ".join(str(seen).split())
    return CaptureUnreadable(what, device=str(path), action="reading the measurement", seen=said[:300], hint=hint)


def as_block(values: Any) -> NDArray[np.generic]:
    """A part of an array as contiguous numpy numbers in the machine's byte order, no longer than float64."""
    block = np.asarray(values)
    if block.dtype.kind == "b" or block.dtype.itemsize > 8:
        return np.ascontiguousarray(block, np.uint8 if block.dtype.kind == "b" else np.float64)
    return np.ascontiguousarray(block, block.dtype.newbyteorder("="))
