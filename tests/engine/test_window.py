"""Regions of interest of cameras that have a grid of their own: what is read is what was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from drivers import checks
from drivers.errors import DeviceProtocolError
from drivers.protocols import Roi
from labctl.bench.bench import open_bench
from labctl.bench.window import Window
from labctl.station.loading import LoadedStation
from mock_hardware.camera import MockCamera

Station = Callable[..., LoadedStation]
Grid = Callable[[Roi, tuple[int, int]], Roi]
WANTED = Roi(37, 21, 103, 55)


def around(roi: Roi, shape: tuple[int, int], step: int = 16) -> Roi:
    """The smallest region on the grid that holds the one asked for, as GenICam drivers ask for it."""
    rows, columns = shape
    x, y = roi.x // step * step, roi.y // step * step
    right = min(-(-(roi.x + roi.width) // step) * step, columns)
    bottom = min(-(-(roi.y + roi.height) // step) * step, rows)
    return Roi(x, y, right - x, bottom - y)


def shifted(roi: Roi, shape: tuple[int, int], step: int = 8) -> Roi:
    """The size asked for, at an offset that was rounded down."""
    return Roi(roi.x // step * step, roi.y // step * step, roi.width, roi.height)


def rounded_down(roi: Roi, shape: tuple[int, int], step: int = 8) -> Roi:
    """Offset and size rounded down."""
    return Roi(*(value // step * step for value in (roi.x, roi.y, roi.width, roi.height)))


def only_full(roi: Roi, shape: tuple[int, int]) -> Roi:
    """A camera without regions."""
    return Roi(0, 0, *shape[::-1])


GRIDS = [around, shifted, rounded_down, only_full]


def put_on_grid(monkeypatch: pytest.MonkeyPatch, grid: Grid) -> list[Roi]:
    """Let the mock camera align its regions; returns those that were set."""
    exact, set_to = MockCamera.roi, list[Roi]()

    def set_roi(camera: MockCamera, value: Roi) -> None:
        checks.roi_set(camera.name, value, camera.shape)
        set_to.append(grid(value, camera.shape))
        assert exact.fset is not None
        exact.fset(camera, set_to[-1])

    monkeypatch.setattr(MockCamera, "roi", property(exact.fget, set_roi))
    return set_to


@pytest.mark.parametrize("grid", GRIDS)
def test_the_pixels_asked_for_are_read_whatever_the_grid(
    grid: Grid, small_station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to = put_on_grid(monkeypatch, grid)
    with open_bench(small_station().station) as bench:
        camera, window = bench.camera, Window()
        camera.arm(1)
        whole = camera.fetch(5.0).frames[0].astype(float)
        rows, columns = np.indices(camera.shape)
        camera.arm(2)
        block = camera.fetch(5.0)
        window.ask(camera, WANTED)
        regions = len(set_to)
        block = camera.arm(2) or camera.fetch(5.0)
        # each pixel tells where it lies
        given = camera.roi
        place = (rows * 1000 + columns)[given.y : given.y + given.height, given.x : given.x + given.width]
        block.frames[:] = place % 65536
        cut = window.cut(camera, block)
        assert whole.shape == camera.shape
        assert cut.frames.shape == (2, *WANTED.shape)
        assert np.all(cut.frames == (rows * 1000 + columns)[21:76, 37:140] % 65536)
        assert cut.saturated_fraction == pytest.approx((cut.frames >= 4095).mean(axis=(1, 2)))
        window.ask(camera, WANTED)
        assert len(set_to) == regions, "the stream is not interrupted for a region that is set"


def test_a_camera_that_never_gives_the_pixels_is_refused(
    small_station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_grid(monkeypatch, lambda roi, shape: Roi(0, 0, 64, 32))
    with open_bench(small_station().station) as bench:
        with pytest.raises(DeviceProtocolError, match="another region") as caught:
            Window().ask(bench.camera, WANTED)
        assert caught.value.expected == "one that holds columns 37…140, rows 21…76"
        assert caught.value.seen == "columns 0…64, rows 0…32 read back"


def test_frames_of_another_size_than_the_region_are_refused(small_station: Station) -> None:
    with open_bench(small_station().station) as bench:
        window = Window()
        window.ask(bench.camera, Roi(0, 0, 64, 32))
        bench.camera.arm(1)
        block = bench.camera.fetch(5.0)
        window.ask(bench.camera, WANTED)
        with pytest.raises(DeviceProtocolError, match="another size"):
            window.cut(bench.camera, block)
