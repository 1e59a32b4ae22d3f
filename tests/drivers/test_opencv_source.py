"""Cameras of this computer through OpenCV, of which the test machine has none: `VideoCapture` is replaced."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np
import pytest

from drivers import CapabilityError, NotConnected, OpenContext, open_device


class Capture:
    """A camera of 16 bit that wants to be told so, and whose exposure has a unit and steps."""

    unit_s: float | None = 1e-4
    obeys = True

    def __init__(self, *source: Any) -> None:
        self.raw = False
        self.exposure = -7.0 if self.unit_s is None else 100.0

    def isOpened(self) -> bool:
        return True

    def getBackendName(self) -> str:
        return "V4L2"

    def read(self) -> tuple[bool, np.ndarray]:
        time.sleep(0.002)
        return True, np.full((48, 64), 1000, np.uint16) if self.raw else np.zeros((48, 64, 3), np.uint8)

    def get(self, key: int) -> float:
        return self.exposure if key == cv2.CAP_PROP_EXPOSURE else 30.0

    def set(self, key: int, value: float) -> bool:
        if key == cv2.CAP_PROP_CONVERT_RGB:
            self.raw = value == 0
        elif key == cv2.CAP_PROP_EXPOSURE and self.obeys:
            self.exposure = float(round(value))
        return key in (cv2.CAP_PROP_CONVERT_RGB, cv2.CAP_PROP_EXPOSURE)

    def release(self) -> None:
        pass


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[Capture]:
    made = type("Made", (Capture,), {})
    monkeypatch.setattr(cv2, "VideoCapture", made)
    return made


def camera(**options: Any) -> Any:
    table = {"index": 0, "latency_s": 0.01, "unconverted": True, "bit_depth": 12, **options}
    return open_device("opencv", "camera", table, OpenContext())


def test_exposure_is_set_in_the_cameras_unit_and_read_back(capture: type[Capture]) -> None:
    with camera(exposure_unit="100 us") as device:
        device.exposure_s = 0.00512
        assert device.exposure_s == pytest.approx(0.0051)
        with pytest.raises(CapabilityError):
            device.exposure_s = 2.0


def test_exposure_in_powers_of_two_is_read_back(capture: type[Capture]) -> None:
    capture.unit_s = None
    with camera(exposure_unit="log2 s") as device:
        device.exposure_s = 0.01
        assert device.exposure_s == 2.0**-7


def test_a_camera_that_takes_no_notice_is_refused(capture: type[Capture]) -> None:
    with camera(exposure_unit="100 us") as device:
        capture.obeys = False
        with pytest.raises(CapabilityError, match="read back"):
            device.exposure_s = 0.1


def test_the_wrong_unit_is_refused(capture: type[Capture]) -> None:
    with pytest.raises(CapabilityError, match="read back"):
        camera(exposure_unit="s", exposure_max_s=0.3)


def test_sixteen_bits_come_as_they_are(capture: type[Capture]) -> None:
    with camera(exposure_s=0.001) as device:
        device.arm(2)
        block = device.fetch(5.0)
        assert np.all(block.frames == 1000)
        assert device.bit_depth == 12


def test_a_setting_that_the_library_does_not_take_is_refused(capture: type[Capture]) -> None:
    with pytest.raises(NotConnected, match="setting"):
        camera(exposure_s=0.001, fourcc="Y16 ")


def test_more_bits_than_the_pixels_have_are_refused(capture: type[Capture]) -> None:
    with pytest.raises(NotConnected, match="bit depth"):
        camera(exposure_s=0.001, unconverted=False, channel="gray")
