"""Numbers that a file keeps packed, by the netCDF conventions: a factor, an offset, a number that stands for none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureValues

PACKED = ("scale_factor", "add_offset", "_FillValue", "missing_value", "valid_min", "valid_max", "valid_range")
"""Names of the attributes that say so (CF conventions, sections 2.5 and 8.1, and the attributes of netCDF)."""


@dataclass(frozen=True)
class Packing:
    """What makes numbers of a file the numbers that are meant: ``factor * stored + offset``.

    Attributes
    ----------
    factor, offset
        1 and 0 where the file says nothing.
    missing
        Stored numbers that stand for no value.
    low, high
        Of the stored numbers that are values; infinite where the file says nothing.
    unsigned
        Whether whole numbers are stored in a signed type and meant without a sign.
    """

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    unsigned: bool = False

    @classmethod
    def none(cls) -> Packing:
        """Of numbers that are stored as they are."""
        return cls()

    @classmethod
    def of(cls, path: Path, name: str, attributes: Mapping[str, Any], *, unsigned: bool) -> Packing:
        """By the attributes of a dataset.

        Raises
        ------
        CaptureValues
            When a factor or an offset is no single finite number, or the factor is zero.
        """
        factor = _single(path, name, "scale_factor", attributes, 1.0)
        offset = _single(path, name, "add_offset", attributes, 0.0)
        lacking = (np.ravel(attributes[key]) for key in ("_FillValue", "missing_value") if key in attributes)
        missing = {float(_meant(value, unsigned)) for values in lacking for value in values if not np.isnan(value)}
        low, high = _limits(attributes, unsigned)
        return cls(factor, offset, tuple(sorted(missing)), low, high, unsigned)

    @property
    def any(self) -> bool:
        """Whether stored numbers are not those that are meant."""
        return self != Packing()

    def unpacked(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The numbers that are meant, NaN for those that stand for none."""
        if not self.any:
            return stored
        values = _meant(stored, self.unsigned).astype(np.float64)
        absent = np.isin(values, self.missing) | (values < self.low) | (values > self.high)
        return np.where(absent, np.nan, self.factor * values + self.offset)

    def in_words(self, name: str) -> str:
        """``"readings is stored packed, as its attributes say: read as 0.01 × number +5; -1 stands for no value"``"""
        words = []
        if self.unsigned:
            words.append("its numbers have no sign")
        if self.factor != 1 or self.offset:
            words.append(f"read as {self.factor:g} × number {self.offset:+g}")
        if self.missing:
            words.append(f"{', '.join(f'{value:g}' for value in self.missing)} stands for no value")
        if np.isfinite([self.low, self.high]).any():
            words.append(f"numbers outside {self.low:g} … {self.high:g} are no values")
        return f"{name} is stored packed, as its attributes say: {'; '.join(words)}"


def _limits(attributes: Mapping[str, Any], unsigned: bool) -> tuple[float, float]:
    """Smallest and largest stored number that is a value."""
    low, high = -np.inf, np.inf
    for key, value in attributes.items():
        ends = _meant(np.ravel(value), unsigned).astype(np.float64)
        if key in ("valid_min", "valid_range") and ends.size and not np.isnan(ends[0]):
            low = max(low, float(ends[0]))
        if key in ("valid_max", "valid_range") and ends.size and not np.isnan(ends[-1]):
            high = min(high, float(ends[-1]))
    return low, high


def _meant(stored: Any, unsigned: bool) -> NDArray[Any]:
    """Numbers of a signed type as those of the unsigned one of the same length, where that is meant."""
    values = np.asarray(stored)
    return values.view(values.dtype.str.replace("i", "u")) if unsigned and values.dtype.kind == "i" else values


def _single(path: Path, name: str, key: str, attributes: Mapping[str, Any], usual: float) -> float:
    values = np.ravel(attributes.get(key, usual))
    value = float(values[0]) if values.size == 1 else np.nan
    if not np.isfinite(value) or (key == "scale_factor" and value == 0):
        raise CaptureValues(
            f"the attribute {key} of {name} cannot be used",
            device=str(path),
            expected="one finite number, and none that makes every value the same",
            seen=", ".join(f"{v:g}" for v in values[:8]),
            hint=f"correct the attribute, or store {name} unpacked",
        )
    return value
