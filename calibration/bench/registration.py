"""Registration: where each panel's pixels land on the camera, from fiducial dots, to a fraction of a pixel.

Two steps for each panel. Three single squares, shown one after another, give a first affine map whatever the
rotation or reflection. A grid of dots, found where that map predicts them, gives the homography.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import ndimage

from calibration.errors import BadScan, FitError, Saturated
from calibration.machine.layout import apply_homography
from calibration.machine.lut import Levels, level_dtype
from calibration.machine.registration import NO_LENS, Lens, Registration
from calibration.statistics.tails import f_sf

Float = NDArray[np.float64]
Image = NDArray[np.float64]

SQUARE_PX = 48
DOT_PX = 9
GRID = (7, 9)
ROOM = 2.0
"""From this distance of two dots' centres on, in widths of dots, none can be taken for the one beside it."""
EDGE = 0.08
SNR_MIN = 8.0
DOTS_MIN = 16
"""Dots that a map must rest on, wherever they are: four times as many as a homography takes."""
SEEN_SHARE = 0.6
"""Of the dots that lie on the sensor, so many must be seen [1]."""
DOT_REACH = 0.4
"""How far a dot may be from where its neighbours foretell it, in spacings of dots."""
NEIGHBOURS, NEIGHBOURS_MIN = 8, 6
DISTORTION_MAX = 0.15
PILED_MIN, PILED_SHARE, PILED_FROM_DN = 40, 0.25, 40
"""So many pixels, of those near the brightest, at one number are clipped; a faint picture has few numbers anyway."""
SMOOTHED_PX, SMOOTHED_SIGMA_PX = 9, 2.0
FAINT, DEFOCUSED = 2.0, 0.4
"""Dots are too faint below so many times what they must be seen by; blurred from so many of their widths on."""
SIGNIFICANCE = 0.01
CUT_SIGMAS, CUT_PX, CUT_ROUNDS, WHOLE_SHARE = 5.0, 0.25, 8, 0.5
"""A dot is cut off where it lies so many rms residuals, and so far, beside the map; half of them must be whole."""


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
    smooth = [ndimage.uniform_filter(image, SMOOTHED_PX) for image in squares]
    most_dn = max(float(image.max()) for image in smooth)
    coarse = np.array([_brightest(panel, image, noise_dn, most_dn) for image in smooth])
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
    kept, found, inside = _dots(points, affine, grid, scale, noise_dn)
    if len(kept) < max(DOTS_MIN, SEEN_SHARE * inside):
        square = max(squares, key=lambda image: float(ndimage.uniform_filter(image, SMOOTHED_PX).max()))
        raise _unseen(panel, panel_shape, (len(kept), inside, len(points)), square, scale, noise_dn)
    order = np.argsort(kept)
    return _fit(panel, points[np.array(kept)[order]], np.array(found)[order])


def _unseen(
    panel: str,
    panel_shape: tuple[int, int],
    counts: tuple[int, int, int],
    square: Image,
    scale: float,
    noise_dn: float,
) -> BadScan:
    """Why too few dots were found: little light, a blurred image, a panel that is small, or beside the sensor.

    Parameters
    ----------
    counts
        Dots found, dots that lie on the sensor, and all of them.
    square
        The camera's frame of a lit square, whose contrast and edges tell [DN].
    """
    found, inside, shown = counts
    smooth = ndimage.uniform_filter(square, SMOOTHED_PX)
    lit = smooth > 0.5 * smooth.max()
    contrast = float(np.median(square[lit]))
    needed = SNR_MIN * noise_dn * (2 * scale * DOT_PX + 3) / (scale * DOT_PX) ** 2
    side_px = float(np.sqrt(np.clip(square, 0.0, None).sum() / max(contrast, 1e-9)))
    blur_px = edge_blur(square)
    seen = (
        f"{found} of {inside} on the sensor; a square {contrast:.3g} DN bright, {contrast / noise_dn:.1f} of the noise"
    )
    if contrast < FAINT * needed:
        what, hint = (
            "too little light",
            f"raise acquisition.exposure_s {FAINT * needed / contrast:.1f}-fold, or the source",
        )
    elif blur_px > DEFOCUSED * scale * DOT_PX:
        what, hint = (
            f"out of focus: edges are blurred over {blur_px:.1f} px (rms), a dot is {scale * DOT_PX:.1f} px wide",
            "focus the camera on the panels: labctl align",
        )
    elif _spacing_px(panel_shape) < ROOM * DOT_PX:
        what, hint = (
            f"a panel of {panel_shape[0]} × {panel_shape[1]} px is too small, its dots of {DOT_PX} px lie "
            f"{_spacing_px(panel_shape):.0f} px apart",
            "use more of the panel: the region in the options of its device, labctl devices list",
        )
    elif inside < DOTS_MIN:
        what, hint = (
            f"only {inside} of the {shown} dots lie on the sensor",
            "move the camera, or use a smaller image: labctl align",
        )
    else:
        what, hint = (
            f"dots are missing though a square of {side_px:.0f} camera pixels is bright and sharp",
            "the light does not reach all of the panel, something covers a part of it, or it gets other frames than it "
            "should: labctl align",
        )
    return BadScan(
        f"only {found} of {shown} fiducials of the {panel} were found: {what}",
        device=panel,
        action="registration",
        expected=f"at least {max(DOTS_MIN, int(np.ceil(SEEN_SHARE * inside)))}",
        seen=seen,
        hint=hint,
    )


def _spacing_px(panel_shape: tuple[int, int]) -> float:
    """Least distance of the centres of two dots on a panel [panel px]."""
    centres = grid_centres(panel_shape)
    return float(min(np.diff(np.unique(centres[:, axis])).min(initial=np.inf) for axis in (0, 1)))


def edge_blur(square: Image) -> float:
    """Standard deviation of the Gaussian that makes a lit square's edges as steep as they are [camera px].

    An edge of height h blurred by σ has the slope ``h / (√(2π) σ)``; the smoothing against noise is a part of σ.
    """
    smooth = ndimage.gaussian_filter(square, SMOOTHED_SIGMA_PX)
    height = float(smooth.max())
    steepest = np.hypot(*np.gradient(smooth))
    slope = float(np.quantile(steepest[steepest > 0.5 * steepest.max()], 0.75))
    whole = height / (np.sqrt(2 * np.pi) * max(slope, 1e-9))
    return float(np.sqrt(max(whole**2 - SMOOTHED_SIGMA_PX**2, 0.0)))


def _dots(
    points: Float, affine: Float, grid: Image, scale: float, noise_dn: float
) -> tuple[list[int], list[tuple[float, float]], int]:
    """Which dots are seen, where on the camera, and how many lie on the sensor.

    They are looked for from the middle of the panel outwards, each where those found before say that it should be: the
    first map knows nothing of a keystone or of a lens.
    """
    middle = points.mean(axis=0)
    reach = DOT_REACH * scale * min(np.diff(np.unique(points[:, axis])).min() for axis in (0, 1))
    kept: list[int] = []
    found: list[tuple[float, float]] = []
    inside = 0
    for i in np.argsort(np.hypot(*(points - middle).T)):
        px, py = _foretold(points[kept], np.array(found), affine, points[i])
        if not (0 <= px < grid.shape[1] and 0 <= py < grid.shape[0]):
            continue
        centre, whole = _centroid(grid, px, py, scale * DOT_PX, noise_dn)
        inside += whole
        if centre is not None and np.hypot(centre[0] - px, centre[1] - py) < reach:
            kept.append(int(i))
            found.append(centre)
    return kept, found, inside


def _foretold(points: Float, found: Float, affine: Float, point: Float) -> tuple[float, float]:
    """Where a dot should be seen, by the nearest dots that were found: an affine map of its own for each place."""
    if len(points) >= NEIGHBOURS_MIN:
        near = np.argsort(np.hypot(*(points - point).T))[:NEIGHBOURS]
        design = np.column_stack([points[near] - point, np.ones(len(near))])
        solution, _, rank, _ = np.linalg.lstsq(design, found[near], rcond=None)
        if rank == 3:
            return float(solution[2, 0]), float(solution[2, 1])
    x, y = apply_homography(affine, np.array(point[0]), np.array(point[1]))
    if len(points):  # what the first map misses here, it has missed next door
        nearest = int(np.argmin(np.hypot(*(points - point).T)))
        before = apply_homography(affine, *(np.array(v) for v in points[nearest]))
        x, y = x + found[nearest, 0] - before[0], y + found[nearest, 1] - before[1]
    return float(x), float(y)


def require_unclipped(frame: NDArray[np.uint16], full_scale_dn: int) -> None:
    """Refuse a frame of bright pixels that pile up at one number below full scale.

    Shot noise and the beam spread bright pixels over many numbers: of those within a twentieth of the brightest, few
    are equal to it.

    Raises
    ------
    Saturated
        When the camera, or its driver, clips below the declared full scale.
    """
    most = int(frame.max())
    near = frame[frame > 0.95 * most]
    piled = int((near == most).sum())
    if most < full_scale_dn and piled > PILED_MIN and piled > PILED_SHARE * near.size and most > PILED_FROM_DN:
        raise Saturated(
            f"bright pixels pile up at {most} DN, below full scale: the camera or its driver clips and does not say so",
            device="camera",
            action="registration",
            expected=f"numbers up to {full_scale_dn} DN, or bright pixels that differ",
            seen=f"{piled} of the {near.size} brightest pixels are {most} DN",
            hint="shorten acquisition.exposure_s, and check bit depth and pixel format: labctl devices probe",
        )


def through_lens(found: Mapping[str, Registration], sensor_shape: tuple[int, int]) -> dict[str, Registration]:
    """The same panels seen through one lens, by the dots that are seen whole.

    A dot that the other panel's edge cuts off lies beside where the others foretell it. The map begins with the half
    of the dots that is nearest to the middle, and takes in all that agree with it, round by round.
    """
    kept = {panel: _inner(r.points_px) for panel, r in found.items()}
    for _ in range(CUT_ROUNDS):
        fitted = _through_lens({panel: _only(r, kept[panel]) for panel, r in found.items()}, sensor_shape)
        before, kept = kept, {panel: _agreeing(r, fitted[panel]) for panel, r in found.items()}
        if all((before[panel] == kept[panel]).all() for panel in found):
            break
    whole = all(mask.sum() >= max(DOTS_MIN, WHOLE_SHARE * len(mask)) for mask in kept.values())
    return fitted if whole else _through_lens(found, sensor_shape)


def _inner(points: Float) -> NDArray[np.bool_]:
    """(n,) the half of the points that is nearest to their middle."""
    away = np.abs(points - np.median(points, axis=0)) / np.maximum(np.ptp(points, axis=0), 1e-9)
    return np.asarray(away.max(axis=1) <= np.median(away.max(axis=1)))


def _only(r: Registration, kept: NDArray[np.bool_]) -> Registration:
    return _fit(r.panel, r.points_px[kept], r.found_px[kept])


def _agreeing(r: Registration, fitted: Registration) -> NDArray[np.bool_]:
    """(n,) dots that lie where a map says, as nearly as those that it was fitted to."""
    left = np.stack(fitted.to_camera(r.points_px[:, 0], r.points_px[:, 1]), axis=1) - r.found_px
    return np.asarray(np.abs(left).max(axis=1) < max(CUT_SIGMAS * fitted.rms_px, CUT_PX))


def _through_lens(found: Mapping[str, Registration], sensor_shape: tuple[int, int]) -> dict[str, Registration]:
    """The same panels seen through one lens, where their fiducials together need its distortion; an F test at 1 %."""

    def fitted(distortion: float) -> dict[str, Registration]:
        lens = Lens.over(sensor_shape, distortion)
        return {panel: _fit(panel, r.points_px, r.found_px, lens) for panel, r in found.items()}

    def rss(registrations: Mapping[str, Registration]) -> float:
        return float(sum((r.residual_px**2).sum() for r in registrations.values()))

    best = scipy.optimize.minimize_scalar(
        lambda distortion: rss(fitted(float(distortion))), bounds=(-DISTORTION_MAX, DISTORTION_MAX), method="bounded"
    )
    bent = fitted(float(best.x))
    freedom = sum(2 * len(r.points_px) - 8 for r in found.values()) - 1
    left = max(rss(bent), 1e-12)
    f = (rss(found) - left) / (left / freedom)
    return bent if float(f_sf(max(f, 0.0), 1, freedom)) < SIGNIFICANCE else dict(found)


def between(source: Registration, target: Registration) -> Float:
    """(3, 3) homography from one panel's pixels to the other's, through the camera."""
    h = np.linalg.inv(target.panel_to_camera) @ source.panel_to_camera
    return np.asarray(h / h[2, 2])


def _brightest(panel: str, smooth: Image, noise_dn: float, most_dn: float) -> tuple[float, float]:
    """Centre of the one bright square of a smoothed image: its peak, refined by a centroid.

    ``most_dn`` is the peak of the brightest of all squares.
    """
    y, x = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    peak, threshold = smooth[y, x], SNR_MIN * noise_dn / SMOOTHED_PX
    if not peak > threshold:
        elsewhere = most_dn > threshold
        raise BadScan(
            f"too little light from {'a corner of ' * elsewhere}the {panel} reaches the camera: "
            "a square is as faint as noise",
            device=panel,
            action="registration",
            expected=f"a square brighter than {threshold:.3g} DN",
            seen=f"{peak:.3g} DN at ({x}, {y})" + f", and {most_dn:.3g} DN from another square" * elsewhere,
            hint="does the light reach all of the panel, and does nothing cover it? labctl align"
            if elsewhere
            else "is the source on and unblocked, and acquisition.exposure_s long enough? labctl devices list",
        )
    labels, _ = ndimage.label(smooth > 0.5 * peak)
    cy, cx = ndimage.center_of_mass(smooth, labels, labels[y, x])
    return float(cx), float(cy)


def _centroid(
    image: Image, x: float, y: float, size_px: float, noise_dn: float
) -> tuple[tuple[float, float] | None, bool]:
    """Background-free centroid of the dot near (x, y), re-centred until it rests, and whether it lies in the image.

    None where there is no dot, and where the image's edge cuts it off.
    """
    half = _half(size_px)
    for _ in range(6):
        cx, cy = round(x), round(y)
        if not (half <= cx < image.shape[1] - half and half <= cy < image.shape[0] - half):
            return None, False
        patch = image[cy - half : cy + half + 1, cx - half : cx + half + 1]
        rim = np.concatenate([patch[0], patch[-1], patch[1:-1, 0], patch[1:-1, -1]])
        light = patch - np.median(rim)
        total = light.sum()
        if total < SNR_MIN * noise_dn * light.shape[0]:
            return None, True
        offset = np.arange(-half, half + 1)
        nx, ny = cx + (light.sum(0) @ offset) / total, cy + (light.sum(1) @ offset) / total
        if max(abs(nx - cx), abs(ny - cy)) < 0.75:  # half a pixel, and room for noise at the boundary
            return (float(nx), float(ny)), True
        x, y = nx, ny
    return None, True


def place_noise_px(registration: Registration, grid: Image, noise_dn: float) -> float:
    """Standard error of one coordinate of a dot's place by the noise of the camera's pixels alone [camera px].

    Of ``Σ x I / Σ I`` over the window of `_centroid`, for the mean light of the dots.
    """
    half = _half(float(np.sqrt(abs(np.linalg.det(registration.panel_to_camera[:2, :2])))) * DOT_PX)
    offset = np.arange(-half, half + 1)
    totals = []
    for x, y in np.rint(registration.found_px).astype(int):
        patch = grid[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        rim = np.concatenate([patch[0], patch[-1], patch[1:-1, 0], patch[1:-1, -1]])
        totals.append(float((patch - np.median(rim)).sum()))
    return float(noise_dn * np.sqrt(len(offset) * (offset**2).sum()) / max(np.mean(totals), 1e-9))


def _half(size_px: float) -> int:
    """Half the side of the window that a dot of this size is looked for in, its middle not counted [camera px]."""
    return int(np.ceil(size_px)) + 1


def _fit(panel: str, points: Float, found: Float, lens: Lens = NO_LENS) -> Registration:
    """Affine or homography, chosen by an F test at 1 %, to where the dots would be seen without the lens."""
    straight = np.stack(lens.straight(found[:, 0], found[:, 1]), axis=1)
    ones = np.column_stack([points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(ones, straight, rcond=None)
    affine = np.vstack([solution.T, [0, 0, 1]])
    homography, _ = cv2.findHomography(points, straight, method=0)
    if homography is None:
        raise FitError(f"no homography fits the fiducials of the {panel}", device=panel, action="registration")
    residual = {}
    for name, h in (("affine", affine), ("homography", homography)):
        mapped = lens.seen(*apply_homography(np.asarray(h, np.float64), points[:, 0], points[:, 1]))
        residual[name] = found - np.stack(mapped, axis=1)
    rss_affine, rss_homography = (float((r**2).sum()) for r in residual.values())
    dof = 2 * len(points) - 8
    f = ((rss_affine - rss_homography) / 2) / (rss_homography / dof)
    p_value = float(f_sf(max(f, 0.0), 2, dof))
    model = "homography" if p_value < SIGNIFICANCE else "affine"
    chosen = homography if model == "homography" else affine
    return Registration(panel, np.asarray(chosen, np.float64), points, found, residual[model], model, p_value, lens)
