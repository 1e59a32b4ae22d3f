"""Frozen dataclasses of range-checked numbers, read from a plain table with the file's own words in every refusal."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from drivers.errors import CapabilityError

T = TypeVar("T")


def param(low: float, high: float, default: Any = MISSING) -> Any:
    """One number of a table, allowed in ``low … high``, both included."""
    return field(default=default, metadata={"range": (low, high)})


class Checked:
    """Refuses numbers outside the range that their field declares."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if "range" in item.metadata:
                low, high = item.metadata["range"]
                if not low <= value <= high:
                    raise refused(
                        f"{type(self).__name__}.{item.name} is out of range",
                        expected=f"{low:g} … {high:g}",
                        seen=f"{value!r}",
                    )


def merge(default: T, table: Mapping[str, Any], where: str) -> T:
    """``default`` with what ``table`` names, table by table; ``where`` is its place in the station file.

    Raises
    ------
    CapabilityError
        For a key that does not exist, a value of another type, or one out of range.
    """
    known = [item.name for item in fields(default)]  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise refused(
                f"unknown parameter {where}.{key}",
                expected="one of " + ", ".join(known),
                seen=str(key),
                hint=f"did you mean {near[0]!r}?" if near else "",
            )
        old = getattr(default, key)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise refused(f"{where}.{key} is not a table", expected="a table", seen=repr(value))
            changes[key] = merge(old, value, f"{where}.{key}")
        else:
            changes[key] = number(old, value, f"{where}.{key}")
    return replace(default, **changes)  # type: ignore[type-var]


def number(default: float, value: Any, where: str) -> float:
    """``value`` as the type of ``default``; an integer may stand for a real number, nothing else may change type."""
    kind = type(default)
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value):
        raise refused(f"{where} has the wrong type", expected=f"a finite {kind.__name__}", seen=repr(value))
    return kind(value)


def refused(what: str, **parts: str) -> CapabilityError:
    """The error of a parameter that makes no sense."""
    return CapabilityError(what, device="mock", action="read its parameters", **parts)
