"""Basler cameras: the contract and faults, on the two cameras that pylon itself emulates."""

import threading
import time

import numpy as np
import pytest
from processes import LIMIT_S

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    DroppedFrames,
    NotConnected,
    OpenContext,
    OptionError,
    Roi,
    find_backend,
    open_device,
)
from drivers.testing import CameraContract, TriggeredCameraContract, require_module

SERIALS = "0815-0000", "0815-0001"
SMALL = Roi(16, 8, 64, 32)


@pytest.fixture(autouse=True)
def pylon():
    require_module("pypylon", "pip install labctl[basler]")


def opened(**options):
    table = {"serial": SERIALS[0], "pixel_format": "Mono8", "frame_rate_hz": 200.0, **options}
    return open_device("basler", "camera", table, OpenContext())


class TestFreeRunning(CameraContract):
    period_tolerance_rel = 100.0  # the emulator paces frames by the host's clock, and has no clock of its own

    def open(self):
        return opened()

    def now_s(self, camera):
        return time.monotonic()


class TestTwelveBits(TestFreeRunning):
    def open(self):
        return opened(pixel_format="Mono12")

    def test_bit_depth_is_that_of_the_format(self, camera):
        assert camera.bit_depth == 12
        assert camera.snapshot()["pixel_format"] == "Mono12"


class TestSoftwareTriggered(TriggeredCameraContract):
    period_tolerance_rel = 100.0  # the host decides when the next exposure begins

    def open(self):
        return opened(trigger="software")

    def now_s(self, camera):
        return time.monotonic()


def pylon_camera(camera):
    """The ``pylon.InstantCamera`` below a driver, to do to it what a cable or a network would."""
    return camera._acquire_or_gone._camera


def fail_buffers(camera, count):
    """Let the emulator deliver the next ``count`` buffers incomplete."""
    nodes = pylon_camera(camera).GetNodeMap()
    nodes.GetNode("ForceFailedBufferCount").SetValue(count)
    nodes.GetNode("ForceFailedBuffer").Execute()


def test_incomplete_buffers_are_drops_and_never_frames():
    with opened(frame_rate_hz=50.0) as camera:
        camera.roi = SMALL
        camera.arm(150)
        time.sleep(0.2)  # a loss shows by the numbers of the frames before and after it
        fail_buffers(camera, 2)
        block = camera.fetch(60.0)
        assert len(block.frames) == 150
        assert block.dropped >= 2  # a busy machine loses more
        assert block.sequence[-1] - block.sequence[0] == 149 + block.dropped
        assert np.diff(block.sequence).max() > 2
        camera.arm(3)
        after = camera.fetch(60.0)
        assert after.sequence[-1] - after.sequence[0] == 2 + after.dropped


def test_lost_exposure_of_a_list_is_told_at_once():
    with opened(trigger="software") as camera:
        camera.roi = SMALL
        fail_buffers(camera, 1)
        camera.arm_sequence(3, 2)
        with pytest.raises(DroppedFrames):
            camera.fetch(30.0)
        camera.arm_sequence(3, 2)
        assert np.array_equal(np.diff(camera.fetch(10.0).sequence), [2, 2])


def test_camera_that_goes_while_frames_are_fetched_is_lost_and_opens_again():
    camera = opened()
    camera.arm(1, skip=100_000)
    threading.Timer(0.3, pylon_camera(camera).Close).start()
    started_s = time.monotonic()
    with pytest.raises(DeviceLost):
        camera.fetch(10 * LIMIT_S)
    assert time.monotonic() - started_s < LIMIT_S
    with pytest.raises(DeviceLost):
        camera.snapshot()
    with pytest.raises(DeviceLost):
        camera.arm(1)
    camera.close()
    with opened() as again:
        again.arm(2)
        assert len(again.fetch(10.0).frames) == 2


def test_edge_that_never_comes_times_out():
    with opened(trigger="hardware-edge", trigger_line="Line1") as camera:
        camera.arm_sequence(2, 2)
        with pytest.raises(DeviceTimeout):
            camera.fetch(0.3)
        assert camera.snapshot()["trigger_mode"] == "hardware-edge"
        nodes = pylon_camera(camera).GetNodeMap()
        assert nodes.GetNode("TriggerSource").GetValue() == "Line1"
        camera.stop()
        assert nodes.GetNode("TriggerSource").GetValue() == "Software"
        assert nodes.GetNode("TriggerMode").GetValue() == "On"


def test_two_cameras_run_at_once():
    with opened(serial=SERIALS[0]) as first, opened(serial=SERIALS[1]) as second:
        assert (first.identify().serial, second.identify().serial) == SERIALS
        for camera in (first, second):
            camera.roi = SMALL
            camera.arm(5)
        assert [len(camera.fetch(10.0).frames) for camera in (first, second)] == [5, 5]


def test_twelve_bit_values_come_through_exactly(tmp_path):
    cv2 = pytest.importorskip("cv2")
    truth = np.random.default_rng(0).integers(0, 4096, (32, 64), np.uint16)
    picture = np.zeros((4096, 4096), np.uint16)
    picture[8:40, 16:80] = truth << 4  # the emulator takes a picture of 16 bits for full scale
    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    features = {"TestImageSelector": "Off", "ImageFileMode": "On", "ImageFilename": str(tmp_path / "picture.png")}
    with opened(pixel_format="Mono12", frame_rate_hz=10.0, opening_s=20.0, features=features) as camera:
        camera.roi = SMALL
        camera.arm(2)
        assert all(np.array_equal(frame, truth) for frame in camera.fetch(20.0).frames)


def test_twelve_bits_at_the_left_of_sixteen_are_found_and_shifted(tmp_path):
    cv2 = pytest.importorskip("cv2")
    truth = np.random.default_rng(1).integers(0, 4096, (4096, 4096), np.uint16)
    cv2.imwrite(str(tmp_path / "picture.png"), truth << 4)
    features = {"TestImageSelector": "Off", "ImageFileMode": "On", "ImageFilename": str(tmp_path / "picture.png")}
    options = {"pixel_format": "Mono16", "bit_depth": 12, "frame_rate_hz": 10.0, "opening_s": 20.0}
    with opened(features=features, **options) as camera:
        camera.roi = SMALL
        camera.arm(1)
        assert np.array_equal(camera.fetch(20.0).frames[0], truth[8:40, 16:80])


def test_restored_settings_are_those_of_the_snapshot():
    with opened(gain_db=6.0, frame_rate_hz=80.0) as camera:
        before = camera.snapshot()
    with opened(gain_db=0.0, frame_rate_hz=90.0) as camera:
        assert {"gain_db", "frame_rate_hz"} <= set(camera.restore(before))
        assert camera.snapshot()["gain_db"] == pytest.approx(before["gain_db"])


def test_camera_is_chosen_by_what_the_station_says():
    with pytest.raises(NotConnected) as unknown:
        opened(serial="4711")
    assert SERIALS[0] in unknown.value.seen
    with pytest.raises(NotConnected) as ambiguous:
        opened(serial="", model="Emulation")
    assert all(serial in ambiguous.value.seen for serial in SERIALS)
    assert "serial" in ambiguous.value.hint


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"pixel_format": "BayerRG8"}, CapabilityError),
        ({"pixel_format": "Mono14"}, CapabilityError),
        ({"pixel_format": "Mono16"}, OptionError),
        ({"pixel_format": "Mono8", "bit_depth": 9}, OptionError),
        ({"frame_rate_hz": 90_000.0}, CapabilityError),
        ({"gain_db": 90.0}, OptionError),
        ({"trigger": "hardware-edge", "trigger_line": "Line9"}, CapabilityError),
        ({"features": {"NoSuchFeature": 1}}, OptionError),
        ({"features": {"BlackLevel": -5.0}}, OptionError),
        ({"features": {"SensorWidth": 5}}, OptionError),
        ({"features": {"ExposureTime": 500.0}}, OptionError),
        ({"features": {"PixelFormat": "Mono8"}}, OptionError),
        ({"buffers": 0}, OptionError),
    ],
)
def test_what_the_camera_does_not_do_is_refused_at_opening(options, error):
    with pytest.raises(error) as refused:
        opened(**options)
    assert refused.value.expected
    assert refused.value.device == "camera"
    with opened() as camera:
        assert camera.identify().serial == SERIALS[0]


def test_features_and_gain_read_back():
    with opened(gain_db=6.0, features={"BlackLevel": 4.0, "BinningHorizontal": 2}) as camera:
        snapshot = camera.snapshot()
        assert snapshot["gain_db"] == pytest.approx(6.0, abs=0.1)
        assert snapshot["black_level"] == 4.0
        assert snapshot["binning_horizontal_px"] == 2


def test_automatic_exposure_is_switched_off():
    with opened() as camera:
        pylon_camera(camera).GetNodeMap().GetNode("ExposureAuto").SetValue("Continuous")
    with opened() as camera:
        assert camera.snapshot()["automatics"]["ExposureAuto"] == "Off"


def test_calls_that_pylon_refuses_are_coded():
    with opened() as camera:
        nodes = camera._acquire_or_gone._nodes
        with pytest.raises(DeviceProtocolError):
            nodes.set("NoSuchFeature", 1)
        with pytest.raises(CapabilityError):
            nodes.set("BlackLevel", -1.0)


def test_discovery_says_that_the_cameras_are_emulated():
    found = find_backend("basler").discover()
    assert [one.options["serial"] for one in found] == list(SERIALS)
    assert {one.note for one in found} == {"emulated by pylon"}
    with open_device("basler", "camera", found[0].options, OpenContext()) as camera:
        assert camera.identify().serial == SERIALS[0]
