"""How numbers become light and counts become numbers: the machine model, its fits, and what they say of themselves.

>>> from calibration import load_calibration
>>> found = load_calibration("bench.calib.h5")
>>> [family.name for family in found.families()][:2]
['gain', 'offset']

Names are imported when they are first used: an error class costs no linear algebra.
"""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from calibration.loading import load_calibration
    from calibration.protocol import Calibration
else:
    __getattr__, __dir__ = lazy_front(
        __name__, {"Calibration": "calibration.protocol", "load_calibration": "calibration.loading"}
    )

__all__ = ["Calibration", "load_calibration"]
