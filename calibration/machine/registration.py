"""Where the pixels of a panel land on the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.machine.layout import apply_homography

Float = NDArray[np.float64]

UPRIGHT = "upright"
STRAIGHT_DEG = 15.0
"""A panel turned by less stands upright for people: hands align a mount to a few degrees."""
ROUNDS = 30
"""Of Newton's method for where a lens shows a point: each squares the error, the first begins within a pixel or two."""


@dataclass(frozen=True)
class Lens:
    """Radial distortion of the lens in front of the camera, common to all that it images.

    A point seen at ``p`` would lie at ``c + (p − c) (1 + d |p − c|² / R²)`` behind a lens without distortion (D. C.
    Brown, Photogramm. Eng. 37 (1971) 855, first term).

    Attributes
    ----------
    centre_px
        c, (x, y) [camera px].
    radius_px
        R, from there to the sensor's corners [camera px].
    distortion
        d: by what part of its distance from the centre a corner is displaced; positive is barrel [1].
    """

    centre_px: tuple[float, float] = (0.0, 0.0)
    radius_px: float = 1.0
    distortion: float = 0.0

    @classmethod
    def over(cls, sensor_shape: tuple[int, int], distortion: float = 0.0) -> Lens:
        """Centred on a sensor (rows, columns)."""
        x, y = (sensor_shape[1] - 1) / 2, (sensor_shape[0] - 1) / 2
        return cls((x, y), float(np.hypot(x, y)), distortion)

    def straight(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Where the points seen at camera pixels (x, y) would lie without distortion."""
        u, v = x - self.centre_px[0], y - self.centre_px[1]
        stretch = self.distortion * (u**2 + v**2) / self.radius_px**2
        return x + u * stretch, y + v * stretch

    def seen(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Where the camera sees what would lie at (x, y) without distortion."""
        u, v = x - self.centre_px[0], y - self.centre_px[1]
        ideal2 = (u**2 + v**2) / self.radius_px**2
        shrink = np.ones_like(ideal2)  # the root of s (1 + d s² |ideal|²) = 1
        for _ in range(ROUNDS if self.distortion else 0):
            cubic = self.distortion * ideal2 * shrink**2
            shrink = shrink - (shrink * (1 + cubic) - 1) / np.maximum(1 + 3 * cubic, 0.1)
        return self.centre_px[0] + u * shrink, self.centre_px[1] + v * shrink


NO_LENS = Lens()
"""Shows everything where it lies."""


class Pose(NamedTuple):
    """How a panel lies on the camera's picture, at the panel's middle.

    Attributes
    ----------
    magnification
        Camera pixels per panel pixel: the root of the ratio of areas [1].
    turned_deg
        By how much the panel's x axis is turned, clockwise, −180 … 180; of a mirrored picture, once it is mirrored back
        left for right [deg].
    mirrored
        Whether no rotation makes it the picture that was shown.
    """

    magnification: float
    turned_deg: float
    mirrored: bool

    @classmethod
    def of(cls, panel_to_camera: Float, panel_shape: tuple[int, int]) -> Pose:
        """Of a panel (rows, columns) under its (3, 3) homography."""
        middle = np.array([(panel_shape[1] - 1) / 2, (panel_shape[0] - 1) / 2])
        corner = middle + np.array([[0, 0], [1, 0], [0, 1]])
        x, y = apply_homography(panel_to_camera, corner[:, 0], corner[:, 1])
        along, down = np.array([x[1] - x[0], y[1] - y[0]]), np.array([x[2] - x[0], y[2] - y[0]])
        area = float(along[0] * down[1] - along[1] * down[0])
        upright = along if area > 0 else -along
        return cls(float(np.sqrt(abs(area))), float(np.degrees(np.arctan2(upright[1], upright[0]))), area < 0)

    def turned_from(self, other: Pose) -> float:
        """By how much it is turned against another, −180 … 180 [deg]."""
        return float((self.turned_deg - other.turned_deg + 180) % 360 - 180)

    @property
    def in_words(self) -> str:
        """Such as ``"mirrored and turned by 90°"``; ``"upright"`` where it is turned by less than `STRAIGHT_DEG`."""
        if abs(self.turned_deg) < STRAIGHT_DEG:
            return "mirrored left to right" if self.mirrored else UPRIGHT
        if abs(self.turned_deg) > 180 - STRAIGHT_DEG:
            return "mirrored top to bottom" if self.mirrored else "upside down"
        return f"{'mirrored and ' if self.mirrored else ''}turned by {self.turned_deg:.0f}°"


@dataclass(frozen=True)
class Registration:
    """Map from one panel to the camera, with the fiducials that it was fitted to.

    Attributes
    ----------
    panel
        ``"display"`` or ``"slm"``.
    panel_to_camera
        (3, 3) homography, pixel centres at integer (x, y) = (column, row), to where they would lie without `lens`.
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
    lens
        `Lens`; one without distortion where the fiducials do not need it.
    """

    panel: str
    panel_to_camera: Float
    points_px: Float
    found_px: Float
    residual_px: Float
    model: str
    p_value: float
    lens: Lens = NO_LENS

    def to_camera(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Camera pixels at which panel points (x, y) are seen."""
        return self.lens.seen(*apply_homography(self.panel_to_camera, x, y))

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
