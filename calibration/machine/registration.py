"""Where the pixels of a panel land on the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Registration:
    """Map from one panel to the camera, with the fiducials that it was fitted to.

    Attributes
    ----------
    panel
        ``"display"`` or ``"slm"``.
    panel_to_camera
        (3, 3) homography, pixel centres at integer (x, y) = (column, row).
    points_px
        (n, 2) fiducials on the panel, (x, y).
    found_px
        (n, 2) where the camera saw them.
    residual_px
        (n, 2) found − mapped.
    model
        ``"affine"``, or ``"homography"`` where the F test shows that an affine map does not fit.
    p_value
        Of the F test of the homography against the affine map: small where the fiducials need the homography.
    """

    panel: str
    panel_to_camera: Float
    points_px: Float
    found_px: Float
    residual_px: Float
    model: str
    p_value: float

    @property
    def rms_px(self) -> float:
        """Root mean square of one coordinate's residual."""
        return float(np.sqrt(np.mean(self.residual_px**2)))

    @property
    def map_stderr_px(self) -> float:
        """Standard error of a mapped point, averaged over the grid."""
        parameters = 3 if self.model == "affine" else 4
        n = len(self.points_px)
        return float(self.rms_px * np.sqrt(parameters / (n - parameters)))
