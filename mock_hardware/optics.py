"""Relay optics: where the panels' pixels fall on the sensor, and how much light each camera pixel gets.

Coordinates are of pixel centres: the centre of the pixel in row i and column j lies at x = j, y = i.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from mock_hardware.config import BenchConfig, CameraConfig, PanelConfig
from mock_hardware.panel import Terms, response

Image = NDArray[np.float32]


def panel_to_camera(panel: PanelConfig, camera: CameraConfig) -> NDArray[np.float64]:
    """(3, 3) matrix from panel (x, y, 1) to camera (x, y, 1) in pixels, turning about the panel's centre."""
    angle = math.radians(panel.rotation_deg)
    turn = panel.magnification * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    pivot = np.array([(panel.cols - 1) / 2, (panel.rows - 1) / 2])
    centre = np.array([(camera.cols - 1) / 2 + panel.offset_x_px, (camera.rows - 1) / 2 + panel.offset_y_px])
    matrix = np.eye(3)
    matrix[:2, :2] = turn
    matrix[:2, 2] = centre - turn @ pivot
    return matrix


class Optics:
    """From images on the panels to relative light on the sensor: ``blur_cam(D_cam · S_cam)``.

    The work is proportional to the region asked for. Nothing is kept between calls.
    """

    def __init__(self, config: BenchConfig) -> None:
        self._optics, self._slm, self._display = config.optics, config.slm, config.display
        self._slm_matrix = panel_to_camera(config.slm, config.camera)
        self._display_matrix = panel_to_camera(config.display, config.camera)
        self._slm_response, self._display_response = response(config.slm), response(config.display)

    def slm_light(self, slm: Terms, roi: Roi) -> Image:
        """``S_cam``, illumination × transmission, on the sensor: ``roi`` and the margin that `light` needs, [1]."""
        optics = self._optics
        image, x, y = _crop(slm, self._slm_response, self._slm_matrix, self._padded(roi), 0)
        image *= _beam(x, image.shape[1], (self._slm.cols - 1) / 2 + optics.beam_offset_x_px, optics.beam_radius_px)
        image *= _beam(y, image.shape[0], (self._slm.rows - 1) / 2 + optics.beam_offset_y_px, optics.beam_radius_px)[
            :, None
        ]
        return _warp(image, x, y, self._slm_matrix, self._padded(roi))

    def light(self, display: Terms, slm_light: Image, roi: Roi) -> Image:
        """(rows, cols) of ``roi``: light relative to full transmission of both where the beam is brightest [1]."""
        padded = self._padded(roi)
        sigma_px = self._optics.display_psf_px * self._slm.magnification / self._display.magnification
        image, x, y = _crop(display, self._display_response, self._display_matrix, padded, _reach(sigma_px))
        light = _warp(_blur(image, sigma_px), x, y, self._display_matrix, padded)
        light *= slm_light
        margin = _reach(self._optics.camera_psf_px)
        blurred = _blur(light, self._optics.camera_psf_px)
        return np.ascontiguousarray(blurred[margin : margin + roi.height, margin : margin + roi.width])

    def _padded(self, roi: Roi) -> Roi:
        margin = _reach(self._optics.camera_psf_px)
        return Roi(roi.x - margin, roi.y - margin, roi.width + 2 * margin, roi.height + 2 * margin)


def _reach(sigma_px: float) -> int:
    return math.ceil(4 * sigma_px)


def _blur(image: Image, sigma_px: float) -> Image:
    """Gaussian of 4 standard deviations, dark outside the image."""
    if sigma_px == 0 or image.size == 0:
        return image
    size = 2 * _reach(sigma_px) + 1
    return np.asarray(cv2.GaussianBlur(image, (size, size), sigma_px, borderType=cv2.BORDER_CONSTANT), np.float32)


def _beam(first: int, count: int, centre_px: float, radius_px: float) -> Image:
    """One axis of a Gaussian beam: ``exp(−2 r²/w²)``."""
    r = (np.arange(first, first + count) - centre_px) / radius_px
    return np.asarray(np.exp(-2.0 * r**2), np.float32)


def _crop(terms: Terms, table: Image, matrix: NDArray[np.float64], roi: Roi, margin: int) -> tuple[Image, int, int]:
    """The part of the panel that ``roi`` sees, plus ``margin``, as intensity; with its first column and row."""
    rows, cols = terms[0].levels.shape
    corners = np.array([(x, y, 1) for x in (roi.x, roi.x + roi.width) for y in (roi.y, roi.y + roi.height)]).T
    seen = (np.linalg.inv(matrix) @ corners)[:2]
    x0, y0 = np.clip(np.floor(seen.min(axis=1)).astype(int) - 1 - margin, 0, (cols, rows))
    x1, y1 = np.clip(np.ceil(seen.max(axis=1)).astype(int) + 2 + margin, 0, (cols, rows))
    image = np.zeros((y1 - y0, x1 - x0), np.float32)
    for term in terms if image.size else ():
        levels = term.levels[y0:y1, x0:x1]
        weighted = table * np.float32(term.weight)
        image += cv2.LUT(levels, weighted) if levels.dtype == np.uint8 and len(table) == 256 else weighted[levels]
    return image, int(x0), int(y0)


def _warp(image: Image, x: int, y: int, matrix: NDArray[np.float64], roi: Roi) -> Image:
    """Bilinear; dark outside the image."""
    if image.size == 0:
        return np.zeros(roi.shape, np.float32)
    moved = matrix.copy()
    moved[:2, 2] += matrix[:2, :2] @ (x, y) - (roi.x, roi.y)
    size = (roi.width, roi.height)
    return np.asarray(cv2.warpAffine(image, moved[:2], size, flags=cv2.INTER_LINEAR), np.float32)
