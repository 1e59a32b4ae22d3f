"""Options of a backend: a frozen dataclass, read from a table of the station file and checked key by key.

Fields are numbers, strings, true or false, a choice of words (``Literal``), a list of one of these (``tuple[X, ...]``),
another such dataclass, or a table handed on as it is (``Mapping``); each may also be None (``X | None``). `option`
adds a range to a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from drivers.errors import OptionError
from groundwork.nearest import did_you_mean

T = TypeVar("T")

NOTHING = "nothing"
"""What was seen of an option that must be given and is not."""


def option(low: float, high: float, default: Any = MISSING) -> Any:
    """One number, allowed in ``low … high``, both included; without a default it must be given."""
    return field(default=default, metadata={"range": (low, high)})


class Checked:
    """Base of a dataclass that refuses numbers outside the range that their `option` declares."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            _check_range(item, getattr(self, item.name), f"{type(self).__name__}.{item.name}")


@dataclass(frozen=True)
class NoOptions(Checked):
    """Options of a backend that has none."""


def parse(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Options of type ``kind`` from a table; what it does not name has its default.

    Parameters
    ----------
    kind
        A frozen dataclass.
    table
        As TOML is read: plain types.
    where
        What the station file calls the table, ``"devices.camera"``; for the error.

    Raises
    ------
    OptionError
        For a key that does not exist or is missing, a value of another type, or one out of range: with the key, what
        is expected, what was seen, and the nearest key that exists.
    """
    values = _values(kind, table, where)
    absent = [
        item.name
        for item in fields(kind)  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING and item.name not in values
    ]
    if absent:
        raise refused(f"{where}.{absent[0]} is missing", expected=_words(_hints(kind)[absent[0]]), seen=NOTHING)
    return kind(**values)


def merge(default: T, table: Mapping[str, Any], where: str) -> T:
    """``default`` with what ``table`` names, table by table; otherwise as `parse`."""
    kind = type(default)
    hints = _hints(kind)
    changes = {
        key: merge(getattr(default, key), value, f"{where}.{key}")
        if is_dataclass(hints.get(key)) and isinstance(value, Mapping)
        else value
        for key, value in table.items()
    }
    merged: T = replace(default, **_values(kind, changes, where))  # type: ignore[type-var]
    return merged


def refused(what: str, **parts: str) -> OptionError:
    """The error of an option that makes no sense."""
    return OptionError(what, action="reading options", **parts)


def _values(kind: type[Any], table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Each value of the table, as the type of its field."""
    hints = _hints(kind)
    for key in table:
        if key not in hints:
            raise refused(
                f"unknown option {where}.{key}",
                expected="one of " + ", ".join(hints) if hints else "no options",
                seen=str(key),
                hint=did_you_mean(key, hints),
            )
    values = {key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    for item in fields(kind):
        if item.name in values:
            _check_range(item, values[item.name], f"{where}.{item.name}")
    return values


def _check_range(item: Field[Any], value: Any, name: str) -> None:
    low, high = item.metadata.get("range", (None, None))
    if low is not None and value is not None and not low <= value <= high:
        raise refused(f"{name} is out of range", expected=f"{low:g} … {high:g}", seen=f"{value!r}")


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Field → type, with annotations that are strings resolved."""
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}


def _value(hint: Any, value: Any, where: str) -> Any:
    """``value`` as ``hint`` asks for; an integer may stand for a real number, nothing else may change its type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return None if value is None else _value(next(arg for arg in args if arg is not NoneType), value, where)
    if is_dataclass(hint):
        if isinstance(value, Mapping):
            return parse(hint, value, where)  # type: ignore[arg-type]
        fits = isinstance(value, hint)  # type: ignore[arg-type]
    elif origin is tuple:
        fits = isinstance(value, Sequence) and not isinstance(value, str)
        if fits:
            return tuple(_value(args[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    elif origin is Literal:
        fits = value in args
    elif origin is Mapping or hint is Mapping:
        fits = isinstance(value, Mapping)
    elif hint is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        value = float(value) if fits else value
    elif hint is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    else:
        fits = isinstance(value, hint)
    if not fits and origin is Literal:
        raise refused(
            f"{where} is none of its choices", expected=_words(hint), seen=repr(value), hint=did_you_mean(value, args)
        )
    if not fits:
        raise refused(f"{where} has the wrong type", expected=_words(hint), seen=repr(value))
    return value


def _words(hint: Any) -> str:
    """What a field may be, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _words(next(arg for arg in args if arg is not NoneType))
    if origin is Literal:
        return "one of " + ", ".join(repr(arg) for arg in args)
    if origin is tuple:
        return f"a list, each entry {_words(args[0])}"
    if is_dataclass(hint) or origin is Mapping:
        return "a table"
    words = {int: "a whole number", float: "a finite number", str: "a string", bool: "true or false"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))
