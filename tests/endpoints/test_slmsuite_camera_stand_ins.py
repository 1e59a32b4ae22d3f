"""slmsuite's camera classes whose vendors' libraries cannot be had here, on stand-ins for these: contract fakes."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from stand_in_sensor import Sensor
from stand_ins_queued import Flir, MindVision, Thorlabs
from stand_ins_snapping import AlliedVision, ImagingSource, Instrumental, Pylablib

from drivers import CapabilityError, DeviceError, DeviceTimeout, OpenContext, open_device
from drivers.testing import TriggeredCameraContract, require_module


@pytest.fixture(autouse=True)
def slmsuite_is_there() -> None:
    require_module("slmsuite", "pip install labctl[endpoints]")


def camera(target: str, arguments: dict[str, Any], **options: Any) -> Any:
    table = {"target": target, "arguments": arguments, "grab_timeout_s": 30.0, **options}
    return open_device("slmsuite.camera", "camera", table, OpenContext())


class OnAStandIn(TriggeredCameraContract):
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does
    kind: Any
    target: str
    arguments: dict[str, Any] = {}  # noqa: RUF012
    options: dict[str, Any] = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.library = self.kind(monkeypatch)

    @property
    def sensor(self) -> Sensor:
        return self.library.sensor

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        return camera(self.target, self.arguments, **self.options)

    def test_it_says_that_it_is_a_fake(self, device: Any) -> None:
        assert "contract fake" in device.identify().vendor

    def test_the_region_is_cut_where_it_says(self, camera: Any) -> None:
        camera.arm(1)
        roi = camera.roi
        cut = self.sensor.noise[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        if self.target == "thorlabs":  # slmsuite's class counts columns from the right
            right = Sensor.shape[1] - roi.x
            cut = self.sensor.noise[roi.y : roi.y + roi.height, right - roi.width : right]
        assert np.array_equal(camera.fetch(5.0).frames[0], cut)

    def test_a_frame_that_comes_late_is_not_taken_for_the_next(self, device: Any) -> None:
        acquire = device._acquire
        patient = acquire._options
        acquire._options = dataclasses.replace(patient, grab_timeout_s=0.3)
        self.sensor.late_s = 0.4
        device.arm(1)
        with pytest.raises(DeviceError):
            device.fetch(30.0)
        acquire._options = patient
        time.sleep(0.2)
        for _ in range(3):
            exposures = len(self.sensor.exposed)
            device.arm(1)
            assert device.fetch(5.0).frames[0, 0, 0] == exposures

    def test_a_fetch_that_gave_up_goes_on(self, device: Any) -> None:
        device.exposure_s = 0.2
        device.arm(1)
        with pytest.raises(DeviceTimeout):
            device.fetch(0.05)
        block = device.fetch(5.0)
        assert block.frames[0, 0, 0] == len(self.sensor.exposed) - 1


class TestThorlabs(OnAStandIn):
    kind, target = Thorlabs, "thorlabs"


class TestFlir(OnAStandIn):
    kind, target = Flir, "flir"


class TestMindVision(OnAStandIn):
    kind, target = MindVision, "mindvision"


class TestAlliedVision(OnAStandIn):
    kind, target = AlliedVision, "alliedvision"
    options = {"bit_depth": 12}  # noqa: RUF012

    def test_twelve_bit_pixels_called_sixteen_are_refused_unless_told(self) -> None:
        with pytest.raises(CapabilityError, match="bit depth"):
            camera("alliedvision", {})

    def test_automatic_exposure_and_gain_are_off(self, device: Any) -> None:
        library = device._acquire._camera.cam
        assert (library.ExposureAuto.get(), library.GainAuto.get()) == ("Off", "Off")


class TestImagingSource(OnAStandIn):
    kind, target = ImagingSource, "imagingsource"
    arguments = {"serial": "DMK contract fake 1", "vid_format": "Y800 (128x96)"}  # noqa: RUF012


class TestPylablib(OnAStandIn):
    kind, target = Pylablib, "pylablib"
    arguments = {"cam": {"target": "pylablib.devices.interface.camera:ICamera"}}  # noqa: RUF012
    options = {"bit_depth": 12}  # noqa: RUF012

    def test_a_bit_depth_that_the_class_makes_up_is_refused(self) -> None:
        with pytest.raises(CapabilityError, match="bit depth"):
            camera(self.target, self.arguments)


class TestInstrumental(OnAStandIn):
    kind, target = Instrumental, "instrumental"
