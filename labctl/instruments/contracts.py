"""Which tests of `drivers.testing` a device must pass.

Needs pytest, which comes with the extra ``test``: only the process that runs the tests imports this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drivers import testing
from drivers.errors import CapabilityError
from drivers.protocols import (
    Device,
    Interlock,
    LightSource,
    Modulator,
    Monitor,
    Roi,
    SequencePanel,
    Simulated,
    TriggeredCamera,
    TriggerMode,
    can,
)

_BY_PROTOCOL: dict[Any, type[testing.DeviceContract]] = {
    SequencePanel: testing.SequencePanelContract,
    Modulator: testing.ModulatorContract,
    TriggeredCamera: testing.TriggeredCameraContract,
    LightSource: testing.LightSourceContract,
    Monitor: testing.MonitorContract,
    Interlock: testing.InterlockContract,
}
_LIGHT = {
    "test_on_and_off_read_back",
    "test_safe_state_is_dark",
    "test_use_after_close_says_that_the_device_is_gone",
}
"""Tests of a light source that switch it on, or would if it were wrong."""

Open = Callable[[], Device]


def contract_for(device: Device, role_protocol: type, open_device: Open) -> type[testing.DeviceContract]:
    """The test class for a device that is open: the contract of its role, with what it can do besides.

    Parameters
    ----------
    device
        Open; a camera's region of interest is set.
    role_protocol
        What its role asks for.
    open_device
        Opens it afresh, as each test does.
    """
    attributes: dict[str, Any] = {"open": lambda self: open_device()}
    if role_protocol is Modulator and can(device, SequencePanel):
        base = _BY_PROTOCOL[SequencePanel]
    elif role_protocol in _BY_PROTOCOL:
        base = _BY_PROTOCOL[role_protocol]
    else:
        base = testing.TriggeredCameraContract if can(device, TriggeredCamera) else testing.CameraContract
        attributes |= {"roi": _small_roi(device), "now_s": _now_s, "exposure_is_fixed": _exposure_is_fixed(device)}
    return type("TestDevice", (base,), attributes)


def needs_light(test: str) -> bool:
    """Whether a test of a light source switches it on."""
    return test.partition("[")[0] in _LIGHT


def remarks(device: Device) -> list[str]:
    """What a person must know of a device before its tests are run."""
    modes = getattr(device, "trigger_modes", ())
    if tuple(modes) == (TriggerMode.HARDWARE_EDGE,):
        return ["the camera exposes at edges on its input: without a pulse generator its frames do not come"]
    return []


def _small_roi(camera: Any) -> Roi:
    """A region that the camera takes as it is; what the device aligns is aligned first."""
    rows, columns = camera.shape
    whole = Roi(0, 0, columns, rows)
    wanted = Roi(min(16, columns // 4), min(8, rows // 4), min(64, columns // 2), min(32, rows // 2))
    try:
        for _ in range(2):
            camera.roi = wanted
            if camera.roi == wanted:
                return wanted
            wanted = camera.roi
    except CapabilityError:
        pass
    return whole


def _exposure_is_fixed(camera: Any) -> bool:
    """Whether the camera refuses a little more and a little less than the exposure that it has."""
    exposure_s = camera.exposure_s
    refused = 0
    for factor in (0.9, 1.1):
        try:
            camera.exposure_s = factor * exposure_s
        except CapabilityError:
            refused += 1
    return refused == 2


def _now_s(self: Any, camera: Any) -> float | None:
    return float(camera.now().device_time_s) if can(camera, Simulated) else None
