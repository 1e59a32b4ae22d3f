"""Saturated readings are refused: a pixel at full scale says how bright the light was at least, and no more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.errors import Saturated
from calibration.frames.scan import Readings
from labctl.nodes.evidence import Evidence
from labctl.station.model import Limits


def unsaturated(evidence: Evidence, name: str, limits: Limits, few: float = 0.0) -> Readings:
    """A scan no more than the share ``few`` of whose frames is saturated.

    Raises
    ------
    Saturated
        When more are.
    """
    readings = evidence.scans[name]
    if (readings.saturated > limits.saturated_fraction_max).mean() > few:
        worst = int(np.argmax(readings.saturated))
        require_unsaturated(float(readings.saturated[worst]), f"{name} scan, frame {worst}", name, limits)
    return readings


def allowing_for(useless: NDArray[np.bool_], window: tuple[int, int, int, int], limits: Limits) -> Limits:
    """The limits for frames of a window (x, y, width, height) in which pixels may be at full scale that count nowhere.

    Parameters
    ----------
    useless
        (H, W) of the sensor: `calibration.bench.dark.Dark.useless`.
    """
    x, y, width, height = window
    share = float(useless[y : y + height, x : x + width].mean())
    return limits.model_copy(update={"saturated_fraction_max": limits.saturated_fraction_max + share})


def require_unsaturated(fraction: float, where: str, action: str, limits: Limits) -> None:
    """Refuse readings of which a larger fraction of pixels is at full scale than the station allows."""
    if fraction > limits.saturated_fraction_max:
        raise Saturated(
            f"saturated pixels in the {where}",
            device="camera",
            action=action,
            expected=f"at most {limits.saturated_fraction_max:g} of the pixels at full scale",
            seen=f"{fraction:.2g}",
            hint="shorten acquisition.exposure_s in the station file or lower the source",
        )
