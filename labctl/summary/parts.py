"""What every part of a summary is made of, and how its numbers are written for a person."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

PLAIN_BELOW = 1e6
"""Numbers below are written out."""


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A measured number; null when it is not finite, as JSON has no NaN."""


class Part(BaseModel):
    """Every part refuses keys that are not in the schema."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


def rounded(value: float, digits: int) -> str:
    """So many digits that count, without a power of ten below a million: ``rounded(12_374.0, 4) == "12370"``."""
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e+" in text and abs(value) < PLAIN_BELOW else text


def with_error(value: float | None, stderr: float | None) -> str:
    """To the second digit of the error: ``"104.98 ± 0.21"``."""
    if value is None or not stderr or not math.isfinite(stderr):
        return number(value, ".5g")
    digits = 1 - math.floor(math.log10(stderr))
    if digits > 8 or digits < -3:
        return f"{value:.6g} ± {stderr:.2g}"
    return f"{value:.{max(digits, 0)}f} ± {stderr:.{max(digits, 0)}f}"


def number(value: float | None, form: str) -> str:
    """A figure for a person, a dash where it is missing or was not finite."""
    return "–" if value is None else format(value, form)
