"""Finding a panel on the camera with nothing known beforehand: stripes that number the panel's pixels.

Each camera pixel learns which cell of the panel it sees, from stripes in a Gray code: neighbouring cells differ in one
picture only, so that a pixel on the border of two is wrong by no more than one cell. Each picture is shown with its
negative, and what a pixel sees is which of the two is brighter: illumination, gain and gamma do not matter. The map is
found whatever the rotation, reflection or scale, and where only a part of the panel is seen.

Source of the method: K. Sato, S. Inokuchi, Range-imaging system utilizing nematic liquid crystal mask, ICCV 1987.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from calibration.machine.layout import apply_homography
from calibration.machine.registration import Pose

Float = NDArray[np.float64]
Axis = Literal["x", "y"]

FINEST_PX = 16
"""Width of the narrowest stripes [panel px]: wider than the blur of a bench that is nearly in focus."""
CONTRAST_MIN = 0.3
"""Part of the panel's full contrast that a picture and its negative must differ by in a pixel that is believed."""
NOISE_MIN = 5.0
"""Standard deviations of a pixel's noise by which they must differ, too."""
CELLS_MIN = 12
CELL_PIXELS_MIN = 6
COARSEST_BITS = 3


@dataclass(frozen=True)
class Stripes:
    """One picture of the code.

    Attributes
    ----------
    axis
        Along which the stripes alternate.
    cell_px
        Width of the cells that the whole code numbers [panel px].
    code : (n,) bool
        Of each panel column (axis ``"x"``) or row (``"y"``): whether it is bright.
    """

    axis: Axis
    cell_px: int
    code: NDArray[np.bool_]

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """(rows, columns) of the panel: where the picture is bright; its negative is bright everywhere else."""
        line = self.code[None, :] if self.axis == "x" else self.code[:, None]
        return np.broadcast_to(line, shape)


@dataclass(frozen=True)
class Located:
    """Where a panel is on the camera.

    Attributes
    ----------
    panel_to_camera
        (3, 3) homography between pixel centres (x, y) = (column, row).
    rms_px
        Of one coordinate of a cell's centre, seen against mapped [camera px].
    cells
        How many cells it rests on.
    visible
        Part of the panel's area that lies on the sensor [1].
    magnification
        Camera pixels per panel pixel at the panel's middle: the root of the ratio of areas [1].
    turned_deg
        By how much the panel's x axis is turned on the camera's picture, clockwise, −180 … 180 [deg].
    mirrored
        Whether the picture is mirrored: no rotation makes it the one that was shown.
    taper
        Keystone: how far a corner lies from where a map that keeps lines parallel puts it, to the diagonal [1].
    """

    panel_to_camera: Float
    rms_px: float
    cells: int
    visible: float
    magnification: float
    turned_deg: float
    mirrored: bool
    taper: float = 0.0


def stripes(shape: tuple[int, int], finest_px: int = FINEST_PX) -> list[Stripes]:
    """The pictures that number the cells of a panel (rows, columns), the widest stripes first, along x and then y."""
    pictures = []
    for axis, size in (("x", shape[1]), ("y", shape[0])):
        cell = np.arange(size) // finest_px
        gray = cell ^ (cell >> 1)
        bits = max(int(cell[-1]).bit_length(), 1)
        pictures += [Stripes(axis, finest_px, (gray >> k & 1).astype(bool)) for k in reversed(range(bits))]  # type: ignore[arg-type]
    return pictures


@dataclass(frozen=True)
class Seen:
    """The camera's frames of one panel, dark signal not subtracted: only differences are used.

    Attributes
    ----------
    shape
        (rows, columns) of the panel [px].
    pictures
        What was shown.
    differences : (n, H, W)
        Frame of each picture minus frame of its negative [DN].
    contrast : (H, W)
        Frame of the whole panel bright minus frame of it dark [DN].
    noise_dn
        Standard deviation of a pixel of ``contrast`` where nothing changes [DN].
    """

    shape: tuple[int, int]
    pictures: Sequence[Stripes]
    differences: Float
    contrast: Float
    noise_dn: float

    @property
    def lit(self) -> NDArray[np.bool_]:
        """(H, W) pixels that see the panel change by more than noise and a tenth of what the best ones see."""
        size = np.abs(self.contrast)
        top = float(np.quantile(size, 0.99))
        return np.asarray(size > max(0.1 * top, NOISE_MIN * self.noise_dn))

    def relative(self, picture: int) -> Float:
        """(H, W) difference of a picture and its negative in units of the contrast: 1 bright, −1 dark, 0 undecided."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.lit, self.differences[picture] / self.contrast, 0.0)

    def resolved(self, axis: Axis) -> list[int]:
        """Pictures along an axis that are told from their negatives almost everywhere, the widest stripes first."""
        lit, kept = self.lit, []
        for index in (i for i, picture in enumerate(self.pictures) if picture.axis == axis):
            clear = np.abs(self.relative(index)[lit]) > CONTRAST_MIN
            if not clear.size or float(clear.mean()) < 0.6:
                break
            kept.append(index)
        return kept


def told_apart(seen: Seen) -> str:
    """The axes of the panel along which enough pictures are told from their negatives: of ``"x"`` and ``"y"``."""
    axes: tuple[Axis, Axis] = ("x", "y")
    return "".join(axis for axis in axes if len(seen.resolved(axis)) >= COARSEST_BITS)


def lit_share(seen: Seen, located: Located) -> float:
    """Part of the panel that the camera sees change, of what lies on the sensor [1]."""
    column, row = np.round(_spread(located.panel_to_camera, seen.shape)).astype(int)
    height, width = seen.contrast.shape
    there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return float(seen.lit[row[there], column[there]].mean()) if there.any() else 0.0


def locate(seen: Seen) -> Located | None:
    """Fit panel → camera, robustly; None where too little of the panel is seen for a map."""
    cells = list(_cells(seen))
    if len(cells) < CELLS_MIN:
        return None
    points, found = (np.array([cell[i] for cell in cells]) for i in (0, 1))
    if min(np.ptp(points, axis=0)) == 0:
        return None
    scale = np.sqrt(np.ptp(found, axis=0).prod() / np.ptp(points, axis=0).prod())
    homography, inliers = cv2.findHomography(points, found, cv2.RANSAC, max(0.1 * FINEST_PX * scale, 0.5))
    if homography is None or int(inliers.sum()) < CELLS_MIN:
        return None
    kept = inliers.ravel().astype(bool)
    homography, _ = cv2.findHomography(points[kept], found[kept], 0)
    h = np.asarray(homography, np.float64)
    mapped = np.stack(apply_homography(h, *points[kept].T), axis=1)
    rms_px = float(np.sqrt(np.mean((found[kept] - mapped) ** 2)))
    return Located(h, rms_px, int(kept.sum()), _visible(h, seen), *Pose.of(h, seen.shape), _taper(h, seen.shape))


def _cells(seen: Seen) -> Iterator[tuple[Float, Float]]:
    """Cells of the panel that are seen whole: centre on the panel, centroid on the camera, each (x, y)."""
    numbers, sure, width = {}, seen.lit.copy(), {}
    axes: tuple[Axis, Axis] = ("x", "y")
    for axis in axes:
        used = seen.resolved(axis)
        if len(used) < COARSEST_BITS:
            return
        total = sum(picture.axis == axis for picture in seen.pictures)
        width[axis] = seen.pictures[used[0]].cell_px * 2 ** (total - len(used))
        number = np.zeros(seen.contrast.shape, np.int64)
        bit = np.zeros(seen.contrast.shape, bool)
        for index in used:
            relative = seen.relative(index)
            sure &= np.abs(relative) > CONTRAST_MIN
            bit ^= relative > 0
            number = 2 * number + bit
        numbers[axis] = number
    across = -(-seen.shape[1] // width["x"])
    label = np.where(sure, numbers["y"] * across + numbers["x"] + 1, 0)
    boxes = ndimage.find_objects(label)
    height, breadth = label.shape
    for index, box in enumerate(boxes):
        if box is None or box[0].start == 0 or box[1].start == 0 or box[0].stop == height or box[1].stop == breadth:
            continue
        row, column = np.nonzero(label[box] == index + 1)
        y, x = divmod(index, across)
        whole = (x + 1) * width["x"] <= seen.shape[1] and (y + 1) * width["y"] <= seen.shape[0]
        if whole and row.size >= CELL_PIXELS_MIN:
            centre = (np.array([x, y]) + 0.5) * (width["x"], width["y"]) - 0.5
            yield centre, np.array([box[1].start + column.mean(), box[0].start + row.mean()])


def _visible(h: Float, seen: Seen) -> float:
    """Part of the panel's area that the map puts on the sensor."""
    px, py = _spread(h, seen.shape)
    height, width = seen.contrast.shape
    return float(np.mean((px >= 0) & (px <= width - 1) & (py >= 0) & (py <= height - 1)))


def _spread(h: Float, shape: tuple[int, int]) -> Float:
    """(2, n) x and y on the camera of points spread evenly over a panel (rows, columns)."""
    y, x = np.mgrid[0:1:64j, 0:1:64j]
    return np.stack(apply_homography(h, x.ravel() * (shape[1] - 1), y.ravel() * (shape[0] - 1)))


def _taper(h: Float, shape: tuple[int, int]) -> float:
    """How far the map is from one that keeps lines parallel, which a triangle in the panel's middle determines [1]."""
    size = np.array([shape[1] - 1, shape[0] - 1], np.float64)
    inner, corners = (
        np.array([[0.3, 0.3], [0.7, 0.3], [0.3, 0.7]]) * size,
        np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size,
    )
    near, far = (np.stack(apply_homography(h, *points.T), axis=1) for points in (inner, corners))
    parallel = np.c_[corners, np.ones(4)] @ np.linalg.solve(np.c_[inner, np.ones(3)], near)
    return float(np.linalg.norm(far - parallel, axis=1).max() / np.linalg.norm(far[2] - far[0]))
