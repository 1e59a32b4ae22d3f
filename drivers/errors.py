"""Errors of instruments: each class owns its code, exit code and whether trying again may help."""

from __future__ import annotations

from groundwork.errors import CodedError


class DeviceError(CodedError):
    """Something an instrument did, or did not do."""

    code = "E-DEV-001"
    exit_code = 20


class NotConnected(DeviceError):
    """The device could not be opened."""

    code = "E-DEV-002"


class DeviceTimeout(DeviceError):
    """The device did not answer within the time given."""

    code = "E-DEV-003"
    retryable = True


class DeviceProtocolError(DeviceError):
    """The device answered something that its protocol does not allow."""

    code = "E-DEV-004"


class DeviceLost(DeviceError):
    """The device was there and is gone."""

    code = "E-DEV-005"


class CapabilityError(DeviceError):
    """The device cannot do what was asked: a level, shape, exposure or region outside its range."""

    code = "E-DEV-006"


class UnknownBackend(DeviceError):
    """No backend of that name is installed."""

    code = "E-DEV-007"
    exit_code = 2


class BrokenBackend(DeviceError):
    """A backend of that name is installed and its import fails."""

    code = "E-DEV-008"


class OptionError(CapabilityError):
    """An option of a backend does not exist, has the wrong type, or is out of range."""

    code = "E-DEV-009"
    exit_code = 2


class RoleError(DeviceError):
    """The device is not what its role needs."""

    code = "E-DEV-010"
    exit_code = 2


class DroppedFrames(DeviceLost):
    """The camera reports frames lost on the way."""

    code = "E-CAM-001"
    retryable = True


class StaleFrames(DeviceLost):
    """The camera handed out a frame a second time, or out of order."""

    code = "E-CAM-002"
    retryable = True
