"""The channel that a layout of macropixels really has on the mock bench: what a calibration should find.

Nothing is fitted: the light of single macropixels, many far apart at a time, is rendered and summed over the camera
pixels of each output. The light is linear in each panel's image, so the light of a macropixel that is fully on less
that of one fully off, at a display column fully on less one fully off, is what the two exchange.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from drivers.options import Checked, merge, option
from drivers.protocols import Levels, Roi
from mock_hardware.bench import MockBench
from mock_hardware.geometry import camera_to_panel, panel_to_camera

Float = NDArray[np.float64]

_APART = 4  # macropixels from one that is lit to the next


@dataclass(frozen=True)
class Grid(Checked):
    """A grid of macropixels in the middle of the SLM: the keys of the station file's ``[layout]``."""

    rows: int = option(1, 4096, 128)
    columns: int = option(1, 4096, 128)
    pitch_rows_px: int = option(1, 1024, 6)
    pitch_columns_px: int = option(1, 1024, 8)
    active_rows_px: int = option(1, 1024, 4)
    active_columns_px: int = option(1, 1024, 4)


def effective(bench: MockBench, layout: Mapping[str, Any]) -> dict[str, Any]:
    """Gain map, crosstalk, input bleed and noise of a layout, settled, at the bench's present exposure.

    Parameters
    ----------
    layout
        Keys of `Grid`; others are ignored.

    Returns
    -------
    dict, JSON types
        ``gain_map_dn`` (rows, columns): signal of output m when only macropixel (m, k) and column k are on [DN].
        ``crosstalk``: mean part of that which neighbour outputs m − 1 and m + 1 get, over the macropixels that have
        such a neighbour [1].
        ``input_bleed``: mean part that macropixel (m, k) takes from columns k − 1 and k + 1, over those that have such
        a neighbour [1].
        ``read_dn``, ``shot_dn``, ``intensity_noise``: σ, κ and ρ of ``σ² + κ s + (ρ (s + b))²``, the variance of an
        output with signal s above the offset b of stray light [DN], [DN], [1]. σ holds the camera's read noise and
        rounding, and the shot noise of stray light, of the room's light and of the dark current.
    """
    known = {key: layout[key] for key in Grid.__dataclass_fields__ if key in layout}
    grid = merge(Grid(), known, "layout")
    render = _Renderer(bench, grid)
    gain_map = np.zeros((grid.rows, grid.columns))
    crosstalk, bleed = np.zeros(2), np.zeros(2)
    for row in range(min(_APART, grid.rows)):
        for column in range(min(_APART, grid.columns)):
            own = render.exchange(row, column, 0)
            gain_map[row::_APART, column::_APART] = own[row::_APART, column::_APART]
            crosstalk += _passed_on(own, row, column)
            if row == 0:
                for side in (0, 1):
                    taken = render.exchange(row, column, 2 * side - 1)
                    bleed[side] += taken[row::_APART, column::_APART].sum()
    camera, source = bench.config.camera, bench.config.source
    area2 = float(render.weights.multiply(render.weights).sum(axis=1).mean())
    area = float(render.weights.sum(axis=1).mean())
    k = camera.gain_dn_per_e
    still_e = bench.photo_electrons(True)[1] + bench.exposure_s * bench.sensor.mean_dark_e_per_s()
    pixel2 = k**2 * (camera.read_noise_e**2 + still_e) + 1 / 12
    read2 = area2 * pixel2 + area * render.width_px * (k * camera.row_noise_e) ** 2
    return {
        "gain_map_dn": gain_map.tolist(),
        "gain_mean_dn": float(gain_map.mean()),
        "gain_spread": float(gain_map.std() / gain_map.mean()),
        "crosstalk": _shares(crosstalk, gain_map[1:], gain_map[:-1]),
        "input_bleed": _shares(bleed, gain_map[::_APART, 1:], gain_map[::_APART, :-1]),
        "read_dn": float(np.sqrt(read2)),
        "shot_dn": k * area2 / area,
        "intensity_noise": source.rin_rms,
    }


def _shares(parts: Float, *wholes: Float) -> list[float]:
    """Each part over the sum of its whole; 0 where there is nothing to share."""
    return [float(part / whole.sum()) if whole.size else 0.0 for part, whole in zip(parts, wholes, strict=True)]


def _passed_on(own: Float, row: int, column: int) -> Float:
    """(2,) signal that the outputs before and after those that are lit get."""
    lit = own[:, column::_APART].sum(axis=1)
    after = lit[row + 1 :: _APART].sum()
    before = lit[row - 1 :: _APART].sum() if row else lit[_APART - 1 :: _APART].sum()
    return np.array([before, after])


class _Renderer:
    """The light of macropixels, and which camera pixels belong to them."""

    def __init__(self, bench: MockBench, grid: Grid) -> None:
        self._bench, self._grid = bench, grid
        config = bench.config
        camera, slm = config.camera, config.slm
        self._slm_matrix = panel_to_camera(slm, camera)
        self._top = (slm.rows - grid.rows * grid.pitch_rows_px) // 2
        self._left = (slm.cols - grid.columns * grid.pitch_columns_px) // 2
        self._roi = Roi(0, 0, camera.cols, camera.rows)
        points = np.indices((camera.rows, camera.cols))[::-1].reshape(2, -1).T.astype(np.float64)
        seen = camera_to_panel(points, np.linalg.inv(self._slm_matrix), camera, config.optics.distortion)
        row = (seen[:, 1] + 0.5 - self._top) / grid.pitch_rows_px
        self._column = np.floor((seen[:, 0] + 0.5 - self._left) / grid.pitch_columns_px + 0.5).astype(int)
        across = (self._column >= 0) & (self._column <= grid.columns)
        self.weights = self._bands(row, across)
        self.width_px = grid.columns * grid.pitch_columns_px * slm.magnification

    def exchange(self, row: int, column: int, aside: int) -> Float:
        """(rows, columns) signal near each macropixel when those at ``row``, ``column`` and every fourth from there are
        on, and the display's columns ``aside`` of them [DN]."""
        bench = self._bench
        light = np.zeros(self._roi.shape)
        for slm_on in (True, False):
            slm = bench.slm.settled(self._slm_levels(row, column, slm_on))
            for display_on in (True, False):
                display = bench.display.settled(self._display_levels(column + aside, display_on))
                sign = 1 if display_on == slm_on else -1
                light += sign * bench.optics.light(display, slm, self._roi)
        electrons, _ = bench.photo_electrons(True)
        signal = (electrons * bench.config.camera.gain_dn_per_e * light).ravel()
        nearest = (self._column + _APART // 2 - column - 1) // _APART * _APART + column  # the lit one it is nearest to
        kept = (nearest >= 0) & (nearest < self._grid.columns)
        place = sparse.csr_matrix(
            (signal[kept], (np.flatnonzero(kept), nearest[kept])), shape=(signal.size, self._grid.columns)
        )
        return np.asarray((self.weights @ place).todense(), np.float64)

    def _bands(self, row: Float, across: NDArray[np.bool_]) -> sparse.csr_matrix:
        """(outputs, pixels) part of each camera pixel that lies in the band of each output."""
        half = 0.5 / (self._grid.pitch_rows_px * self._bench.config.slm.magnification)
        first = np.floor(row - half).astype(int)
        parts = []
        for band in (first, first + 1):
            part = (np.minimum(row + half, band + 1) - np.maximum(row - half, band)) / (2 * half)
            kept = across & (band >= 0) & (band < self._grid.rows) & (part > 1e-6)
            parts.append((part[kept], band[kept], np.flatnonzero(kept)))
        part, band, pixel = (np.concatenate(column) for column in zip(*parts, strict=True))
        return sparse.csr_matrix((part, (band, pixel)), shape=(self._grid.rows, row.size))

    def _slm_levels(self, row: int, column: int, is_on: bool) -> Levels:
        grid, slm = self._grid, self._bench.config.slm
        levels = np.zeros((slm.rows, slm.cols), np.uint16)
        height, width = grid.rows * grid.pitch_rows_px, grid.columns * grid.pitch_columns_px
        cells = levels[self._top : self._top + height, self._left : self._left + width]
        cells = cells.reshape(grid.rows, grid.pitch_rows_px, grid.columns, grid.pitch_columns_px)
        top = (grid.pitch_rows_px - grid.active_rows_px) // 2
        left = (grid.pitch_columns_px - grid.active_columns_px) // 2
        active = slice(top, top + grid.active_rows_px), slice(left, left + grid.active_columns_px)
        cells[row::_APART, active[0], column::_APART, active[1]] = slm.levels - 1 if is_on else 0
        return levels

    def _display_levels(self, column: int, is_on: bool) -> Levels:
        grid, display = self._grid, self._bench.config.display
        matrix = np.linalg.inv(self._slm_matrix) @ panel_to_camera(display, self._bench.config.camera)
        y, x = np.mgrid[0 : display.rows, 0 : display.cols].reshape(2, -1)
        seen = matrix @ np.stack([x, y, np.ones_like(x)])
        lies_over = np.floor((seen[0] / seen[2] + 0.5 - self._left) / grid.pitch_columns_px)
        lit = (lies_over % _APART == column % _APART) & (lies_over >= 0) & (lies_over < grid.columns)
        return np.where(lit & is_on, display.levels - 1, 0).astype(np.uint16).reshape(display.rows, display.cols)
