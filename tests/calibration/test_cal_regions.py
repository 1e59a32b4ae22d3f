"""Camera regions: coverage by brute force, sums of images with known values."""

import numpy as np
import pytest

from calibration.bench.regions import camera_regions
from calibration.errors import BadScan
from calibration.machine.layout import Layout

LAYOUT = Layout((70, 90), 6, 8, 10, 10, 8, 8)
SENSOR = (160, 180)


def view(degrees=0.0, scale=1.0, mirror=1, perspective=(0.0, 0.0)):
    """SLM → camera about the centres of both."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    to, turn, back = np.eye(3), np.array([[mirror * c, -s, 0], [mirror * s, c, 0], [*perspective, 1]]), np.eye(3)
    back[:2, 2] = -44.5, -34.5
    to[:2, 2] = 90.3, 80.2
    return to @ turn @ back


VIEWS = [
    view(),
    view(2.0, 1.3),
    view(-7.0, 0.9, mirror=-1),
    view(179.0, 1.1),
    view(1.0, 1.2, 1, (2e-4, 1e-4)),
    view(90.0, 1.1),
    view(-90.0),
    view(44.0),
]


def rows_of(h, x, y):
    """Row coordinate of camera points on the grid: 0 at its top edge, 6 at its bottom."""
    px, py, w = np.tensordot(np.linalg.inv(h), np.stack([x, y, np.ones_like(x)]), 1)
    return (py / w - 4.5) / 10, (px / w - 4.5) / 10


def dense(regions):
    x0, y0, width, height = regions.window
    x, y = np.meshgrid(np.arange(x0, x0 + width, dtype=float), np.arange(y0, y0 + height, dtype=float))
    return regions.weights.toarray().reshape(6, height, width), x, y


@pytest.mark.parametrize("h", VIEWS)
def test_weights_share_every_inner_pixel_out_completely(h):
    weights, x, y = dense(camera_regions(LAYOUT, h, SENSOR))
    row, column = rows_of(h, x, y)
    reach = np.maximum(np.abs(rows_of(h, x, y + 0.5)[0] - row), np.abs(rows_of(h, x + 0.5, y)[0] - row)) + 0.01
    inner = (row > reach) & (row < 6 - reach) & (column > -0.49) & (column < 8.49)
    assert inner.sum() > 3000
    assert weights.sum(0)[inner] == pytest.approx(np.ones(inner.sum()), abs=1e-6)  # shares below 1e-6 are dropped
    outside = (row < -reach) | (row > 6 + reach) | (column < -0.51) | (column > 8.51)
    assert not weights.sum(0)[outside].any()


@pytest.mark.parametrize("h", VIEWS)
def test_a_pixel_counts_with_the_part_of_its_height_that_lies_in_the_band(h):
    weights, x, y = dense(camera_regions(LAYOUT, h, SENSOR))
    sideways = abs(np.linalg.inv(h)[1, 0]) > abs(np.linalg.inv(h)[1, 1])  # of its width, where bands are upright
    steps = (np.arange(200) + 0.5) / 200 - 0.5
    share = np.zeros_like(weights)
    for step in steps:
        band = np.floor(rows_of(h, *((x + step, y) if sideways else (x, y + step)))[0])
        for m in range(6):
            share[m] += (band == m) / 200
    column = rows_of(h, x, y)[1]
    across = (column > -0.49) & (column < 8.49)
    # 200 samples resolve 1/200; a perspective bends a pixel by less than that
    assert np.abs(weights - share)[:, across].max() < 0.011


def test_sums_of_an_image_with_known_rows_are_those_rows():
    """Aligned with the pixels up to a fraction: the border pixel holds both rows' light, each band its share."""
    h = np.eye(3)
    h[:2, 2] = 20, 30.25
    regions = camera_regions(LAYOUT, h, SENSOR, margin_columns=0.0)
    value = np.array([100, 4000, 250, 900, 60, 3000])
    x0, y0, width, height = regions.window
    fine = np.repeat(np.concatenate([[0] * 400, np.repeat(value, 1000), [0] * 400]), 1)  # 100 samples a pixel
    start = 5 - 0.5 + 30.25 - 4.0  # camera y of the first sample
    image = np.zeros(SENSOR)
    for y in range(y0, y0 + height):
        first = round((y - 0.5 - start) * 100)
        if 0 <= first <= len(fine) - 100:
            image[y] = fine[first : first + 100].mean()
    frames = image[None, y0 : y0 + height, x0 : x0 + width].astype(np.uint16)
    sums = regions.sum(np.concatenate([frames, 2 * frames]))
    # each band: 9 whole rows of pixels, and 3/4 and 1/4 of two that are shared with its neighbours
    shared = [
        9 * v + 0.75 * (0.75 * v + 0.25 * before) + 0.25 * (0.25 * v + 0.75 * after)
        for v, before, after in zip(value, [0, *value[:-1]], [*value[1:], 0], strict=True)
    ]
    assert sums[0] == pytest.approx(80 * np.array(shared), abs=80 * 1.0)  # gray values are cut to whole DN
    assert np.array_equal(sums[1], 2 * sums[0])
    assert regions.area_px == pytest.approx(np.full(6, 800))
    assert regions.area2_px == pytest.approx(np.full(6, 80 * (9 + 0.75**2 + 0.25**2)))


def test_central_keeps_the_middle_rows_in_a_lower_window():
    regions = camera_regions(LAYOUT, view(3.0, 1.2), SENSOR)
    image = np.random.default_rng(1).integers(0, 4000, SENSOR).astype(np.uint16)

    def cut(r):
        x, y, width, height = r.window
        return r.sum(image[None, y : y + height, x : x + width])[0]

    few = regions.central(2)
    assert cut(few) == pytest.approx(cut(regions)[2:4], rel=1e-12)
    assert few.window[3] < 0.6 * regions.window[3]
    assert cut(regions.central(99)) == pytest.approx(cut(regions), rel=1e-12)


@pytest.mark.parametrize("shift", [(-60, 0), (60, 0), (0, -60), (0, 60)])
def test_a_grid_off_the_sensor_is_a_bad_scan(shift):
    h = view()
    h[:2, 2] += shift
    with pytest.raises(BadScan):
        camera_regions(LAYOUT, h, SENSOR)
