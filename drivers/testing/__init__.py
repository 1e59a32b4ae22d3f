"""What every backend must pass, as pytest classes to subclass, and a camera without hardware. Needs pytest.

A backend's test file says how to open its device, and that is all::

    from drivers import OpenContext, open_device
    from drivers.testing import ModulatorContract

    class TestAcmeSlm(ModulatorContract):
        def open(self):
            return open_device("acme.slm", "slm", {"port": 3}, OpenContext())

A class for an optional capability includes the tests of the role: `SequencePanelContract` those of `ModulatorContract`,
`TriggeredCameraContract` those of `CameraContract`.
"""

# ruff: noqa: E402 — pytest explains the failed assertions of modules that it hears of before they are imported
import pytest

pytest.register_assert_rewrite("drivers.testing.contract", "drivers.testing.panels", "drivers.testing.cameras")

from drivers.testing.cameras import CameraContract, TriggeredCameraContract
from drivers.testing.contract import DeviceContract, InterlockContract, LightSourceContract, MonitorContract
from drivers.testing.endpoints import lacking, one_at_a_time, require_module, require_program
from drivers.testing.fakes import FreeRunningFake
from drivers.testing.panels import ModulatorContract, SequencePanelContract

__all__ = [
    "CameraContract",
    "DeviceContract",
    "FreeRunningFake",
    "InterlockContract",
    "LightSourceContract",
    "ModulatorContract",
    "MonitorContract",
    "SequencePanelContract",
    "TriggeredCameraContract",
    "lacking",
    "one_at_a_time",
    "require_module",
    "require_program",
]
