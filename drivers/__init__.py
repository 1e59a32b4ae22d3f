"""Instruments behind small blocking protocols, found by name in the entry-point group ``labctl.drivers``.

How to write a backend
----------------------
One file. Say what its options are, write the methods of a protocol, and make a `Backend` of the two. Here is one for a
laser. Its library is imported when the device is opened, not before: to list backends and to check options is quick,
and where the library is missing, ``needs`` and ``install`` say so in words::

    from dataclasses import dataclass
    from drivers import Backend, Checked, DeviceLost, Identity, option

    @dataclass(frozen=True)
    class LaserOptions(Checked):
        host: str                                # no default: the station file must give it
        port: int = option(1, 65535, 4840)       # lowest, highest, default
        power_mw: float = option(0, 50, 5.0)     # units stand in the names

    class AcmeLaser:
        def __init__(self, name, options):
            import acme
            self.name, self._laser = name, acme.connect(options.host, options.port)
            self.off()
        ...                                      # the methods of drivers.Device and drivers.LightSource

    LASER = Backend(
        "acme.laser", ("source",), LaserOptions,
        lambda name, options, context: AcmeLaser(name, options),
        needs=("acme",), install="pip install acme-sdk",
    )

Name it in ``pyproject.toml``, and in a station file::

    [project.entry-points."labctl.drivers"]      [devices.source]
    "acme.laser" = "labctl_acme:LASER"           backend = "acme.laser"
                                                 options = {host = "10.0.0.7", power_mw = 8}

``labctl station check`` validates the options, ``labctl devices list`` shows the backend. Its test says how to open it
and subclasses the contract, `drivers.testing.LightSourceContract`. `drivers.checks` refuses levels, regions and
exposures out of range as the contract asks.

A camera that runs freely writes less: a subclass of `AcquireLogic` (settings, start, stop, the next frame and when its
exposure began) goes into a `StreamingCamera` with `MonoPixels`, and the rest of the contract is there: frames begin
after ``arm``, numbers never restart, left-justified data is shifted, a snapshot is restored by setting what differs.
`drivers.testing.FreeRunningFake` is one to copy.

Several devices on one object (a Micro-Manager core, a GenTL producer) share it by ``context.resources.share``. Two
modulators on one panel need no code: the backend ``region`` makes a rectangle of any panel a modulator.
"""

from drivers.acquire import AcquireLogic, RawFrame, stamped_on_arrival
from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import (
    BrokenBackend,
    CapabilityError,
    DeviceError,
    DeviceLost,
    DeviceProtocolError,
    DeviceTimeout,
    DroppedFrames,
    NotConnected,
    OptionError,
    RoleError,
    StaleFrames,
    UnknownBackend,
)
from drivers.options import Checked, NoOptions, option
from drivers.pixels import MonoPixels, PixelLogic, saturated_fraction
from drivers.protocols import (
    ROLES,
    Camera,
    Device,
    DeviceFacts,
    FrameBlock,
    Identity,
    Interlock,
    Levels,
    LightSource,
    Modulator,
    Moment,
    Monitor,
    Ok,
    OpenContext,
    Reading,
    Restorable,
    Roi,
    SequencePanel,
    ShowReceipt,
    Simulated,
    TriggeredCamera,
    TriggerMode,
    Trip,
    VerifiedPanel,
    can,
    is_a,
)
from drivers.registry import BackendInfo, available, check_options, describe, find_backend, open_device, open_role
from drivers.resources import Resources, Shared
from drivers.streaming import StreamingCamera, TriggeredStreamingCamera
from drivers.triggers import FreeRunning, HardwareEdge, SoftwareTrigger, TriggerLogic

__all__ = [
    "ROLES",
    "AcquireLogic",
    "Backend",
    "BackendInfo",
    "BrokenBackend",
    "Camera",
    "CapabilityError",
    "Checked",
    "Device",
    "DeviceError",
    "DeviceFacts",
    "DeviceLost",
    "DeviceProtocolError",
    "DeviceTimeout",
    "DroppedFrames",
    "Family",
    "Found",
    "FrameBlock",
    "FreeRunning",
    "HardwareEdge",
    "Identity",
    "Interlock",
    "Levels",
    "LightSource",
    "Modulator",
    "Moment",
    "Monitor",
    "MonoPixels",
    "NoOptions",
    "NotConnected",
    "Ok",
    "OpenContext",
    "OptionError",
    "PixelLogic",
    "Proof",
    "RawFrame",
    "Reading",
    "Resources",
    "Restorable",
    "Roi",
    "RoleError",
    "SequencePanel",
    "Shared",
    "ShowReceipt",
    "Simulated",
    "SoftwareTrigger",
    "StaleFrames",
    "StreamingCamera",
    "TriggerLogic",
    "TriggerMode",
    "TriggeredCamera",
    "TriggeredStreamingCamera",
    "Trip",
    "UnknownBackend",
    "VerifiedPanel",
    "available",
    "can",
    "check_options",
    "describe",
    "find_backend",
    "is_a",
    "open_device",
    "open_role",
    "option",
    "saturated_fraction",
    "stamped_on_arrival",
]
