"""Registration: where each panel's pixels land on the camera, from fiducial dots, to a fraction of a pixel.

Two steps for each panel. Three single squares, shown one after another, give a first affine map whatever the
rotation or reflection. A grid of dots, found where that map predicts them, gives the homography.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibration.errors import BadScan, FitError
from calibration.machine.layout import apply_homography
from calibration.machine.lut import Levels, level_dtype
from calibration.machine.registration import Registration
from calibration.statistics.tails import f_sf

Float = NDArray[np.float64]
Image = NDArray[np.float64]

SQUARE_PX = 48
DOT_PX = 9
GRID = (7, 9)
EDGE = 0.08
SNR_MIN = 8.0


def square_centres(panel_shape: tuple[int, int]) -> Float:
    """(3, 2) centres (x, y) of the coarse squares: an L, so that a reflection cannot hide."""
    rows, columns = panel_shape
    return np.array([[0.3, 0.3], [0.7, 0.3], [0.3, 0.7]]) * (columns - 1, rows - 1)


def grid_centres(panel_shape: tuple[int, int]) -> Float:
    """(n, 2) centres (x, y) of the fine dots, on whole pixels."""
    rows, columns = panel_shape
    y = np.linspace(EDGE, 1 - EDGE, GRID[0]) * (rows - 1)
    x = np.linspace(EDGE, 1 - EDGE, GRID[1]) * (columns - 1)
    return np.round(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))


def draw(panel_shape: tuple[int, int], centres: Float, size_px: int, level: int) -> Levels:
    """Panel frame of squares of ``size_px`` at the panel's brightest ``level``, (n, 2) ``centres``, on dark ground."""
    frame = np.zeros(panel_shape, level_dtype(level + 1))
    half = size_px // 2
    for x, y in np.round(centres).astype(int):
        frame[max(y - half, 0) : y - half + size_px, max(x - half, 0) : x - half + size_px] = level
    return frame


def register(panel: str, panel_shape: tuple[int, int], squares: Image, grid: Image, noise_dn: float) -> Registration:
    """Fit panel → camera.

    Parameters
    ----------
    squares
        (3, H, W) camera frames of `square_centres`, one square each, background subtracted [DN].
    grid
        (H, W) camera frame of `grid_centres`, background subtracted [DN].
    noise_dn
        Standard deviation of one pixel of these frames where no light falls [DN].

    Raises
    ------
    BadScan
        When squares or most dots are not seen.
    """
    coarse = np.array([_brightest(panel, image, noise_dn) for image in squares])
    corners = square_centres(panel_shape)
    affine = np.vstack([cv2.getAffineTransform(corners.astype(np.float32), coarse.astype(np.float32)), [0, 0, 1]])
    scale = float(np.sqrt(abs(np.linalg.det(affine[:2, :2]))))
    if not 0.05 < scale < 20:
        raise BadScan(
            f"the coarse fiducials of the {panel} do not form the L that was shown",
            device=panel,
            action="registration",
            expected="a magnification of 0.05 … 20 camera pixels per panel pixel",
            seen=f"{scale:.3g}",
            hint="look for reflections or a covered panel: labctl devices list",
        )
    points = grid_centres(panel_shape)
    found, keep = [], []
    for i, (x, y) in enumerate(points):
        px, py = apply_homography(affine, np.array(x), np.array(y))
        centre = _centroid(grid, float(px), float(py), scale * DOT_PX, noise_dn)
        if centre is not None:
            keep.append(i)
            found.append(centre)
    if len(keep) < 0.6 * len(points):
        raise BadScan(
            f"only {len(keep)} of {len(points)} fiducials of the {panel} were found",
            device=panel,
            action="registration",
            expected=f"at least {int(np.ceil(0.6 * len(points)))}",
            seen=str(len(keep)),
            hint="check focus and that the whole panel lies on the camera: labctl devices list",
        )
    return _fit(panel, points[keep], np.array(found))


def between(source: Registration, target: Registration) -> Float:
    """(3, 3) homography from one panel's pixels to the other's, through the camera."""
    h = np.linalg.inv(target.panel_to_camera) @ source.panel_to_camera
    return np.asarray(h / h[2, 2])


def _brightest(panel: str, image: Image, noise_dn: float) -> tuple[float, float]:
    """Centre of the one bright square: the peak of a local mean, refined by a centroid."""
    window = 9
    smooth = ndimage.uniform_filter(image, window)
    y, x = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    peak, threshold = smooth[y, x], SNR_MIN * noise_dn / window
    if not peak > threshold:
        raise BadScan(
            f"no light from the {panel} reaches the camera",
            device=panel,
            action="registration",
            expected=f"a square brighter than {threshold:.3g} DN",
            seen=f"{peak:.3g} DN at ({x}, {y})",
            hint="is the source on and unblocked? labctl devices list",
        )
    labels, _ = ndimage.label(smooth > 0.5 * peak)
    cy, cx = ndimage.center_of_mass(smooth, labels, labels[y, x])
    return float(cx), float(cy)


def _centroid(image: Image, x: float, y: float, size_px: float, noise_dn: float) -> tuple[float, float] | None:
    """Background-free centroid of the dot near (x, y), re-centred until it rests; None where there is no dot."""
    half = int(np.ceil(size_px)) + 1
    for _ in range(6):
        cx, cy = round(x), round(y)
        if not (half <= cx < image.shape[1] - half and half <= cy < image.shape[0] - half):
            return None
        patch = image[cy - half : cy + half + 1, cx - half : cx + half + 1]
        rim = np.concatenate([patch[0], patch[-1], patch[1:-1, 0], patch[1:-1, -1]])
        light = patch - np.median(rim)
        total = light.sum()
        if total < SNR_MIN * noise_dn * light.shape[0]:
            return None
        offset = np.arange(-half, half + 1)
        nx, ny = cx + (light.sum(0) @ offset) / total, cy + (light.sum(1) @ offset) / total
        if max(abs(nx - cx), abs(ny - cy)) < 0.75:  # half a pixel, and room for noise at the boundary
            return float(nx), float(ny)
        x, y = nx, ny
    return None


def _fit(panel: str, points: Float, found: Float) -> Registration:
    """Affine or homography, chosen by an F test at 1 %."""
    ones = np.column_stack([points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(ones, found, rcond=None)
    affine = np.vstack([solution.T, [0, 0, 1]])
    homography, _ = cv2.findHomography(points, found, method=0)
    if homography is None:
        raise FitError(f"no homography fits the fiducials of the {panel}", device=panel, action="registration")
    residual = {}
    for name, h in (("affine", affine), ("homography", homography)):
        residual[name] = found - np.stack(
            apply_homography(np.asarray(h, np.float64), points[:, 0], points[:, 1]), axis=1
        )
    rss_affine, rss_homography = (float((r**2).sum()) for r in residual.values())
    dof = 2 * len(points) - 8
    f = ((rss_affine - rss_homography) / 2) / (rss_homography / dof)
    p_value = float(f_sf(max(f, 0.0), 2, dof))
    model = "homography" if p_value < 0.01 else "affine"
    chosen = homography if model == "homography" else affine
    return Registration(panel, np.asarray(chosen, np.float64), points, found, residual[model], model, p_value)
