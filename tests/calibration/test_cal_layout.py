"""Frames, indices and tiles, pixel by pixel."""

import cv2
import numpy as np
import pytest

from calibration.errors import OutOfDomain
from calibration.machine.layout import Layout, apply_homography, display_frame

LAYOUT = Layout((41, 52), 5, 6, 7, 8, 4, 5)


def brute_frame(layout, levels):
    rows, columns = layout.panel_shape
    r0 = (rows - layout.rows * layout.pitch_rows_px) // 2
    c0 = (columns - layout.columns * layout.pitch_columns_px) // 2
    top = (layout.pitch_rows_px - layout.active_rows_px) // 2
    left = (layout.pitch_columns_px - layout.active_columns_px) // 2
    frame = np.zeros(layout.panel_shape, np.uint8)
    for r in range(rows):
        for c in range(columns):
            m, i = divmod(r - r0, layout.pitch_rows_px)
            k, j = divmod(c - c0, layout.pitch_columns_px)
            lit = top <= i < top + layout.active_rows_px and left <= j < left + layout.active_columns_px
            if lit and 0 <= m < levels.shape[0] and 0 <= k < levels.shape[1]:
                frame[r, c] = levels[m, k]
    return frame


@pytest.mark.parametrize("shape", [(5, 6), (3, 6), (5, 2), (1, 1)])
@pytest.mark.parametrize("layout", [LAYOUT, Layout((35, 48), 5, 6, 7, 8, 7, 8)])
def test_slm_frame_shows_each_macropixel_centred_with_dark_guards(layout, shape):
    levels = np.random.default_rng(1).integers(1, 256, shape).astype(np.uint8)
    frame = layout.slm_frame(levels)
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, brute_frame(layout, levels))


def test_the_grid_lies_in_the_middle_of_the_panel():
    lit = np.argwhere(LAYOUT.slm_frame(np.ones((5, 6), np.uint8)))
    middle = (lit.min(0) + lit.max(0)) / 2
    assert np.abs(middle - (np.array(LAYOUT.panel_shape) - 1) / 2).max() <= 1  # two roundings of half a pixel
    top, bottom, left, right = LAYOUT.box_px
    assert (bottom - top, right - left) == (35, 48)
    assert LAYOUT.origin_px == (top + 0.5, left + 0.5)


def test_a_tile_larger_than_the_bench_is_refused():
    with pytest.raises(OutOfDomain):
        LAYOUT.slm_frame(np.ones((6, 6), np.uint8))
    with pytest.raises(OutOfDomain):
        LAYOUT.slm_frame(np.ones((5, 7), np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 6},
        {"columns": 7},
        {"rows": 0},
        {"active_rows_px": 8},
        {"active_columns_px": 0},
        {"pitch_columns_px": 9},
    ],
)
def test_a_layout_that_does_not_fit_the_panel_is_refused(change):
    good = {
        "panel_shape": (41, 52),
        "rows": 5,
        "columns": 6,
        "pitch_rows_px": 7,
        "pitch_columns_px": 8,
        "active_rows_px": 4,
        "active_columns_px": 5,
    }
    with pytest.raises(OutOfDomain):
        Layout(**{**good, **change})


def rotated(degrees, scale, x, y, perspective=(0.0, 0.0)):
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y], [*perspective, 1]])


MIRRORED = np.array([[-1.0, 0, 55], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    "h", [rotated(8, 0.9, 6, -3), rotated(-97, 1.1, -5, 45), rotated(3, 0.8, 1, 2, (3e-4, -2e-4)), MIRRORED]
)
def test_display_pixels_feed_the_column_their_centre_falls_on(h):
    index = LAYOUT.display_index((50, 60), h)
    left, top = 2 - 0.5, 3 - 0.5  # (52 − 48) / 2 and (41 − 35) / 2 pixels of margin, pixel edges at −0.5
    for v in range(50):
        for u in range(60):
            x, y, w = h @ [u, v, 1]
            k = int(np.floor((x / w - left) / 8))
            within = -7 < y / w - top < 35 + 7
            assert index[v, u] == (k if 0 <= k < 6 and within else 6)
    assert set(range(7)) == set(np.unique(index))


def test_apply_homography_agrees_with_opencv():
    h = rotated(20, 1.3, 4, 5, (1e-3, 2e-3))
    points = np.random.default_rng(2).random((30, 2)) * 100
    expected = cv2.perspectiveTransform(points[None], h)[0]
    assert np.stack(apply_homography(h, *points.T), 1) == pytest.approx(expected, abs=1e-9)


def test_display_frame_shows_levels_on_their_columns_and_dark_elsewhere():
    index = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    assert display_frame(np.array([9, 8], np.uint8), index).tolist() == [[9, 8, 0, 0], [0, 0, 8, 9]]


def test_tiles_cover_every_element_once_and_never_exceed_the_bench():
    for m in range(1, 24):
        for k in range(1, 24):
            count = np.zeros((m, k), int)
            sizes = set()
            for tile in LAYOUT.tiles((m, k)):
                count[tile.rows, tile.columns] += 1
                assert tile.shape == count[tile.rows, tile.columns].shape
                assert tile.shape[0] <= 5
                assert tile.shape[1] <= 6
                sizes.add(tile.shape)
            assert (count == 1).all()
            for axis in (0, 1):
                assert np.ptp([s[axis] for s in sizes]) <= 1


@pytest.mark.parametrize("limit", [1, 7, 24, 30])
def test_no_more_tiles_than_needed(limit):
    layout = Layout((limit, 1), limit, 1, 1, 1, 1, 1)
    for length in range(1, 200):
        tiles = list(layout.tiles((length, 1)))
        assert len(tiles) == -(-length // limit)
        assert max(t.shape[0] for t in tiles) <= limit
