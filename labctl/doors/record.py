"""What every door hands on: a run or a calibration as streams of rows, each value with its unit and its axes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_SUFFIXES = {
    "dn": "DN",
    "s": "s",
    "hz": "Hz",
    "px": "px",
    "um": "um",
    "nm": "nm",
    "w": "W",
    "mw": "mW",
    "c": "degC",
    "deg": "deg",
}
"""How names end that state a unit; anything else that is a number is a plain one."""


@dataclass(frozen=True)
class Field:
    """One value of each row.

    Attributes
    ----------
    dtype
        Of numpy; kind ``O`` for text.
    shape
        Of one row's value; ``()`` for a number.
    unit
        ``"DN"``; ``"1"`` for a plain number, empty for text.
    axes
        Name of each axis of one row's value.
    stderr
        Name of the field that holds the standard errors of this one.
    words
        What it is, where the name does not say it.
    filed
        Whether it lies in a file as it is here, in a dataset of this name.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    unit: str
    axes: tuple[str, ...]
    stderr: str | None = None
    words: str = ""
    filed: bool = False


@dataclass(frozen=True)
class Part:
    """Rows of a stream that lie together.

    Attributes
    ----------
    time_s
        (n,) when each row was read, or written down [s since the epoch].
    arrays
        Field → (n, …).
    file
        The file in whose datasets of the same names the `Field.filed` arrays lie as they are; None where there is none.
    """

    time_s: NDArray[np.float64]
    arrays: Mapping[str, Array]
    file: Path | None = None


@dataclass(frozen=True)
class Stream:
    """Rows of one kind.

    Attributes
    ----------
    name
        Letters, digits and ``_``: a name in every format.
    title
        For a person.
    row
        What a row is: ``"frame"``; empty where there is one row alone, which then needs no axis.
    fields
        By name.
    rows
        How many there are.
    about
        What is the same for all rows; JSON types.
    signal
        The field that a viewer draws first; empty where there is nothing to draw.
    parts
        Reads the rows, part by part.
    """

    name: str
    title: str
    row: str
    fields: Mapping[str, Field]
    rows: int
    parts: Callable[[], Iterator[Part]]
    about: Mapping[str, Any] = field(default_factory=dict)
    signal: str = ""


@dataclass(frozen=True)
class Record:
    """A run or a calibration.

    Attributes
    ----------
    id, title, bench
        Of it; ``bench`` is empty where nobody said.
    about
        Where it comes from: JSON types, no key with a dot or a slash.
    started_s, ended_s
        Seconds since the epoch.
    outcome
        ``"success"``, ``"abort"`` or ``"fail"``: a run that has not measured what it planned is no success.
    reason
        In words.
    streams
        In the order in which they were measured.
    texts
        Whole documents, by name: the station file, the summary.
    not_held
        What of the run or the calibration is not in here, for the person who takes it elsewhere.
    """

    id: str
    title: str
    bench: str
    about: Mapping[str, Any]
    started_s: float
    ended_s: float
    outcome: str
    reason: str
    streams: Sequence[Stream]
    texts: Mapping[str, str]
    not_held: Sequence[str]

    @property
    def default(self) -> Stream | None:
        """The stream that a viewer draws first: products, or else what was read last; None where nothing was read."""
        drawn = [stream for stream in self.streams if stream.signal and not stream.name.startswith("monitor_")]
        return next((stream for stream in drawn if stream.name.startswith("products")), drawn[-1] if drawn else None)


def plain_name(text: str) -> str:
    """The text with anything but letters, digits and ``_`` made ``_``: ``"power-meter"`` is ``"power_meter"``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text) or "_"


def free_name(text: str, taken: Mapping[str, object] | set[str]) -> str:
    """`plain_name`, with a number behind it where that is taken."""
    name = plain_name(text)
    if name not in taken:
        return name
    return next(found for count in itertools.count(2) if (found := f"{name}_{count}") not in taken)


def unit_of(name: str) -> str:
    """What a name says of its unit: ``"exposure_s"`` is ``"s"``; ``"1"`` where it says nothing."""
    return _SUFFIXES.get(name.rpartition("_")[2], "1")


def described(array: Array, axes: Sequence[str] = (), unit: str = "", **more: Any) -> Field:
    """The field that (n, …) an array holds; axes without a name are numbered."""
    shape = array.shape[1:]
    names = tuple(axes[i] if i < len(axes) else f"axis_{i}" for i in range(len(shape)))
    is_text = array.dtype.kind in "OU"
    if not is_text and array.dtype.kind not in "fiub":
        raise ValueError(f"no numbers that other systems know: {array.dtype}")
    return Field(np.dtype(object) if is_text else array.dtype, shape, "" if is_text else unit or "1", names, **more)


def column(values: Sequence[Any]) -> Array:
    """Values of JSON types as an array with a row for each: numbers with NaN for null, else text.

    Lists of numbers of one length become (n, length); what fits no array is written as JSON.
    """
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, bool)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    is_exact = all(abs(value) <= 2**53 for value in values if type(value) is int)
    if is_exact and kinds & {int, float} and kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    if kinds == {list} and len({len(value) for value in values}) == 1:
        inner = [column(value) for value in values if value]
        if inner and all(part.dtype.kind in "if" and part.ndim == 1 for part in inner):
            return np.stack(inner)
    texts = np.empty(len(values), object)
    texts[:] = [clean(value if isinstance(value, str) else json.dumps(value, sort_keys=True)) for value in values]
    return texts


def clean(value: Any) -> Any:
    """A JSON value with texts that every format can write: no NUL, and nothing that is no character."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {plain_name(str(key)): clean(inner) for key, inner in value.items()}
    return [clean(inner) for inner in value] if isinstance(value, list) else value


def rows_of(
    name: str,
    title: str,
    row: str,
    arrays: Mapping[str, Array],
    fields: Mapping[str, Field],
    time_s: NDArray[np.float64],
    *,
    about: Mapping[str, Any] | None = None,
    signal: str = "",
) -> Stream:
    """A stream whose rows are in memory already."""
    part = Part(time_s, arrays)
    return Stream(name, title, row, fields, len(time_s), lambda: iter([part]), about or {}, signal)
