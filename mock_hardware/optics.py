"""Relay optics: how much light each camera pixel gets from the two panels."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.protocols import Roi
from groundwork.threads import Threads
from mock_hardware import kernels
from mock_hardware.config import BenchConfig, PanelConfig
from mock_hardware.geometry import half_diagonal_px, panel_box, panel_to_camera
from mock_hardware.noise import Floats
from mock_hardware.panel import Seen
from mock_hardware.plane import Box, Plane
from mock_hardware.scratch import Scratch

Float = NDArray[np.float64]
Shift = tuple[float, float]
"""(x, y) by which an image has moved on the sensor [camera pixels]."""


_SHARP_PX = 0.05
"""A point-spread function narrower than this blurs nothing: the neighbours would get exp(−200)."""
_SAMPLED_PX = 0.5
"""From this width on, a sampled Gaussian has its centroid where it should, within 1 % of a pixel."""


class Optics:
    """Computes how much light reaches each pixel of the sensor from the images on the two panels.

    It is ``blur_cam(D_cam · S_cam)``: the display's image D and the SLM's image S, both as the sensor sees them, are
    multiplied pixel by pixel, and the product is blurred by the lens in front of the camera.

    The work is proportional to the region asked for and to what has changed: the light on the SLM's image is computed
    anew only when the SLM, the region or the whole-pixel part of the pointing changes.

    Parameters
    ----------
    config
        Of the bench.
    threads
        The threads that compute frames, each a part of the rows.
    """

    def __init__(self, config: BenchConfig, threads: Threads) -> None:
        self._config, self._threads = config, threads
        self._scratch = Scratch()
        beam = _beam(config)
        self.slm = Plane(config.slm, config.seed + 1, beam, threads)
        self.display = Plane(config.display, config.seed + 2, None, threads)
        self._views: dict[str, tuple[Any, Float, Box]] = {}
        self._slm_light: tuple[Any, Floats] | None = None
        self._light: tuple[Any, Floats] | None = None

    def light(
        self, display: Seen, slm: Seen, roi: Roi, moved: Shift = (0.0, 0.0), display_moved: Shift = (0.0, 0.0)
    ) -> Floats:
        """(rows, cols) of ``roi``: light relative to full transmission of both where the beam is brightest [1].

        Valid until the next call.

        Parameters
        ----------
        display, slm
            What an exposure sees of the panels.
        roi
            Region of the sensor.
        moved
            (x, y) by which the whole image has moved on the sensor [camera pixels].
        display_moved
            (x, y) by which the display's image has moved against the SLM's, seen on the sensor [camera pixels].
        """
        key = display.key, slm.key, roi, moved, display_moved
        if self._light is None or self._light[0] != key:
            self._light = key, self._rendered(display, slm, roi, moved, display_moved)
        return self._light[1]

    def _rendered(self, display: Seen, slm: Seen, roi: Roi, moved: Shift, display_moved: Shift) -> Floats:
        optics, camera = self._config.optics, self._config.camera
        if not optics.row_sum_px:
            return self._image(display, slm, roi, moved, display_moved)
        rows = Roi(0, roi.y, camera.cols, roi.height)
        sums = self._image(display, slm, rows, (0.0, moved[1]), display_moved).sum(axis=1, dtype=np.float64)
        x = np.arange(camera.cols) - (camera.cols - 1) / 2 - moved[0]
        line = np.exp(-0.5 * (x / optics.row_sum_px) ** 2)
        line = (line / line.sum())[roi.x : roi.x + roi.width]
        return np.asarray(sums[:, None] * line, np.float32)

    def _image(self, display: Seen, slm: Seen, roi: Roi, moved: Shift, display_moved: Shift) -> Floats:
        optics = self._config.optics
        growth = optics.camera_psf_growth_px2
        rim = 1 if growth else 0
        (x, across), (y, down) = (_taps(optics.camera_psf_px, shift) for shift in moved)
        mx, my = rim + across.size // 2, rim + down.size // 2
        region = Roi(roi.x - x - mx, roi.y - y - my, roi.width + 2 * mx, roi.height + 2 * my)

        if self._slm_light is None or self._slm_light[0] != (slm.key, region):
            ones = np.ones(region.shape, np.float32)
            self._slm_light = (slm.key, region), self._on_sensor("slm", self.slm, slm, region, 0.0, (0.0, 0.0), ones)
        sigma_px = optics.display_psf_px * self._config.slm.magnification / self._config.display.magnification
        light = self._on_sensor("display", self.display, display, region, sigma_px, display_moved, self._slm_light[1])
        light, sharp = self._blurred(light, down, across), light
        return self._spread(light, roi, growth, "spread" if light is sharp else "display on sensor") if rim else light

    def _on_sensor(
        self, name: str, plane: Plane, seen: Seen, region: Roi, sigma_px: float, moved: Shift, factor: Floats
    ) -> Floats:
        """``factor`` × the image of a panel, blurred in its own plane, on a region of the sensor."""
        camera, distortion = self._config.camera, self._config.optics.distortion
        inverse, (y0, x0, height, width) = self._view(name, plane.config, region, moved)
        _, taps = _taps(sigma_px, 0.0)
        margin = taps.size // 2
        out = self._scratch.take(f"{name} on sensor", region.shape)
        if height <= 0 or width <= 0:
            out[:] = 0
            return out
        image = plane.image(seen, (y0 - margin, x0 - margin, height + 2 * margin, width + 2 * margin))
        image = self._blurred(image, taps, taps)
        centre = np.array([(camera.cols - 1) / 2, (camera.rows - 1) / 2])
        from_centre = inverse @ np.array([[1.0, 0.0, centre[0]], [0.0, 1.0, centre[1]], [0.0, 0.0, 1.0]])
        self._threads.rows(
            kernels.warp,
            len(out),
            image,
            np.array([y0, x0], np.float32),
            (from_centre / from_centre[2, 2]).astype(np.float32),
            np.float32(distortion / half_diagonal_px(camera) ** 2),
            np.array([region.y - centre[1], region.x - centre[0]], np.float32),
            factor,
            out,
        )
        return out

    def _view(self, name: str, panel: PanelConfig, region: Roi, moved: Shift) -> tuple[Float, Box]:
        """From the sensor to a panel whose image has moved, and what ``region`` sees of it; kept while both stay."""
        if name not in self._views or self._views[name][0] != (region, moved):
            inverse = np.linalg.inv(panel_to_camera(panel, self._config.camera))
            inverse = inverse @ np.array([[1.0, 0.0, -moved[0]], [0.0, 1.0, -moved[1]], [0.0, 0.0, 1.0]])
            self._views[name] = (region, moved), inverse, self._seen_box(panel, inverse, region)
        return self._views[name][1:]

    def _seen_box(self, panel: PanelConfig, inverse: Float, region: Roi) -> Box:
        """The part of a panel's plane that ``region`` sees, with a rim in the dark where the panel ends."""
        roi_px = region.x, region.y, region.width, region.height
        low, high = panel_box(inverse, roi_px, self._config.camera, self._config.optics.distortion)
        rim = 2 + _reach(self._config.optics.display_psf_px)
        x0, y0 = np.clip(np.floor(low).astype(int) - 1, -rim, (panel.cols + rim, panel.rows + rim))
        x1, y1 = np.clip(np.ceil(high).astype(int) + 2, -rim, (panel.cols + rim, panel.rows + rim))
        return int(y0), int(x0), int(y1 - y0), int(x1 - x0)

    def _blurred(self, image: Floats, down: Floats, across: Floats) -> Floats:
        """In the memory of the last image that was blurred, which has been brought onto the sensor since."""
        if down.size == across.size == 1:
            return image
        shape = image.shape[0] - down.size + 1, image.shape[1] - across.size + 1
        out = self._scratch.take("blurred", shape)
        self._threads.rows(kernels.blur, len(out), image, down, across, out)
        return out

    def _spread(self, image: Floats, roi: Roi, growth: float, memory: str) -> Floats:
        """The part of the point-spread function that grows towards the corners; takes one pixel off each side."""
        camera = self._config.camera
        radius = half_diagonal_px(camera)
        x = (np.arange(roi.x - 1, roi.x + roi.width + 1) - (camera.cols - 1) / 2) / radius
        y = (np.arange(roi.y - 1, roi.y + roi.height + 1) - (camera.rows - 1) / 2) / radius
        out = self._scratch.take(memory, roi.shape)
        along_x, along_y = ((growth * axis**2).astype(np.float32) for axis in (x, y))
        self._threads.rows(kernels.spread, len(out), image, along_x, along_y, out)
        return out


def _beam(config: BenchConfig) -> Floats:
    """(rows, cols) of the SLM: a Gaussian beam, ``exp(−2 r²/w²)``."""
    slm, optics = config.slm, config.optics
    x = (np.arange(slm.cols) - (slm.cols - 1) / 2 - optics.beam_offset_x_px) / optics.beam_radius_px
    y = (np.arange(slm.rows) - (slm.rows - 1) / 2 - optics.beam_offset_y_px) / optics.beam_radius_px
    return np.asarray(np.exp(-2 * y**2)[:, None] * np.exp(-2 * x**2), np.float32)


def _reach(sigma_px: float) -> int:
    return math.ceil(4 * sigma_px) if sigma_px > _SHARP_PX else 0


@lru_cache(maxsize=64)
def _taps(sigma_px: float, shift_px: float) -> tuple[int, Floats]:
    """Whole pixels of a shift, and a Gaussian of 4 standard deviations that makes the rest of it.

    A Gaussian that is too narrow to be moved by sampling it elsewhere is moved by linear interpolation.
    """
    whole = math.floor(shift_px + 0.5)
    part = shift_px - whole
    reach = max(_reach(sigma_px + abs(part) / 4), 1 if part else 0)
    distance = np.arange(reach, -reach - 1, -1, dtype=np.float64)
    if sigma_px >= _SAMPLED_PX:
        weight = np.exp(-0.5 * ((distance - part) / sigma_px) ** 2)
    else:
        centred = np.exp(-0.5 * (distance / max(sigma_px, _SHARP_PX)) ** 2)
        aside = np.roll(centred, -1 if part > 0 else 1)
        weight = (1 - abs(part)) * centred + abs(part) * aside
    return whole, (weight / weight.sum()).astype(np.float32)
