"""The mock bench's devices keep the contract."""

import pytest

from drivers import OpenContext, open_device
from drivers.testing import (
    InterlockContract,
    LightSourceContract,
    MonitorContract,
    SequencePanelContract,
    TriggeredCameraContract,
)

PANEL = {"rows": 96, "cols": 128}


def opened(backend, options=None, **mock):
    table = {"slm": PANEL, "display": PANEL, **mock}
    return open_device(backend, backend.partition(".")[2], options or {}, OpenContext({"mock": table}))


class TestMockSlm(SequencePanelContract):
    def open(self):
        return opened("mock.slm")


class PanelOfLevels(SequencePanelContract):
    levels: int

    def open(self):
        return opened("mock.display", display={**PANEL, "levels": self.levels})

    def test_levels_are_those_of_the_panel(self, device):
        assert device.levels == self.levels


class TestBinaryPanel(PanelOfLevels):
    levels = 2


class TestMockDisplay(PanelOfLevels):
    levels = 256


class TestTenBitPanel(PanelOfLevels):
    levels = 1024


class TestTwelveBitPanel(PanelOfLevels):
    levels = 4096


class TestMockCamera(TriggeredCameraContract):
    def open(self):
        return opened("mock.camera")

    def now_s(self, camera):
        return camera.bench.clock_s


class TestMockSource(LightSourceContract):
    def open(self):
        return opened("mock.source")


class TestMockPowerMeter(MonitorContract):
    def open(self):
        return opened("mock.monitor")


class TestMockThermometer(MonitorContract):
    def open(self):
        return opened("mock.monitor", {"quantity": "temperature"})


class TestMockInterlock(InterlockContract):
    def open(self):
        return opened("mock.interlock")

    def trip(self):
        return opened("mock.interlock", {"tripped": "enclosure open"})


class RegionOfMock(SequencePanelContract):
    """The left or the right half of the mock's SLM, each a modulator of its own."""

    x: int

    @pytest.fixture(autouse=True)
    def station(self):
        self.context = OpenContext({"mock": {"slm": PANEL, "display": PANEL}})
        options = {"panel": "mock.slm", "x": 64 - self.x, "y": 0, "width": 64, "height": 96}
        with open_device("region", "neighbour", options, self.context) as self.neighbour:
            yield

    def open(self):
        options = {"panel": "mock.slm", "x": self.x, "y": 0, "width": 64, "height": 96}
        return open_device("region", "half", options, self.context)


class TestLeftHalf(RegionOfMock):
    x = 0


class TestRightHalf(RegionOfMock):
    x = 64
