"""Numbers that a file keeps packed, by the netCDF conventions: a factor, an offset, a number that stands for none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labctl.errors import CaptureValues

PACKED = ("scale_factor", "add_offset", "_FillValue", "missing_value")
"""Names of the attributes that say so (CF conventions, section 8.1, and the attributes of netCDF)."""


@dataclass(frozen=True)
class Packing:
    """What makes numbers of a file the numbers that are meant: ``factor * stored + offset``.

    Attributes
    ----------
    factor, offset
        1 and 0 where the file says nothing.
    missing
        Stored numbers that stand for no value.
    """

    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()

    @classmethod
    def none(cls) -> Packing:
        """Of numbers that are stored as they are."""
        return cls()

    @classmethod
    def of(cls, path: Path, name: str, attributes: Mapping[str, Any]) -> Packing:
        """By the attributes of a dataset.

        Raises
        ------
        CaptureValues
            When a factor or an offset is no single finite number, or the factor is zero.
        """
        factor = _single(path, name, "scale_factor", attributes, 1.0)
        offset = _single(path, name, "add_offset", attributes, 0.0)
        lacking = (np.ravel(attributes[key]) for key in ("_FillValue", "missing_value") if key in attributes)
        missing = {float(value) for values in lacking for value in values if not np.isnan(value)}
        return cls(factor, offset, tuple(sorted(missing)))

    @property
    def any(self) -> bool:
        """Whether stored numbers are not those that are meant."""
        return self.factor != 1 or self.offset != 0 or bool(self.missing)

    def unpacked(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The numbers that are meant, NaN for those that stand for none."""
        if not self.any:
            return stored
        values = stored.astype(np.float64)
        return np.where(np.isin(values, self.missing), np.nan, self.factor * values + self.offset)

    def in_words(self, name: str) -> str:
        """``"readings are stored packed: read as 0.01 × number + 5; −1 stands for none"``"""
        words = []
        if self.factor != 1 or self.offset:
            words.append(f"read as {self.factor:g} × number {self.offset:+g}")
        if self.missing:
            words.append(f"{', '.join(f'{value:g}' for value in self.missing)} stands for no value")
        return f"{name} is stored packed, as its attributes say: {'; '.join(words)}"


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
