"""What is shown and read: products, their tiling into frames, probe scans, reference frames."""

from calibration.frames.probes import (
    ProbePlan,
    coupling_scan,
    crosstalk_scan,
    display_ramp,
    gain_scan,
    holdout_scan,
    levels_of_ramps,
    noise_scan,
    slm_ramp,
)
from calibration.frames.products import ProductGroup
from calibration.frames.references import References
from calibration.frames.scan import EIGHT_BIT, PanelLevels, Readings, Scan, repeats
from calibration.frames.schedule import ProductResult, TileScan, assemble, predicted

__all__ = [
    "EIGHT_BIT",
    "PanelLevels",
    "ProbePlan",
    "ProductGroup",
    "ProductResult",
    "Readings",
    "References",
    "Scan",
    "TileScan",
    "assemble",
    "coupling_scan",
    "crosstalk_scan",
    "display_ramp",
    "gain_scan",
    "holdout_scan",
    "levels_of_ramps",
    "noise_scan",
    "predicted",
    "repeats",
    "slm_ramp",
]
