"""Cameras of pylablib: the contract, on pylablib's own camera classes with a simulated sensor below them.

No camera of pylablib can be had without hardware. What waits, buffers, counts lost frames and cuts regions here is
pylablib's code, which all its cameras share; only the sensor is ours.
"""

import collections
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from processes import LIMIT_S, wait_for

from drivers import (
    CapabilityError,
    DeviceLost,
    DeviceProtocolError,
    DroppedFrames,
    NotConnected,
    OpenContext,
    OptionError,
    Roi,
    open_device,
)
from drivers.libraries.loading import load
from drivers.testing import CameraContract, require_module

SMALL = Roi(16, 8, 64, 32)
Info = collections.namedtuple("Info", "vendor model serial_number")
Limit = collections.namedtuple("Limit", "min max pstep sstep maxbin")


def simulated_camera():
    """A camera class as pylablib's are: its exposure and region interfaces with the least that a sensor adds."""
    interface = load("pylablib.devices.interface.camera")

    class Simulated(interface.IROICamera, interface.IExposureCamera):
        """96 × 128 pixels of 12 bits, which show the number of the frame; it runs on the host's clock."""

        Error = load("pylablib.core.devio.comm_backend:DeviceError")

        class TimeoutError(Error):
            pass

        unplugged = False
        left_by = 0

        def __init__(self, serial="1"):
            super().__init__()
            if serial == "none":
                raise self.Error("no such camera")
            self.serial, self.exposure, self.region, self.started, self.opened = (
                serial,
                2e-3,
                (0, 128, 0, 96),
                None,
                True,
            )

        def open(self):
            self.opened = True

        def close(self):
            self.opened, self.started = False, None

        def is_opened(self):
            return self.opened

        def get_device_info(self):
            return Info("Simulated", "S1", self.serial)

        def get_detector_size(self):
            return 128, 96

        def get_roi(self):
            return self.region

        def set_roi(self, hstart=0, hend=None, vstart=0, vend=None):
            self.region = (
                *self._truncate_roi_axis((hstart, hend), Limit(16, 128, 4, 4, 1)),
                *self._truncate_roi_axis((vstart, vend), Limit(8, 96, 2, 2, 1)),
            )

        def get_frame_timings(self):
            return interface.TAcqTimings(self.exposure, self.exposure + 1e-3)

        def set_exposure(self, exposure):
            self.exposure = min(max(round(exposure, 6), 1e-5), 1.0)
            return self.exposure

        def setup_acquisition(self, nframes=100):
            return super().setup_acquisition(nframes=nframes)

        def start_acquisition(self, *args, **kwargs):
            super().start_acquisition(*args, **kwargs)
            self._frame_counter.reset(self._acq_params["nframes"])
            self.started = time.monotonic()

        def stop_acquisition(self):
            self.started = None

        def acquisition_in_progress(self):
            return self.started is not None

        def _get_data_dimensions_rc(self):
            left, right, top, bottom = self.region
            return bottom - top, right - left

        def _get_acquired_frames(self):
            if type(self).unplugged:
                raise self.Error("the cable is unplugged")
            started = self.started
            return None if started is None else int((time.monotonic() - started) / (self.exposure + 1e-3))

        def _read_frames(self, rng, return_info=False):
            shape = self._get_data_dimensions_rc()
            return [np.full(shape, (index % 4096) << self.left_by, "<u2") for index in range(*rng)], None

    return Simulated


@pytest.fixture(autouse=True)
def camera_class(monkeypatch):
    require_module("pylablib", "pip install labctl[pylablib]")
    kind = simulated_camera()
    monkeypatch.setitem(globals(), "Simulated", kind)
    return kind


def opened(**options):
    table = {"target": f"{__name__}:Simulated", "bit_depth": 12, **options}
    return open_device("pylablib.camera", "camera", table, OpenContext())


class TestPylablib(CameraContract):
    period_tolerance_rel = 100.0  # stamped by the host, which is busy

    def open(self):
        return opened()

    def now_s(self, camera):
        return time.monotonic()


def test_library_is_imported_only_when_a_camera_is_opened():
    code = "import drivers.registry, sys; drivers.registry.available(probe=True); print('pylablib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_frames_that_pylablib_writes_over_are_dropped_and_counted():
    with opened(buffers=5) as camera:
        camera.roi = SMALL
        acquire, pauses = camera._acquire_or_gone, [0.5]
        read = acquire._read

        def read_late():
            if camera._kept and pauses:  # some are there, and of the sixty most are still to come
                time.sleep(pauses.pop())
            read()

        camera.arm(60)
        acquire._read = read_late
        block = camera.fetch(LIMIT_S)
        assert block.dropped > 0
        assert block.sequence[-1] - block.sequence[0] == 59 + block.dropped
        assert camera.snapshot()["skipped_frames"] >= block.dropped


def test_frames_show_the_number_that_they_are_given():
    with opened() as camera:
        camera.arm(20, skip=3)
        block = camera.fetch(20.0)
        assert np.array_equal(block.frames[:, 0, 0], block.device_sequence % 4096)


def test_cable_that_is_pulled_while_frames_are_fetched_is_told_in_time(camera_class):
    camera = opened()
    camera.arm(1, skip=100_000)
    camera_class.unplugged = True
    started_s = time.monotonic()
    with pytest.raises(DeviceLost) as lost:
        camera.fetch(10 * LIMIT_S)
    assert "unplugged" in lost.value.seen
    assert time.monotonic() - started_s < LIMIT_S
    camera.close()
    camera_class.unplugged = False
    with opened() as again:
        again.arm(2)
        assert len(again.fetch(10.0).frames) == 2


def test_transfer_that_failed_is_lost_frames_and_no_lost_camera(monkeypatch, camera_class):
    with opened() as camera:
        camera.arm(3)
        camera.fetch(LIMIT_S)

        def fail(self, *args, **kwargs):
            raise self.FrameTransferError("buffer overflow while waiting for a new frame")

        with monkeypatch.context() as patch:
            patch.setattr(camera_class, "wait_for_frame", fail)
            camera.arm(3)
            with pytest.raises(DroppedFrames, match="buffer overflow"):
                camera.fetch(LIMIT_S)
        camera.arm(3)
        assert len(camera.fetch(LIMIT_S).frames) == 3


def test_setting_is_read_between_two_waits_for_a_frame():
    """The thread that takes frames lets go of the library for an instant; whoever waits gets it then, not by chance."""
    with opened() as camera:
        acquire = camera._acquire_or_gone
        camera._halt()

        def arrives(timeout_s):
            waits.append(len(read))
            if len(waits) == 2:
                raise ZeroDivisionError("enough")
            reader.start()
            wait_for(acquire._turn.locked)  # by the other thread, which waits for this one
            return False

        waits, read = [], []
        reader = threading.Thread(target=lambda: read.append(acquire.frame_period_s))
        acquire._arrives = arrives
        with pytest.raises(DeviceLost, match="enough"):
            acquire.next_frame(LIMIT_S)
        reader.join(LIMIT_S)
        assert waits == [0, 1], "a second wait began before the setting was read"


def test_values_beyond_the_bit_depth_are_refused():
    with pytest.raises(DeviceProtocolError):  # by the first frame that was kept, which is not one of the first four
        opened(bit_depth=2, justified="right")


def test_left_justified_data_is_shifted(camera_class):
    camera_class.left_by = 4
    with opened(justified="left") as camera:
        camera.arm(3)
        block = camera.fetch(10.0)
        assert np.array_equal(block.frames[:, 0, 0], block.device_sequence)


def test_exposure_that_the_camera_clips_is_refused():
    with opened() as camera:
        camera.exposure_s = 0.5
        with pytest.raises(CapabilityError):
            camera.exposure_s = 30.0
        assert camera.exposure_s == 0.5


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"target": "pylablib.devices.NoMaker:Camera"}, OptionError),
        ({"target": "pylablib.devices.Thorlabs:NoCamera"}, OptionError),
        ({"target": "pylablib.devices.Thorlabs:KinesisMotor"}, OptionError),
        ({"bit_depth": 17}, OptionError),
        ({"args": {"serial": "none"}}, NotConnected),
        ({"args": {"speed": 3}}, NotConnected),
        (
            {"target": "pylablib.devices.Thorlabs:ThorlabsTLCamera", "dlls": {"thorlabs_tlcam": "/nowhere"}},
            NotConnected,
        ),
    ],
)
def test_what_is_no_camera_is_refused(options, error):
    with pytest.raises(error) as refused:
        opened(**options)
    assert refused.value.expected
