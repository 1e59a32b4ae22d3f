"""How numbers become light and counts become numbers: the machine model, its fits, and what they say of themselves.

>>> from calibration import load_calibration
>>> found = load_calibration("bench.calib.h5")
>>> [family.name for family in found.families()][:2]
['gain', 'offset']

Names are imported when they are first used: an error class costs no linear algebra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calibration.loading import load_calibration
    from calibration.protocol import Calibration

_HOMES = {"Calibration": "calibration.protocol", "load_calibration": "calibration.loading"}

__all__ = ["Calibration", "load_calibration"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
