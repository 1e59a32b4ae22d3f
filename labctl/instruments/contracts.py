"""Which contract of `drivers.testing` a device must keep; nothing here needs pytest."""

from __future__ import annotations

from typing import Any

from drivers.errors import CapabilityError
from drivers.protocols import (
    Camera,
    Device,
    Modulator,
    Roi,
    SequencePanel,
    Simulated,
    TriggeredCamera,
    TriggerMode,
    can,
)

_LIGHT = {
    "test_on_and_off_read_back",
    "test_safe_state_is_dark",
    "test_use_after_close_says_that_the_device_is_gone",
}
"""Tests of a light source that switch it on, or would if it were wrong."""


def contract_of(device: Device, role_protocol: type) -> tuple[str, dict[str, Any]]:
    """The name of a test class for a device that is open, and the attributes that a subclass of it must set.

    The class is that of what the role asks for, or that of what the device can do besides.

    Parameters
    ----------
    device
        Open; a camera's region of interest and exposure are set.
    role_protocol
        What its role asks for.
    """
    if role_protocol is Camera:
        camera: Any = device
        attributes = {
            "roi": _small_roi(camera),
            "exposure_is_fixed": _exposure_is_fixed(camera),
            "now_s": _now_s,
        }
        return f"{(TriggeredCamera if can(device, TriggeredCamera) else Camera).__name__}Contract", attributes
    if role_protocol is Modulator and can(device, SequencePanel):
        role_protocol = SequencePanel
    return f"{role_protocol.__name__}Contract", {}


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
