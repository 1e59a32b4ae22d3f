"""Values for the station file that follow from what was seen, each with the reason as its comment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.bench.focus import bleed, leak
from calibration.bench.stripes import Located
from calibration.errors import OutOfDomain
from calibration.machine.layout import apply_homography
from labctl.align.look import Light, View
from labctl.nodes.registration import layout_of
from labctl.station.model import Acquisition, LayoutTable, Station

LEAK_TARGET = 0.04
PITCH_MAX_PX = 64
CAMERA_PIXELS_PER_ROW = 2.0
GRID_MIN = 4
"""Fewer rows or columns are no layout to calibrate."""
SPARE_PX = 4
"""What the layout keeps from the sensor's edge besides: the image moves a little [SLM px]."""


@dataclass(frozen=True)
class Proposed:
    """A key of the station file.

    Attributes
    ----------
    key
        Dotted: ``"acquisition.exposure_s"``.
    value
        To write.
    present
        What the station has.
    reason
        Why, for the comment beside it.
    """

    key: str
    value: float | int
    present: float | int
    reason: str


def proposals(view: View, station: Station) -> list[Proposed]:
    """Exposure, settle frames and layout, as far as what was seen allows; what is right already is left out."""
    found = [*_exposure(view.light, station.acquisition), *_settling(view, station)]
    if view.blurs_px:
        found += _layout(view, station.layout)
    return [one for one in found if one.value != one.present]


def layout_window(view: View, station: Station) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) of the sensor on which the station's layout lies; None where that is not known [px]."""
    slm = view.panels.get("slm")
    if slm is None or slm.located is None:
        return None
    try:
        layout = layout_of(station, slm.shape)
    except OutOfDomain:
        return None
    top, bottom, left, right = layout.box_px
    down, across = layout.pitch_rows_px / 2, layout.pitch_columns_px / 2
    top, bottom, left, right = top - down, bottom + down, left - across, right + across
    x, y = apply_homography(
        slm.located.panel_to_camera, np.array([left, right, right, left]), np.array([top, top, bottom, bottom])
    )
    height, width = view.picture.shape
    x0, y0 = max(int(x.min()), 0), max(int(y.min()), 0)
    return x0, y0, min(int(np.ceil(x.max())), width) - x0, min(int(np.ceil(y.max())), height) - y0


def _exposure(light: Light, acquisition: Acquisition) -> Iterator[Proposed]:
    if light.is_seen and not light.fits and 0.3 <= light.peak <= 0.95:
        value = float(f"{light.exposure_s:.4g}")
        reason = f"the brightest pixels reach {light.peak:.0%} of the range, {light.asked_peak:.0%} before"
        yield Proposed("acquisition.exposure_s", value, acquisition.exposure_s, reason)


def _settling(view: View, station: Station) -> Iterator[Proposed]:
    share = station.limits.settled_residue_max
    for name, panel in view.panels.items():
        if panel.settling is None:
            continue
        needed = panel.settle_frames(share)
        key = f"{name}_settle_frames"
        reason = f"then less than {share:.1%} of a step is left ({panel.slowest.tau_in_words()} at this exposure)"
        yield Proposed(f"acquisition.{key}", needed, getattr(station.acquisition, key), reason)


def _layout(view: View, layout: LayoutTable) -> Iterator[Proposed]:
    """The station's layout where the optics carry it, else the finest one that they do."""
    slm = view.panels["slm"]
    assert slm.located is not None
    pitch_rows, active_rows = layout.pitch_rows_px, layout.active_rows_px
    pitch_columns, active_columns = layout.pitch_columns_px, layout.active_columns_px
    blur_rows, blur_columns = view.blurs_px["slm"], view.blurs_px["display"]
    finest = CAMERA_PIXELS_PER_ROW / slm.located.magnification
    if leak(pitch_rows, active_rows, blur_rows) > LEAK_TARGET or pitch_rows < finest:
        pitch_rows, active_rows = next(
            (p, max(round(2 * p / 3), 1))
            for p in range(2, PITCH_MAX_PX + 1)
            if p == PITCH_MAX_PX or (p >= finest and leak(p, max(round(2 * p / 3), 1), blur_rows) <= LEAK_TARGET)
        )
    if bleed(pitch_columns, active_columns, blur_columns) > LEAK_TARGET:
        pitch_columns, active_columns = next(
            (p, max(p // 2, 1))
            for p in range(2, PITCH_MAX_PX + 1)
            if p == PITCH_MAX_PX or bleed(p, max(p // 2, 1), blur_columns) <= LEAK_TARGET
        )
    pitch = pitch_rows, pitch_columns
    rows, columns = _usable(view, (layout.rows * pitch_rows, layout.columns * pitch_columns), pitch)
    wanted = {
        "rows": (min(layout.rows, rows // pitch_rows), "rows that both panels and the sensor have room for"),
        "columns": (min(layout.columns, columns // pitch_columns), "columns that there is room for"),
        "pitch_rows_px": (pitch_rows, f"for a blur of {blur_rows:.2g} SLM pixels"),
        "active_rows_px": (active_rows, f"for a blur of {blur_rows:.2g} SLM pixels"),
        "pitch_columns_px": (pitch_columns, f"for a display that is blurred by {blur_columns:.2g} SLM pixels"),
        "active_columns_px": (active_columns, f"for a display that is blurred by {blur_columns:.2g} SLM pixels"),
    }
    if min(wanted["rows"][0], wanted["columns"][0]) < GRID_MIN:
        return
    for key, (value, reason) in wanted.items():
        yield Proposed(f"layout.{key}", value, getattr(layout, key), reason)


def _usable(view: View, asked_px: tuple[int, int], pitch_px: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of the largest part in the SLM's middle, no larger than asked, that all see [SLM px]."""
    slm, display = view.panels["slm"], view.panels["display"]
    assert slm.located is not None
    assert display.located is not None
    full = min(asked_px[0], slm.shape[0]), min(asked_px[1], slm.shape[1])
    for share in np.linspace(1.0, 0.0, 200):
        lower, narrower = int(full[0] * share), int(full[1] * share)
        for size in ((lower, full[1]), (full[0], narrower), (lower, narrower)):
            if _is_seen(slm.located, display.located, slm.shape, display.shape, view.picture.shape, size, pitch_px):
                return size
    return 0, 0


def _is_seen(
    slm: Located,
    display: Located,
    slm_shape: tuple[int, int],
    display_shape: tuple[int, int],
    sensor: tuple[int, ...],
    size: tuple[int, int],
    pitch_px: tuple[int, int],
) -> bool:
    """Whether a part of ``size`` (rows, columns) in the SLM's middle lies on the display, and read on the sensor.

    What is read reaches half a macropixel beyond it on each side.
    """

    def on_camera(rows: float, columns: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = (slm_shape[1] - 1) / 2 + columns / 2 * np.array([-1.0, 1.0, 1.0, -1.0])
        y = (slm_shape[0] - 1) / 2 + rows / 2 * np.array([-1.0, -1.0, 1.0, 1.0])
        return apply_homography(slm.panel_to_camera, x, y)

    cx, cy = on_camera(size[0] + pitch_px[0] + SPARE_PX, size[1] + pitch_px[1] + SPARE_PX)
    on_sensor = cx.min() >= 0 and cy.min() >= 0 and cx.max() <= sensor[1] - 1 and cy.max() <= sensor[0] - 1
    inverse = np.asarray(np.linalg.inv(display.panel_to_camera), np.float64)
    dx, dy = apply_homography(inverse, *on_camera(size[0] - 1, size[1] - 1))
    on_display = (
        dx.min() >= 0 and dy.min() >= 0 and dx.max() <= display_shape[1] - 1 and dy.max() <= display_shape[0] - 1
    )
    return bool(on_sensor and on_display)
