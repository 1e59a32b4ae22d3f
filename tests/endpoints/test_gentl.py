"""Cameras of a GenTL producer, through harvesters: the virtual ones that come with the genicam package.

They have no exposure time, no gain and no offsets: the contract asks of them that they say so, and refuse.
"""

import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

from drivers import CapabilityError, DeviceLost, NotConnected, OpenContext, OptionError, Roi, find_backend, open_device
from drivers.testing import CameraContract, require_module

PACED_BY_SOFTWARE = 100.0  # relative; the virtual camera sleeps between images, on a machine that has more to do


@pytest.fixture(autouse=True)
def _library():
    require_module("harvesters", "pip install labctl[genicam]")


def producer():
    return str(Path(next(iter(importlib.util.find_spec("genicam").submodule_search_locations))) / "viky.cti")


def opened(context=None, **options):
    options = {"producer": producer(), "serial": "1", "frame_rate_hz": 200, **options}
    return open_device("genicam.gentl", "camera", options, context or OpenContext())


class TestGentlCamera(CameraContract):
    roi = Roi(0, 0, 128, 100)
    exposure_is_fixed = True
    period_tolerance_rel = PACED_BY_SOFTWARE

    def open(self):
        return opened()

    def now_s(self, camera):
        return time.monotonic()


def test_exposure_of_a_camera_without_one_is_what_the_station_says():
    with opened(fixed_exposure_s=0.0123) as camera:
        assert camera.exposure_s == 0.0123
        with pytest.raises(CapabilityError):
            camera.exposure_s = 0.01
        assert camera.frame_period_s >= 0.0123


def test_region_of_a_camera_without_offsets_grows_from_the_corner():
    with opened() as camera:
        camera.roi = Roi(50, 60, 100, 120)
        assert camera.roi == Roi(0, 0, 150, 180)
        camera.roi = Roi(0, 0, 10, 10)
        assert camera.roi == Roi(0, 0, 100, 100)  # its smallest
        camera.arm(1)
        assert camera.fetch(5.0).frames.shape == (1, 100, 100)


def test_two_cameras_share_one_producer():
    context = OpenContext()
    first, second = opened(context, serial="0"), opened(context, serial="2")
    assert len(context.resources.held()) == 1
    with second:
        with first:
            for camera in (first, second):
                camera.roi = Roi(0, 0, 128, 100)
                camera.arm(2)
            blocks = [camera.fetch(5.0) for camera in (first, second)]
            assert [block.dropped for block in blocks] == [0, 0]
            assert first.identify().serial != second.identify().serial
        second.arm(1)
        assert len(second.fetch(5.0).frames) == 1
        assert len(context.resources.held()) == 1
    assert context.resources.held() == ()


def test_camera_in_use_is_not_opened_twice():
    context = OpenContext()
    with opened(context), pytest.raises(NotConnected, match="does not open"):
        opened(context)
    assert context.resources.held() == ()
    with opened(context):
        pass


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"serial": ""}, "serial 0"),  # three are there: never by number alone
        ({"serial": "7"}, "serial 0"),
        ({"producer": "/nowhere/acme.cti"}, "/nowhere/acme.cti"),
        ({"producer": __file__}, "test_gentl.py"),
        ({"user_name": "top"}, "serial 1"),
    ],
)
def test_camera_that_is_not_sure_is_not_opened(options, seen):
    context = OpenContext()
    with pytest.raises(NotConnected) as error:
        opened(context, **options)
    assert seen in error.value.seen
    assert error.value.hint
    assert context.resources.held() == ()


def test_no_producer_is_said(monkeypatch):
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    with pytest.raises(NotConnected, match="no GenTL producer"):
        opened(producer="")


def test_producers_are_found_by_the_environment(monkeypatch):
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(Path(producer()).parent))
    with opened(producer="", serial="", id="VikyTL_DEV_green") as camera:
        assert camera.identify().serial == "1"
    found = find_backend("genicam.gentl").discover()
    assert [one.options for one in found] == [{"serial": "0"}, {"serial": "1"}, {"serial": "2"}]
    with opened(producer="", **found[2].options) as camera:
        assert camera.identify().serial == found[2].identity.serial


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"pixel_format": "RGBa8"}, CapabilityError),
        ({"pixel_format": "Mono12"}, CapabilityError),
        ({"bit_depth": 12}, OptionError),
        ({"trigger": "software"}, CapabilityError),
        ({"trigger": "hardware-edge"}, CapabilityError),
        ({"frame_rate_hz": 5000}, CapabilityError),
        ({"features": {"Width": 5000}}, OptionError),
        ({"features": {"NoSuchFeature": 1}}, OptionError),
        ({"features": {"PayloadSize": 1}}, OptionError),
    ],
)
def test_what_the_camera_cannot_do_is_refused_and_the_camera_is_free_again(options, kind):
    context = OpenContext()
    with pytest.raises(kind):
        opened(context, **options)
    assert context.resources.held() == ()
    with opened(context) as camera:
        assert camera.bit_depth == 8


def test_features_are_set_by_their_own_names():
    with opened(features={"BouncingBallSize": 40}) as camera:
        camera.arm(1)
        large = np.count_nonzero(camera.fetch(5.0).frames)
    with opened(features={"BouncingBallSize": 1}) as camera:
        camera.arm(1)
        assert np.count_nonzero(camera.fetch(5.0).frames) != large


def test_buffer_that_is_incomplete_goes_back_and_leaves_a_gap(monkeypatch):
    """As many incomplete buffers as the producer has, and more: the stream goes on, and the loss is counted.

    The producer never sends one; so its complete ones are called incomplete where harvesters asks.
    """
    gentl = pytest.importorskip("genicam.gentl")
    whole = gentl.Buffer.is_complete
    bad = set(range(10, 60, 2))
    monkeypatch.setattr(gentl.Buffer, "is_complete", lambda self: self.frame_id not in bad and whole(self))
    with opened(buffers=4) as camera:
        camera.roi = Roi(0, 0, 128, 100)
        camera.arm(40)
        block = camera.fetch(10.0)
    assert not bad & set(block.device_sequence.tolist())
    assert block.dropped == np.sum(np.diff(block.device_sequence) - 1) > 0


def test_producer_that_fails_is_a_lost_device(monkeypatch):
    core = pytest.importorskip("harvesters.core")
    gentl = pytest.importorskip("genicam.gentl")
    with opened() as camera:
        camera.arm(2)
        camera.fetch(5.0)

        def gone(self, *, timeout, is_raw=False):
            raise gentl.IoException("the cable is out")

        with monkeypatch.context() as unplugged:
            unplugged.setattr(core.ImageAcquirer, "try_fetch", gone)
            camera.arm(1, skip=1000)
            with pytest.raises(DeviceLost, match="the cable is out"):
                camera.fetch(5.0)
    with opened() as camera:
        camera.arm(1)
        camera.fetch(5.0)
