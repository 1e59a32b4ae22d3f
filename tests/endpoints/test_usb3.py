"""USB3 Vision cameras: viva-genicam's own, in this process. No bus is there to be searched, so finding it is replaced.

Its registers and its stream are those of the standard; it has no exposure time, no offsets and no trigger.
"""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from processes import LIMIT_S

from drivers import CapabilityError, DeviceLost, NotConnected, OpenContext, Roi, find_backend, open_device
from drivers.testing import CameraContract, require_module

PACED_BY_SOFTWARE = 100.0  # relative; the fake sleeps between frames, on a machine that has more to do


@pytest.fixture(autouse=True)
def bus(monkeypatch):
    """A bus with one fake on it; `connect` opens the fake over its own transport."""
    require_module("viva_genicam", "pip install labctl[genicam]")
    vg = pytest.importorskip("viva_genicam")
    testing = pytest.importorskip("viva_genicam.testing")
    fake = testing.FakeU3vCamera()
    info = SimpleNamespace(
        bus="1", address=4, serial="U3V-001", manufacturer="viva-genicam", model="FakeU3V", speed="in process"
    )
    cameras = {"U3V-001": (info, fake)}
    monkeypatch.setattr(vg, "discover_u3v", lambda: [info for info, _ in cameras.values()])
    monkeypatch.setattr(vg, "connect_u3v", lambda info: cameras[info.serial][1].connect())
    return cameras


def opened(**options):
    return open_device("genicam.usb3", "camera", {"serial": "U3V-001", "opening_s": 60.0, **options}, OpenContext())


class TestUsb3Camera(CameraContract):
    roi = Roi(0, 0, 64, 32)
    exposure_is_fixed = True
    period_tolerance_rel = PACED_BY_SOFTWARE

    def open(self):
        return opened()

    def now_s(self, camera):
        return time.monotonic()


@pytest.mark.parametrize(("pixel_format", "bits"), [("Mono8", 8), ("Mono12Packed", 12)])
def test_frames_are_those_of_the_librarys_bare_loop(bus, pixel_format, bits):
    with opened(pixel_format=pixel_format) as camera:
        assert camera.bit_depth == bits
        camera.roi = Roi(0, 0, 64, 32)
        camera.arm(20)
        seen = {frame.tobytes() for frame in camera.fetch(10.0).frames}
    _, fake = bus["U3V-001"]
    bare = fake.connect()
    bare.set_enum("PixelFormat", pixel_format)
    bare.set_integer("Width", 64)
    bare.set_integer("Height", 32)
    with bare.stream() as stream:
        wanted = {stream.next_frame(5000).to_numpy().astype(np.uint16).tobytes() for _ in range(300)}
    bare.close()
    assert wanted & seen


def test_acquisition_stops_with_the_stream(bus):
    _, fake = bus["U3V-001"]
    with opened() as camera:
        assert fake.acquiring()
        camera.safe_state()
        assert not fake.acquiring()
        camera.arm(1)
        camera.fetch(10.0)
    assert not fake.acquiring()


@pytest.mark.parametrize("options", [{"serial": "7"}, {"model": "Acme"}])
def test_camera_that_does_not_fit_is_not_opened(options):
    with pytest.raises(NotConnected) as error:
        opened(**options)
    assert "U3V-001" in error.value.seen


def test_two_cameras_are_told_apart_by_their_serials(bus):
    testing = pytest.importorskip("viva_genicam.testing")
    info, _ = bus["U3V-001"]
    bus["U3V-002"] = SimpleNamespace(**{**vars(info), "serial": "U3V-002"}), testing.FakeU3vCamera()
    with pytest.raises(NotConnected, match="several"):
        opened(serial="")
    with opened() as first, opened(serial="U3V-002") as second:
        for camera in (first, second):
            camera.roi = Roi(0, 0, 64, 32)
            camera.arm(2)
        assert [len(camera.fetch(10.0).frames) for camera in (first, second)] == [2, 2]
        assert second.identify().serial == "U3V-002"


def test_what_is_found_opens():
    found = find_backend("genicam.usb3").discover()
    assert [one.options for one in found] == [{"serial": "U3V-001"}]
    with open_device("genicam.usb3", "camera", found[0].options, OpenContext()) as camera:
        assert camera.identify().serial == found[0].identity.serial


@pytest.mark.parametrize("options", [{"trigger": "software"}, {"pixel_format": "Mono10"}, {"pixel_format": "RGB8"}])
def test_what_the_camera_cannot_do_is_refused(options):
    with pytest.raises(CapabilityError):
        opened(**options)
    with opened():
        pass


def test_camera_that_does_not_answer_is_lost(monkeypatch):
    vg = pytest.importorskip("viva_genicam")

    def silent(*args):
        raise vg.TransportError("no device")

    with opened() as camera:
        camera.arm(1, skip=100_000)
        monkeypatch.setattr(vg.Camera, "read_register", silent)
        begun_s = time.monotonic()
        with pytest.raises(DeviceLost):
            camera.fetch(10 * LIMIT_S)
        assert time.monotonic() - begun_s < LIMIT_S
