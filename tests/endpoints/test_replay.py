"""Recordings as cameras: folders of PNG and TIFF images, HDF5 stacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    NotConnected,
    OpenContext,
    Roi,
    describe,
    open_device,
)
from drivers.testing import TriggeredCameraContract


def replay(path: Path, **options: Any) -> Any:
    table = {"path": str(path), "exposure_s": 0.005, **options}
    return open_device("replay", "camera", table, OpenContext())


def frames(count: int, bits: int = 12) -> np.ndarray:
    """(count, 64, 128) uint16: noise, and the number of the frame in its first pixel."""
    stack = np.random.default_rng(3).integers(0, 2**bits, (count, 64, 128), np.uint16)
    stack[:, 0, 0] = np.arange(count)
    return stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve 16-bit images, numbered so that an alphabetical order would be wrong."""
    for number, image in enumerate(frames(12)):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), image)
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


class Recorded(TriggeredCameraContract):
    exposure_is_fixed = True

    def now_s(self, camera: Any) -> float:
        return camera._acquire.now_s()


class TestFolder(Recorded):
    @pytest.fixture(autouse=True)
    def recorded(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> Any:
        return replay(self.folder, bit_depth=12, frame_rate_hz=100.0, loop=True)


class TestStack(Recorded):
    @pytest.fixture(autouse=True)
    def recorded(self, tmp_path: Path) -> None:
        self.file = tmp_path / "run.h5"
        with h5py.File(self.file, "w") as file:
            file["camera/frames"] = frames(12)

    def open(self) -> Any:
        return replay(self.file, dataset="camera/frames", bit_depth=12, frame_rate_hz=100.0, loop=True)


def test_frames_come_in_natural_order_from_the_first_on(folder: Path) -> None:
    with replay(folder, bit_depth=12) as camera:
        camera.arm(5)
        first = camera.fetch(5.0)
        camera.arm(2, skip=5)
        second = camera.fetch(5.0)
    assert np.array_equal(first.frames, frames(12)[:5])
    assert second.frames[:, 0, 0].tolist() == [10, 11]
    assert second.device_sequence.tolist() == [10, 11]
    assert first.sequence.tolist() == [0, 1, 2, 3, 4]
    assert second.device_time_s == pytest.approx([0.050, 0.055])


def test_the_same_recording_gives_the_same_frames(folder: Path) -> None:
    blocks = []
    for _ in range(2):
        with replay(folder, bit_depth=12, frame_rate_hz=200.0) as camera:
            camera.roi = Roi(3, 5, 20, 10)
            camera.arm(4, skip=1)
            blocks.append(camera.fetch(5.0))
    assert np.array_equal(blocks[0].frames, blocks[1].frames)
    assert np.array_equal(blocks[0].device_time_s, blocks[1].device_time_s)
    assert np.array_equal(blocks[0].frames, frames(12)[1:5, 5:15, 3:23])


def test_the_end_is_a_lost_device_that_opens_again(folder: Path) -> None:
    with replay(folder, bit_depth=12) as camera:
        camera.arm(13)
        with pytest.raises(DeviceLost, match="ended"):
            camera.fetch(5.0)
        camera.arm(1)
        with pytest.raises(DeviceLost, match="ended"):
            camera.fetch(5.0)
    with replay(folder, bit_depth=12, loop=True) as camera:
        camera.arm(13)
        assert camera.fetch(5.0).frames[:, 0, 0].tolist() == [*range(12), 0]


def test_left_justified_frames_are_shifted_and_contradictions_refused(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    for number, image in enumerate(frames(3)):
        cv2.imwrite(str(tmp_path / "left" / f"{number}.tif"), image << 4)
    with replay(tmp_path / "left", bit_depth=12) as camera:
        camera.arm(1)
        assert np.array_equal(camera.fetch(5.0).frames[0], frames(3)[0])
    (tmp_path / "full").mkdir()
    cv2.imwrite(str(tmp_path / "full" / "0.png"), frames(1, bits=16)[0])
    with pytest.raises(DeviceProtocolError, match="bit depth"):
        replay(tmp_path / "full", bit_depth=12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    "odd",
    [np.zeros((64, 127), np.uint16), np.zeros((64, 128), np.uint8), np.zeros((64, 128, 3), np.uint16)],
    ids=["shape", "type", "colour"],
)
def test_a_file_that_is_unlike_the_others_is_named(folder: Path, suffix: str, odd: np.ndarray) -> None:
    cv2.imwrite(str(folder / f"frame7b.{suffix}"), odd)
    with pytest.raises(NotConnected, match="frame7b"):
        replay(folder)


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    (folder / "frame3.png").write_bytes(b"nothing")
    with pytest.raises(NotConnected, match="frame3"):
        replay(folder)


def test_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    cv2.imwritemulti(str(tmp_path / "pages.tif"), list(frames(2)))
    with pytest.raises(NotConnected, match=r"pages\.tif"):
        replay(tmp_path)


def test_a_file_that_disappears_is_a_lost_device(folder: Path) -> None:
    with replay(folder, bit_depth=12) as camera:
        (folder / "frame1.png").unlink()
        camera.arm(2)
        with pytest.raises(DeviceLost, match="frame1"):
            camera.fetch(5.0)


@pytest.mark.parametrize(
    ("stack", "dataset"),
    [
        (np.zeros((2, 8, 8), np.float32), "frames"),
        (np.zeros((2, 8, 8), np.int16), "frames"),
        (np.zeros((8, 8), np.uint16), "frames"),
        (np.zeros((0, 8, 8), np.uint16), "frames"),
        (np.zeros((2, 8, 8), np.uint16), "frame"),
        (np.zeros((2, 8, 8), np.uint16), ""),
    ],
)
def test_what_is_no_stack_of_gray_images_is_refused(tmp_path: Path, stack: np.ndarray, dataset: str) -> None:
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["frames"] = stack
    with pytest.raises(NotConnected):
        replay(tmp_path / "run.h5", dataset=dataset)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("stored", [{}, {"compression": "gzip"}, {"compression": "lzf"}, {"scaleoffset": 0}])
def test_stacks_are_read_as_others_write_them(tmp_path: Path, stored: dict[str, Any], libver: str) -> None:
    """By any filter that HDF5 has, at the end of a soft link, with what else people put there."""
    with h5py.File(tmp_path / "run.h5", "w", libver=libver) as file:
        data = file.create_dataset("raw/camera", data=frames(3), chunks=(1, 64, 128) if stored else None, **stored)
        data.attrs.update({f"note {number}": "text" for number in range(20)})
        file["frames"] = h5py.SoftLink("/raw/camera")
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    with replay(tmp_path / "run.h5", dataset="frames", bit_depth=12) as camera:
        camera.arm(3)
        assert np.array_equal(camera.fetch(5.0).frames, frames(3))


def test_facts_are_known_without_opening(folder: Path) -> None:
    facts = describe("replay", "camera", {"path": str(folder), "exposure_s": 0.01, "frame_rate_hz": 5.0}, OpenContext())
    assert (facts.shape, facts.bit_depth, facts.max_fps) == ((64, 128), 16, 5.0)


def test_nothing_there_or_impossible_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConnected):
        replay(tmp_path)
    with pytest.raises(NotConnected):
        replay(tmp_path / "nowhere")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(CapabilityError):
        replay(tmp_path, frame_rate_hz=1000.0)
    with pytest.raises(NotConnected):
        replay(tmp_path, bit_depth=12)
