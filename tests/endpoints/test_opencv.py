"""OpenCV's `VideoCapture` on a network stream, a lossless video, and numbered 16-bit images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from processes import LIMIT_S

from drivers import (
    CapabilityError,
    DeviceError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    NotConnected,
    OpenContext,
    Roi,
    open_device,
)
from drivers.testing import CameraContract, TriggeredCameraContract
from drivers.testing.mjpeg import MjpegServer


def camera(**options: Any) -> Any:
    return open_device("opencv", "camera", options, OpenContext())


class TestStream(CameraContract):
    exposure_is_fixed = True
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    @pytest.fixture(autouse=True)
    def stream(self) -> Iterator[None]:
        with MjpegServer() as self.server:
            yield

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self, latency_s: float = 0.1) -> Any:
        return camera(url=self.server.url, exposure_s=0.01, channel="gray", latency_s=latency_s)

    def test_frames_were_made_after_arm(self) -> None:
        with self.open(latency_s=2.0) as device:  # longer than a busy machine keeps a frame on its way
            for _ in range(3):
                made = len(self.server.made_at_s)
                device.arm(1)
                shown = int(device.fetch(LIMIT_S).frames[0, 0, 0])  # the last eight bits of its number
                by_now = len(self.server.made_at_s)
                assert by_now - (by_now - shown) % 256 >= made

    def test_every_frame_comes_once_and_in_order(self, device: Any) -> None:
        device.arm(20)
        block = device.fetch(10.0)
        steps = np.diff(block.frames[:, 0, 0].astype(int)) % 256
        assert np.array_equal(steps, np.diff(block.sequence))

    def test_a_stalled_stream_times_out_and_goes_on(self, device: Any) -> None:
        self.server.stalled.set()
        began_s = time.monotonic()

        def fetch_those_on_their_way() -> None:
            for _ in range(1000):
                device.arm(1)
                device.fetch(0.5)

        with pytest.raises(DeviceTimeout):
            fetch_those_on_their_way()
        assert time.monotonic() - began_s < LIMIT_S
        self.server.stalled.clear()
        assert len(device.fetch(LIMIT_S).frames) == 1

    def test_a_stalled_stream_can_be_closed(self) -> None:
        device = self.open()
        self.server.stalled.set()
        began_s = time.monotonic()
        device.close()
        assert time.monotonic() - began_s < LIMIT_S

    def test_a_stream_that_is_cut_is_lost_and_opens_again(self) -> None:
        with self.open() as device:
            device.arm(1, skip=1000)
            self.server.cut()
            with pytest.raises(DeviceLost, match="ended"):
                device.fetch(30.0)
            device.arm(1)
            with pytest.raises(DeviceLost):
                device.fetch(5.0)
        self.server.mend()
        with self.open() as device:
            device.arm(1)
            assert len(device.fetch(5.0).frames) == 1

    def test_a_stream_that_is_not_there_is_refused_in_time(self) -> None:
        self.server.cut()
        began_s = time.monotonic()
        with pytest.raises(DeviceError):
            camera(url=self.server.url, exposure_s=0.01, channel="gray", opening_s=2.0)
        assert time.monotonic() - began_s < LIMIT_S

    def test_colour_is_refused_unless_a_channel_is_named(self) -> None:
        with pytest.raises(CapabilityError, match="colour"):
            camera(url=self.server.url, exposure_s=0.01)

    def test_exposure_that_takes_no_effect_is_refused(self) -> None:
        with pytest.raises(CapabilityError, match="exposure"):
            camera(url=self.server.url, exposure_unit="100 us", channel="gray")

    def test_a_password_is_shown_nowhere(self) -> None:
        with camera(url=self.server.url.replace("//", "//me:secret@"), exposure_s=0.01, channel="gray") as device:
            assert "secret" not in f"{device.identify()} {device.snapshot()}"
            assert "127.0.0.1" in device.identify().serial


class TestColourStream:
    def test_gray_is_refused_where_channels_differ_and_one_can_be_taken(self) -> None:
        picture = np.zeros((120, 160, 3), np.uint8)
        picture[:] = (200, 100, 30)
        with MjpegServer(lambda number: picture) as server:
            with pytest.raises(DeviceProtocolError, match="channels"):
                camera(url=server.url, exposure_s=0.01, channel="gray")
            for channel, level in (("blue", 200), ("green", 100), ("red", 30)):
                with camera(url=server.url, exposure_s=0.01, channel=channel) as device:
                    device.arm(1)
                    assert abs(int(device.fetch(5.0).frames.mean()) - level) <= 2


def stack(count: int, bits: int) -> np.ndarray:
    """(count, 48, 96) uint16 of noise, the number of the frame in the first pixel."""
    frames = np.random.default_rng(5).integers(0, 2**bits, (count, 48, 96), np.uint16)
    frames[:, 0, 0] = np.arange(count)
    return frames


class TestNumberedImages(TriggeredCameraContract):
    exposure_is_fixed = True
    roi = Roi(16, 8, 64, 32)

    @pytest.fixture(autouse=True)
    def images(self, tmp_path: Path) -> None:
        for number, image in enumerate(stack(300, 12)):
            cv2.imwrite(str(tmp_path / f"frame_{number:03d}.png"), image)
        self.options = {
            "file": str(tmp_path / "frame_%03d.png"),
            "exposure_s": 0.01,
            "bit_depth": 12,
        }

    def now_s(self, camera: Any) -> float:
        return camera._acquire.now_s()

    def open(self) -> Any:
        return camera(**self.options, frame_rate_hz=100.0)

    def test_sixteen_bits_come_as_they_are(self, device: Any) -> None:
        device.arm(5)
        assert np.array_equal(device.fetch(5.0).frames, stack(300, 12)[:5])

    def test_the_end_is_a_lost_device_unless_it_loops(self, device: Any) -> None:
        device.arm(1, skip=300)
        with pytest.raises(DeviceLost, match="ended"):
            device.fetch(20.0)
        with camera(**self.options, loop=True) as looping:
            looping.arm(2, skip=299)
            assert looping.fetch(20.0).frames[:, 0, 0].tolist() == [299, 0]


def test_a_lossless_video_comes_exactly(tmp_path: Path) -> None:
    path = tmp_path / "run.avi"
    frames = stack(6, 8).astype(np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25.0, (96, 48), isColor=False)
    for frame in frames:
        writer.write(frame)
    writer.release()
    with camera(file=str(path), exposure_s=0.01, channel="gray") as device:
        device.arm(6)
        assert np.array_equal(device.fetch(5.0).frames, frames)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index": 0, "url": "http://127.0.0.1/", "exposure_s": 0.01},
        {"file": "a.avi"},
        {"file": "a.avi", "exposure_unit": "ms"},
        {"index": 0, "exposure_s": 0.01, "fourcc": "Y16"},
        {"index": 0, "exposure_unit": "ms", "exposure_min_s": 1.0, "exposure_max_s": 0.1},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError):
        camera(**options)


def test_what_does_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotConnected):
        camera(file=str(tmp_path / "nothing.avi"), exposure_s=0.01)
    with pytest.raises(NotConnected, match="library"):
        camera(index=0, exposure_s=0.01, library="nonsense")
