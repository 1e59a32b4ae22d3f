"""``preview.npz``: what the camera saw last; made beside the acquisition, which never waits for it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from processes import LIMIT_S, wait_for
from scipy import sparse

from calibration.bench.regions import Regions
from labctl.archive.preview import (
    BINS,
    HEIGHT_MAX,
    PREVIEW,
    SPACING_S,
    WIDTH_MAX,
    PreviewFile,
    Seen,
    read_preview,
    stamp_of,
)
from labctl.engine.onlooker import corners_of


class Clock:
    """A clock that a test sets."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def seen(frame: NDArray[np.uint16], full_scale_dn: int = 4095) -> Seen:
    return Seen(frame, 30, 40, full_scale_dn, 7, "gain")


def written(run: Path, frame: NDArray[np.uint16], full_scale_dn: int = 4095) -> None:
    file = PreviewFile(run)
    file.offer(seen(frame, full_scale_dn))
    file.close()


def test_picture_is_the_frame_made_small_and_nothing_saturated_is_lost(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(50, 4000, (1080, 1920), dtype=np.uint16)
    frame[1079, 1919] = frame[5, 9] = 4095
    written(tmp_path, frame)
    found = read_preview(tmp_path)
    assert found is not None
    assert found.mean_dn.shape == (270, 480)
    assert found.mean_dn[100, 200] == round(float(frame[400:404, 800:804].mean()))
    assert np.argwhere(found.saturated).tolist() == [[1, 2], [269, 479]]
    assert found.histogram.sum() == frame.size
    assert found.histogram[10] == np.count_nonzero((frame >= 640) & (frame < 704))
    about = {"x": 30, "y": 40, "width": 1920, "height": 1080, "block": 4, "saturated_pixels": 2, "sequence": 7}
    assert {key: found.about[key] for key in about} == about


@pytest.mark.parametrize("shape", [(1, 1), (7, 3000), (2999, 5), (HEIGHT_MAX + 1, WIDTH_MAX + 1)])
@pytest.mark.parametrize("full_scale_dn", [255, 1023, 65535])
def test_any_shape_and_depth_fits(tmp_path: Path, shape: tuple[int, int], full_scale_dn: int) -> None:
    frame = np.full(shape, full_scale_dn, np.uint16)
    written(tmp_path, frame, full_scale_dn)
    found = read_preview(tmp_path)
    assert found is not None
    assert found.mean_dn.max() == found.mean_dn.min() == full_scale_dn
    assert found.histogram[BINS - 1] == frame.size
    assert found.about["saturated_pixels"] == frame.size


def test_frames_are_wanted_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    file = PreviewFile(tmp_path, clock)
    assert file.is_due()
    file.offer(seen(np.zeros((4, 4), np.uint16)))
    clock.now_s += SPACING_S / 2
    assert not file.is_due()
    clock.now_s += SPACING_S
    wait_for(file.is_due)
    file.close()


def test_handing_over_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    monkeypatch.setattr("labctl.archive.preview.np.savez", lambda *_, **__: disk.wait(10 * LIMIT_S))
    clock = Clock()
    file = PreviewFile(tmp_path, clock)
    frame = np.zeros((1080, 1920), np.uint16)
    began_s = time.monotonic()
    file.offer(seen(frame))
    assert time.monotonic() - began_s < LIMIT_S
    clock.now_s += 100
    assert not file.is_due()
    disk.set()
    wait_for(file.is_due)
    file.close()


def test_disk_that_is_full_leaves_the_picture_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, np.full((4, 4), 11, np.uint16))
    before = stamp_of(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("labctl.archive.preview.np.savez", full)
    written(tmp_path, np.full((4, 4), 22, np.uint16))
    found = read_preview(tmp_path)
    assert found is not None
    assert found.mean_dn.max() == 11
    assert stamp_of(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [PREVIEW]


@pytest.mark.parametrize(
    "changed",
    [
        {"mean_dn": np.zeros((2000, 2000), np.uint16)},
        {"mean_dn": np.zeros((4, 4), np.float64)},
        {"saturated": np.zeros((3, 4), np.bool_)},
        {"histogram": np.zeros(3, np.int64)},
        {"regions_px": np.zeros((2, 2), np.float32)},
        {"about": np.frombuffer(b"[]", np.uint8)},
        {"about": np.frombuffer(json.dumps({"schema": "labctl.preview/1", "width": "4"}).encode(), np.uint8)},
        {"about": np.array([1.5])},
    ],
)
def test_file_that_somebody_else_made_is_none(tmp_path: Path, changed: dict[str, NDArray[np.generic]]) -> None:
    written(tmp_path, np.zeros((4, 4), np.uint16))
    with np.load(tmp_path / PREVIEW) as file:
        arrays = dict(file)
    np.savez(tmp_path / PREVIEW, **(arrays | changed))  # type: ignore[arg-type]
    assert read_preview(tmp_path) is None


def test_regions_are_the_rectangles_around_their_pixels() -> None:
    """A band two pixels high and five wide, at (3, 1) of a window whose first pixel is (100, 200)."""
    picture = np.zeros((6, 10))
    picture[1:3, 3:8] = 1.0
    picture[3, 3:8] = 0.2  # counts for less than a half
    regions = Regions((100, 200, 10, 6), sparse.csr_matrix(picture.reshape(1, -1)))
    (corners,) = corners_of(regions)
    assert corners.min(axis=0).tolist() == [103, 201]
    assert corners.max(axis=0).tolist() == [107, 202]
