"""The mock bench's devices keep the contract."""

from contract import CameraContract, LightSourceContract, ModulatorContract

from drivers.protocols import OpenContext
from drivers.registry import open_device

BENCH = {"mock": {"slm": {"rows": 96, "cols": 128}, "display": {"rows": 96, "cols": 128}}}


class TestMockSlm(ModulatorContract):
    def open(self):
        return open_device("mock.slm", "slm", {}, OpenContext(BENCH))


class TestMockDisplay(ModulatorContract):
    def open(self):
        return open_device("mock.display", "display", {}, OpenContext(BENCH))


class TestMockCamera(CameraContract):
    def open(self):
        return open_device("mock.camera", "camera", {}, OpenContext(BENCH))


class TestMockSource(LightSourceContract):
    def open(self):
        return open_device("mock.source", "laser", {}, OpenContext(BENCH))
