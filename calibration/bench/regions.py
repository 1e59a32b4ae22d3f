"""Camera regions: which pixel belongs to which output, and the sums the camera-side read-out makes of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from calibration.errors import BadScan
from calibration.machine.layout import Layout, apply_homography
from calibration.machine.registration import NO_LENS, Lens

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """One band of camera pixels per output row, as weights of a sum.

    Attributes
    ----------
    window
        (x, y, width, height) of the sensor that holds all bands [px]: the camera's region of interest.
    weights
        (M, height·width) sparse float64; a pixel that two bands share counts for each with its covered fraction.
    """

    window: tuple[int, int, int, int]
    weights: sparse.csr_matrix

    def sum(self, frames: NDArray[np.uint16]) -> Float:
        """Region sums of frames (n, H, W) [DN] → (n, M) float64 [DN]."""
        flat = frames.reshape(len(frames), -1)
        return np.stack([self.weights @ frame.astype(np.float64) for frame in flat])

    def central(self, rows: int) -> Regions:
        """Only the ``rows`` bands in the middle, in a window no higher than they need."""
        m = self.weights.shape[0]
        first = (m - min(rows, m)) // 2
        kept = self.weights[first : first + min(rows, m)]
        x, y, width, _ = self.window
        top, bottom = int(kept.indices.min()) // width, int(kept.indices.max()) // width + 1
        return Regions((x, y + top, width, bottom - top), kept[:, top * width : bottom * width].tocsr())

    @property
    def area_px(self) -> Float:
        """(M,) Σw: pixels per region."""
        return np.asarray(self.weights.sum(axis=1), np.float64).ravel()

    @property
    def area2_px(self) -> Float:
        """(M,) Σw²: what independent pixel noise is multiplied by."""
        return np.asarray(self.weights.multiply(self.weights).sum(axis=1), np.float64).ravel()


def camera_regions(
    layout: Layout,
    slm_to_camera: Float,
    sensor_shape: tuple[int, int],
    margin_columns: float = 0.5,
    lens: Lens = NO_LENS,
    useless: NDArray[np.bool_] | None = None,
) -> Regions:
    """Bands of the rows of ``layout`` on the camera.

    Parameters
    ----------
    slm_to_camera
        (3, 3) homography from SLM to camera pixel coordinates.
    margin_columns
        How far each band reaches beyond the first and last column [macropixels], for light the lens spreads.
    lens
        Through which the camera sees what the homography maps.
    useless
        (H, W) pixels of the sensor that no region counts; None where all are good.

    Raises
    ------
    BadScan
        When the grid does not lie wholly on the sensor.
    """
    top, bottom, left, right = layout.box_px
    pad_x, pad_y = margin_columns * layout.pitch_columns_px, 0.5 * layout.pitch_rows_px
    along = np.linspace(0.0, 1.0, 9)
    grid_x, grid_y = np.meshgrid(left - pad_x + along * (right - left + 2 * pad_x), along)
    grid_y = top - pad_y + grid_y * (bottom - top + 2 * pad_y)
    cx, cy = lens.seen(*apply_homography(slm_to_camera, grid_x, grid_y))
    x0, x1 = int(np.floor(cx.min())), int(np.ceil(cx.max())) + 1
    y0, y1 = int(np.floor(cy.min())), int(np.ceil(cy.max())) + 1
    if x0 < 0 or y0 < 0 or x1 > sensor_shape[1] or y1 > sensor_shape[0]:
        raise BadScan(
            "the grid of macropixels does not lie wholly on the camera",
            device="camera",
            action="registration",
            expected=f"columns 0…{sensor_shape[1]}, rows 0…{sensor_shape[0]}",
            seen=f"columns {x0}…{x1}, rows {y0}…{y1}",
            hint="make [layout] smaller or move the camera, then: labctl station check",
        )
    grid = np.mgrid[y0:y1, x0:x1].astype(np.float64)
    v, u = np.asarray(grid[0]), np.asarray(grid[1])
    sx, sy = apply_homography(np.asarray(np.linalg.inv(slm_to_camera), np.float64), *lens.straight(u, v))
    row = (sy - top) / layout.pitch_rows_px
    half = 0.5 * np.max(np.abs(np.gradient(row)), axis=0)  # along the sensor's axis that crosses the bands
    across = (sx > left - pad_x) & (sx < right + pad_x)
    if useless is not None:
        across &= ~useless[y0:y1, x0:x1]
    first = np.floor(row - half).astype(np.int64)
    pixel = np.arange(row.size).reshape(row.shape)
    entries = []
    for step in (0, 1):
        band = first + step
        overlap = (np.minimum(row + half, band + 1.0) - np.maximum(row - half, band)) / (2 * half)
        keep = across & (band >= 0) & (band < layout.rows) & (overlap > 1e-6)
        entries.append((overlap[keep], band[keep], pixel[keep]))
    weight, band, where = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    matrix = sparse.csr_matrix((weight, (band, where)), shape=(layout.rows, row.size))
    return Regions((x0, y0, x1 - x0, y1 - y0), matrix)
