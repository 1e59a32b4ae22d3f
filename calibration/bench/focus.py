"""How sharp a panel is seen: the width of the edges of its stripes, and what that width does to macropixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import special

from calibration.bench.stripes import Axis, Located, Seen
from calibration.machine.layout import apply_homography
from calibration.statistics.tails import normal_pdf

Float = NDArray[np.float64]

BLOCKS = 4
"""The picture is cut into so many parts along each axis: each has its own width, and its own place."""
BLOCK_PIXELS_MIN = 200
BLOCK_PIXELS = 1500
NARROWEST_PX = 0.05
OFFSET_MAX = 0.3
LARGE = 0.1
"""Misfit above which a pixel counts less and less, of half the step from dark to light [1]."""
BLURS_PX = (0.5, 1.0, 2.0, 4.0)
"""A fit begins with the one of them that fits best."""


@dataclass(frozen=True)
class Focus:
    """Blur of a panel on the camera.

    Attributes
    ----------
    blur_px
        Standard deviation of the Gaussian that makes the edges as wide as they are, median over the picture; the
        camera's pixel counts as a part of it [panel px].
    blocks_px : (4, 4)
        In each part of the picture; not a number where too little of the panel is seen [panel px].
    """

    blur_px: float
    blocks_px: Float


def focus(seen: Seen, located: Located) -> Focus | None:
    """The blur, from the narrowest stripes that are still told apart; None where no part shows enough of them."""
    found = [block for axis in ("x", "y") if (block := _along(axis, seen, located)) is not None]
    if not found:
        return None
    worst = np.fmax(found[0], found[-1])
    if not np.isfinite(worst).any():
        return None
    return Focus(float(np.nanmedian(worst)), worst)


def leak(pitch_px: float, active_px: float, blur_px: float) -> float:
    """Part of a macropixel's light that a Gaussian blur throws beyond its own pitch, along one axis [1].

    Parameters
    ----------
    pitch_px, active_px
        Size of the macropixel, and of its lit part, centred in it [px].
    blur_px
        Standard deviation of the blur [px].
    """
    half, wide = active_px / 2, pitch_px / 2
    edges = np.array([wide + half, wide - half, half - wide, -half - wide]) / blur_px
    kept = _ramp(edges) @ np.array([1.0, -1.0, -1.0, 1.0])
    return float(1 - blur_px / active_px * kept)


def bleed(pitch_px: float, active_px: float, blur_px: float) -> float:
    """Part of what a lit column of width ``pitch_px`` puts on the active parts of both neighbours, to its own [1].

    Parameters as `leak`: the columns are those of the display, blurred; the active parts those of the SLM.
    """
    guard = (pitch_px - active_px) / 2
    edges = np.array([guard + active_px, guard, guard + active_px + pitch_px, guard + pitch_px]) / blur_px
    aside = blur_px * (_tail(edges) @ np.array([-1.0, 1.0, 1.0, -1.0]))
    return float(2 * aside / active_px)


def _ramp(z: Float) -> Float:
    """Integral of the normal distribution function."""
    return np.asarray(z * special.ndtr(z) + normal_pdf(z))


def _tail(z: Float) -> Float:
    """Integral of the normal distribution's upper tail from z on."""
    return np.asarray(normal_pdf(z) - z * special.ndtr(-z))


def _along(axis: Axis, seen: Seen, located: Located) -> Float | None:
    """(4, 4) blur along one axis of the panel in each part of the picture [panel px]."""
    used = seen.resolved(axis)
    if not used:
        return None
    picture, relative = seen.pictures[used[-1]], seen.relative(used[-1])
    row, column = np.nonzero(seen.lit)
    x, y = apply_homography(
        np.asarray(np.linalg.inv(located.panel_to_camera), np.float64),
        column.astype(np.float64),
        row.astype(np.float64),
    )
    at = np.asarray(x if axis == "x" else y)
    edges = np.nonzero(np.diff(picture.code))[0].astype(np.float64) + 0.5
    signs = np.where(picture.code[1:] > picture.code[:-1], 2.0, -2.0)[(edges - 0.5).astype(int)]
    if not edges.size:
        return None
    inside = (at > edges[0] - picture.cell_px) & (at < edges[-1] + picture.cell_px)
    height, width = seen.contrast.shape
    blocks = np.full((BLOCKS, BLOCKS), np.nan)
    for i in range(BLOCKS):
        for j in range(BLOCKS):
            there = inside & (row * BLOCKS // height == i) & (column * BLOCKS // width == j)
            index = np.nonzero(there)[0]
            if index.size < BLOCK_PIXELS_MIN:
                continue
            index = index[:: max(index.size // BLOCK_PIXELS, 1)]
            values = relative[row[index], column[index]]
            blocks[i, j] = _width(at[index], values, edges, signs, 1.0 if picture.code[0] else -1.0, picture.cell_px)
    return blocks


def _width(at: Float, values: Float, edges: Float, signs: Float, first: float, cell_px: int) -> float:
    """Blur that fits ``values`` (n,) of pixels at panel coordinates ``at`` (n,) [panel px].

    A shift is fitted with it, and an offset: what the light has changed by from a picture to its negative.
    """

    reach = 8.0 * cell_px
    first += float(signs[edges < at.min() - reach].sum())
    near = (edges >= at.min() - reach) & (edges <= at.max() + reach)
    edges, signs = edges[near], signs[near]

    def misfit(p: Float) -> Float:
        blurred = special.ndtr((at[:, None] - p[1] - edges[None, :]) / p[0]) @ signs
        return np.asarray(first + blurred + p[2] - values)

    def slopes(p: Float) -> Float:
        """(n, 3) derivatives of the misfit by blur, shift and offset."""
        z = (at[:, None] - p[1] - edges[None, :]) / p[0]
        density = normal_pdf(z) / p[0]
        return np.column_stack([-(z * density) @ signs, -density @ signs, np.ones(len(at))])

    bounds = ([NARROWEST_PX, -cell_px / 2, -OFFSET_MAX], [4.0 * cell_px, cell_px / 2, OFFSET_MAX])
    begin = min(BLURS_PX, key=lambda blur: np.hypot(1.0, misfit(np.array([blur, 0.0, 0.0])) / LARGE).sum())
    best = scipy.optimize.least_squares(misfit, [begin, 0.0, 0.0], slopes, bounds=bounds, loss="soft_l1", f_scale=LARGE)
    return float(best.x[0])
