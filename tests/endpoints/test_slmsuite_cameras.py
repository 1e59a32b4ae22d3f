"""slmsuite's camera classes where no hardware is needed: pylon's emulator, Micro-Manager, a network stream."""

from __future__ import annotations

import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers import CapabilityError, DeviceTimeout, NotConnected, OpenContext, OptionError, Roi, open_device
from drivers.libraries.loading import load
from drivers.testing import TriggeredCameraContract, require_module
from drivers.testing.cameras import CameraContract
from drivers.testing.mjpeg import MjpegServer

INSTALL = "pip install labctl[endpoints]"


@pytest.fixture(autouse=True)
def slmsuite_is_there() -> None:
    require_module("slmsuite", INSTALL)


def camera(target: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
    table = {"target": target, "arguments": arguments or {}, **options}
    return open_device("slmsuite.camera", "camera", table, OpenContext())


class TestBasler(TriggeredCameraContract):
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    @pytest.fixture(autouse=True)
    def pylon_is_there(self) -> None:
        require_module("pypylon", INSTALL)

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        return camera("basler", {"serial": "0815-0000"}, exposure_max_s=10.0)

    def test_unknown_serial_is_refused_with_those_that_are_there(self) -> None:
        with pytest.raises(NotConnected, match="0815-0001"):
            camera("basler", {"serial": "1"})


class TestMicroManager(TriggeredCameraContract):
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    @pytest.fixture(autouse=True)
    def adapters_are_there(self) -> None:
        require_module("mm_test_adapters", INSTALL)
        require_module("pymmcore", INSTALL)

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        import mm_test_adapters

        libraries = Path(mm_test_adapters.__file__).parent / "libs"
        return camera("mmcore", {"config": "MMConfig_demo", "path": str(libraries)})


class TestWebcam(CameraContract):
    """A stream: `Webcam` cannot set its exposure, and keeps old frames in its socket."""

    roi = Roi(16, 8, 64, 32)
    exposure_is_fixed = True
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    @pytest.fixture(autouse=True)
    def stream(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MjpegServer]:
        # The class gives a webcam two and a half seconds to wake up, at each opening.
        webcam = load("slmsuite.hardware.cameras.webcam")
        monkeypatch.setattr(webcam, "time", types.SimpleNamespace(sleep=lambda seconds: None))
        with MjpegServer() as server:
            self.server = server
            yield server

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        return camera("webcam", {"identifier": self.server.url, "color_channel": 1}, exposure_s=0.01)

    def test_frames_were_made_after_arm(self, device: Any) -> None:
        for _ in range(3):
            made = len(self.server.made_at_s)
            device.arm(1)
            number = int(device.fetch(5.0).frames[0, 0, 0])
            assert (number - made) % 256 < 128

    def test_a_colour_stream_is_refused_unless_a_channel_is_named(self) -> None:
        with pytest.raises(CapabilityError, match="colour"):
            camera("webcam", {"identifier": self.server.url}, exposure_s=0.01)

    def test_exposure_that_cannot_be_set_is_refused(self) -> None:
        with pytest.raises(CapabilityError, match="exposure"):
            camera("webcam", {"identifier": self.server.url, "color_channel": 1})

    def test_a_stalled_stream_times_out(self, device: Any) -> None:
        self.server.stalled.set()
        device.arm(2, skip=30)
        with pytest.raises(DeviceTimeout):
            device.fetch(0.5)
        self.server.stalled.clear()
        assert len(device.fetch(20.0).frames) == 2


class TestSimulated(TriggeredCameraContract):
    period_tolerance_rel = 100.0  # paced by software, on whatever else the machine does

    def now_s(self, camera: Any) -> float:
        return time.monotonic()

    def open(self) -> Any:
        slm = {
            "target": "slmsuite.hardware.slms.simulated:SimulatedSLM",
            "arguments": {"resolution": [512, 512]},
        }
        return camera("simulated", {"slm": slm})


def test_unknown_family_is_refused_with_those_that_exist() -> None:
    with pytest.raises(OptionError) as refused:
        camera("baslr")
    assert "basler" in refused.value.expected


def test_class_that_is_no_camera_is_refused() -> None:
    with pytest.raises(OptionError, match="no such device"):
        camera("slmsuite.hardware.slms.simulated:SimulatedSLM", {"resolution": [512, 512]})
