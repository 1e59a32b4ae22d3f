"""Where a matrix lies on the panels: macropixels of the SLM, columns of the display, tiles. No device is named here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.errors import OutOfDomain
from calibration.machine.lut import Levels

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Tile:
    """Part of a matrix that fits the bench: rows ``row0:row1`` and columns ``col0:col1`` of it."""

    row0: int
    row1: int
    col0: int
    col1: int

    @property
    def rows(self) -> slice:
        return slice(self.row0, self.row1)

    @property
    def columns(self) -> slice:
        return slice(self.col0, self.col1)

    @property
    def shape(self) -> tuple[int, int]:
        return self.row1 - self.row0, self.col1 - self.col0


@dataclass(frozen=True)
class Layout:
    """A grid of macropixels in the middle of the SLM panel; columns of the display lie over its columns.

    Attributes
    ----------
    panel_shape
        (rows, columns) of the SLM [px].
    rows, columns
        Macropixels: outputs M and inputs K of one frame.
    pitch_rows_px, pitch_columns_px
        Size of a macropixel with its guard pixels [SLM px].
    active_rows_px, active_columns_px
        Size of its lit part, centred; what remains is guard and stays dark [SLM px].
    """

    panel_shape: tuple[int, int]
    rows: int
    columns: int
    pitch_rows_px: int
    pitch_columns_px: int
    active_rows_px: int
    active_columns_px: int

    def __post_init__(self) -> None:
        for axis, n, pitch, active, size in (
            ("rows", self.rows, self.pitch_rows_px, self.active_rows_px, self.panel_shape[0]),
            ("columns", self.columns, self.pitch_columns_px, self.active_columns_px, self.panel_shape[1]),
        ):
            if n < 1 or not 1 <= active <= pitch or n * pitch > size:
                raise OutOfDomain(
                    f"the {axis} of the layout do not fit the SLM",
                    action="layout",
                    expected=f"{axis} ≥ 1, 1 ≤ active ≤ pitch, {axis} × pitch ≤ {size} px",
                    seen=f"{n} {axis} × {pitch} px, active {active} px",
                    hint="edit [layout] of the station file, then: labctl station check",
                )

    @property
    def origin_px(self) -> tuple[int, int]:
        """(row, column) of the first SLM pixel of macropixel (0, 0)."""
        return (
            (self.panel_shape[0] - self.rows * self.pitch_rows_px) // 2,
            (self.panel_shape[1] - self.columns * self.pitch_columns_px) // 2,
        )

    @property
    def box_px(self) -> tuple[float, float, float, float]:
        """Edges (top, bottom, left, right) of the grid in SLM pixel coordinates (pixel centres are integers)."""
        r0, c0 = self.origin_px
        return (
            r0 - 0.5,
            r0 - 0.5 + self.rows * self.pitch_rows_px,
            c0 - 0.5,
            c0 - 0.5 + self.columns * self.pitch_columns_px,
        )

    def slm_frame(self, levels: Levels) -> Levels:
        """Frame for the SLM that shows given gray levels on the macropixels; guards and the rest of the panel are dark.

        Parameters
        ----------
        levels
            (m, k) with m ≤ ``rows`` and k ≤ ``columns``.

        Returns
        -------
        (rows, columns) of the panel, in the integers of ``levels``.

        Raises
        ------
        OutOfDomain
            When there are more levels than macropixels.
        """
        m, k = levels.shape
        if m > self.rows or k > self.columns:
            raise OutOfDomain(
                "a tile is larger than the bench", expected=f"≤ {self.rows}×{self.columns}", seen=f"{m}×{k}"
            )
        frame = np.zeros(self.panel_shape, levels.dtype)
        r0, c0 = self.origin_px
        grid = frame[r0 : r0 + self.rows * self.pitch_rows_px, c0 : c0 + self.columns * self.pitch_columns_px]
        cells = grid.reshape(self.rows, self.pitch_rows_px, self.columns, self.pitch_columns_px)
        top = (self.pitch_rows_px - self.active_rows_px) // 2
        left = (self.pitch_columns_px - self.active_columns_px) // 2
        cells[:m, top : top + self.active_rows_px, :k, left : left + self.active_columns_px] = levels[:, None, :, None]
        return frame

    def display_index(self, display_shape: tuple[int, int], display_to_slm: Float) -> NDArray[np.intp]:
        """Which column of the grid each display pixel feeds.

        Parameters
        ----------
        display_shape
            (rows, columns) of the display [px].
        display_to_slm
            (3, 3) homography from display to SLM pixel coordinates.

        Returns
        -------
        (rows, columns) intp: 0 … K−1, and K for pixels that stay dark. The columns reach one macropixel beyond
        the first and last row, so that a small misregistration costs no light.
        """
        v, u = np.asarray(np.mgrid[0 : display_shape[0], 0 : display_shape[1]], np.float64)
        x, y = apply_homography(display_to_slm, u, v)
        top, bottom, left, _ = self.box_px
        column = np.floor((x - left) / self.pitch_columns_px)
        inside = (column >= 0) & (column < self.columns)
        inside &= (y > top - self.pitch_rows_px) & (y < bottom + self.pitch_rows_px)
        return np.where(inside, column, self.columns).astype(np.intp)

    def column_edges(self, index: NDArray[np.intp], display_to_slm: Float, moments: int = 3) -> Float:
        """Where the display's columns begin and end, on whole display pixels, against where macropixels do.

        Parameters
        ----------
        index, display_to_slm
            `display_index`, and the homography it was made with.
        moments
            How many powers.

        Returns
        -------
        (moments, M, K + 1): mean over the display rows that light the active part of macropixel row m of the distance
        from the edge k of the grid, its square, … [SLM px]; 0 where no display column ends.
        """
        row, left = np.nonzero(index[:, 1:] != index[:, :-1])
        sides = np.sort(np.stack([index[row, left], index[row, left + 1]]), axis=0)
        edge = np.where((sides[1] == self.columns) & (sides[0] == 0), 0, sides[1])  # column K is what stays dark
        x, y = apply_homography(display_to_slm, np.asarray(left + 0.5, np.float64), row.astype(np.float64))
        top, _, start, _ = self.box_px
        macropixel, inside = np.divmod(y - top, self.pitch_rows_px)
        margin = (self.pitch_rows_px - self.active_rows_px) // 2
        kept = (macropixel >= 0) & (macropixel < self.rows)
        kept &= (inside >= margin) & (inside <= margin + self.active_rows_px)
        at = macropixel[kept].astype(np.intp), edge[kept]
        distance = (x - start - edge * self.pitch_columns_px)[kept]
        count = np.zeros((self.rows, self.columns + 1))
        np.add.at(count, at, 1)
        sums = np.zeros((moments, *count.shape))
        for power in range(moments):
            np.add.at(sums[power], at, distance ** (power + 1))
        return sums / np.maximum(count, 1)

    def tiles(self, shape: tuple[int, int]) -> Iterator[Tile]:
        """Cut a (M, K) matrix into equal tiles no larger than the bench, row of tiles after row of tiles."""
        for r0, r1 in _cut(shape[0], self.rows):
            for c0, c1 in _cut(shape[1], self.columns):
                yield Tile(r0, r1, c0, c1)


def display_frame(levels: Levels, index: NDArray[np.intp]) -> Levels:
    """Frame for the display that shows given gray levels on its columns; the rest is dark.

    Parameters
    ----------
    levels
        (k,) with k ≤ K.
    index
        (rows, columns) which column each pixel of the display belongs to: `Layout.display_index`.

    Returns
    -------
    (rows, columns) of the display, in the integers of ``levels``.
    """
    table = np.zeros(int(index.max()) + 1, levels.dtype)
    table[: len(levels)] = levels
    return np.take(table, index, mode="clip")  # the mode only spares a check of every pixel


def apply_homography(h: Float, x: Float, y: Float) -> tuple[Float, Float]:
    """Map points (x, y) = (column, row) through the (3, 3) homography ``h``."""
    w = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    return (h[0, 0] * x + h[0, 1] * y + h[0, 2]) / w, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / w


def _cut(length: int, limit: int) -> Iterator[tuple[int, int]]:
    pieces = -(-length // limit)
    edges = np.linspace(0, length, pieces + 1).round().astype(int)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
