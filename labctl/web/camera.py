"""The camera's picture as the page shows it: gray, with what is saturated and with the regions laid over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labctl.archive.preview import BINS, Preview

SATURATED = (0, 94, 213, 255)
"""Vermilion (blue, green, red, alpha), which colour-blind readers tell from any gray."""
HEIGHT = 64
"""Of the histogram; it is as wide as it has bins."""


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in its own coordinates: ``y`` counts from the top."""

    x: int
    y: float
    height: float


@dataclass(frozen=True)
class CameraFacts:
    """What is written beside the picture.

    Attributes
    ----------
    width, height, x, y
        Of the frame, and of its first pixel on the sensor [px].
    share
        Saturated pixels of all, in words.
    bars
        Of the histogram, whose heights go with the logarithm of the number of pixels.
    polygons
        The regions in pixels of the frame, as SVG has points.
    """

    at: str
    what: str
    width: int
    height: int
    x: int
    y: int
    full_scale_dn: int
    brightest_dn: int
    mean_dn: float
    saturated_pixels: int
    share: str
    sequence: int
    bars: Sequence[Bar]
    polygons: Sequence[str]


def facts_of(preview: Preview) -> CameraFacts:
    """Everything but the picture itself."""
    about = preview.about
    of_all = about["saturated_pixels"] / (about["width"] * about["height"])
    return CameraFacts(
        at=str(about.get("at", ""))[11:19],
        what=str(about.get("what", "")),
        **{key: int(about[key]) for key in ("width", "height", "x", "y", "full_scale_dn", "saturated_pixels")},
        brightest_dn=int(about.get("brightest_dn", 0)),
        mean_dn=float(about.get("mean_dn", 0.0)),
        share="none" if not about["saturated_pixels"] else "less than 0.01 %" if of_all < 1e-4 else f"{of_all:.2%}",
        sequence=int(about.get("sequence", 0)),
        bars=_bars(preview.histogram),
        polygons=_polygons(preview.regions_px, about),
    )


def picture_png(preview: Preview) -> bytes:
    """The frame in gray, black at 0 and white at its brightest block, each block of the camera's pixels one pixel."""
    brightest = max(1, int(preview.mean_dn.max(initial=0)))
    return _png((preview.mean_dn.astype(np.float32) * (255.0 / brightest)).astype(np.uint8))


def saturated_png(preview: Preview) -> bytes:
    """Where a pixel is saturated; transparent elsewhere."""
    picture = np.zeros((*preview.saturated.shape, 4), np.uint8)
    picture[preview.saturated] = SATURATED
    return _png(picture)


def _png(picture: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def _bars(histogram: NDArray[np.int64]) -> list[Bar]:
    top = math.log1p(float(histogram.max(initial=0))) or 1.0
    heights = [HEIGHT * math.log1p(max(0, int(count))) / top for count in histogram[:BINS]]
    return [Bar(x, round(HEIGHT - height, 1), round(height, 1)) for x, height in enumerate(heights) if height > 0]


def _polygons(regions_px: NDArray[np.float32], about: dict[str, Any]) -> list[str]:
    """Those that lie at least partly in the frame."""
    if not len(regions_px):
        return []
    corners = np.nan_to_num(regions_px) - np.array([about["x"], about["y"]]) + 0.5
    limits = np.array([about["width"], about["height"]])
    inside = ((corners > 0) & (corners < limits)).all(axis=2).any(axis=1)
    return [" ".join(f"{x:.1f},{y:.1f}" for x, y in region) for region in corners[inside]]
