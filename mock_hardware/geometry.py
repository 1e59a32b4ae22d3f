"""Where the panels' pixels fall on the sensor.

Coordinates are of pixel centres: the centre of the pixel in row i and column j lies at x = j, y = i.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mock_hardware.config import CameraConfig, PanelConfig

Float = NDArray[np.float64]


def panel_to_camera(panel: PanelConfig, camera: CameraConfig) -> Float:
    """(3, 3) homography from panel (x, y, 1) to camera (x, y, 1) in pixels, turning about the panel's centre.

    It is where an ideal lens puts the panel; `distorted` says where the real one does.
    """
    angle = math.radians(panel.rotation_deg)
    pivot = np.array([(panel.cols - 1) / 2, (panel.rows - 1) / 2])
    to_centre = np.eye(3)
    to_centre[:2, 2] = -pivot
    tilt = np.eye(3)
    tilt[2, :2] = -panel.keystone_x / max(pivot[0], 1.0), -panel.keystone_y / max(pivot[1], 1.0)
    turn = np.eye(3)
    turn[:2, :2] = panel.magnification * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    if panel.mirrored:
        turn[:2, 0] *= -1
    turn[:2, 2] = _centre(camera) + np.array([panel.offset_x_px, panel.offset_y_px])
    return np.asarray(_as_read(camera) @ turn @ tilt @ to_centre, np.float64)


def _as_read(camera: CameraConfig) -> Float:
    """(3, 3) from where the sensor's picture would be to where a camera so mounted, and so read, has it."""
    angle, centre = math.radians(camera.turned_deg), _centre(camera)
    signs = np.array([-1.0 if camera.mirrored else 1.0, -1.0 if camera.upside_down else 1.0])
    read = np.eye(3)
    read[:2, :2] = signs[:, None] * [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    read[:2, 2] = centre - read[:2, :2] @ centre
    return read


def distorted(points: Float, camera: CameraConfig, distortion: float) -> Float:
    """(n, 2) sensor points at which the relay shows what an ideal one would show at ``points``."""
    centre, radius = _centre(camera), half_diagonal_px(camera)
    ideal = (points - centre) / radius
    seen = ideal.copy()
    for _ in range(20):  # a fixed point of seen (1 + distortion |seen|²) = ideal
        seen = ideal / (1 + distortion * (seen**2).sum(axis=-1, keepdims=True))
    return np.asarray(centre + radius * seen, np.float64)


def half_diagonal_px(camera: CameraConfig) -> float:
    """From the sensor's centre to the centre of a corner pixel [px]."""
    return max(math.hypot(camera.cols - 1, camera.rows - 1) / 2, 1.0)


def panel_box(inverse: Float, roi_px: tuple[int, int, int, int], camera: CameraConfig, distortion: float) -> Float:
    """(2, 2) smallest and largest panel (x, y) that the sensor's region (x, y, width, height) sees."""
    x, y, width, height = roi_px
    across, down = x + np.linspace(0, width - 1, 33), y + np.linspace(0, height - 1, 33)
    edge = np.concatenate(
        [
            np.stack(np.broadcast_arrays(across, np.array([[y], [y + height - 1]])), -1).reshape(-1, 2),
            np.stack(np.broadcast_arrays(np.array([[x], [x + width - 1]]), down), -1).reshape(-1, 2),
        ]
    )
    seen = camera_to_panel(edge, inverse, camera, distortion)
    return np.stack([seen.min(axis=0), seen.max(axis=0)])


def camera_to_panel(
    points: Float, inverse: NDArray[np.floating[Any]], camera: CameraConfig, distortion: float
) -> Float:
    """(n, 2) panel points that the sensor sees at ``points``; ``inverse`` is that of `panel_to_camera`."""
    offset = points - _centre(camera)
    square = (offset**2).sum(axis=-1, keepdims=True) / half_diagonal_px(camera) ** 2
    ideal = points + offset * distortion * square
    seen = np.c_[ideal, np.ones(len(ideal))] @ inverse.T
    return np.asarray(seen[:, :2] / seen[:, 2:], np.float64)


def _centre(camera: CameraConfig) -> Float:
    return np.array([(camera.cols - 1) / 2, (camera.rows - 1) / 2])
