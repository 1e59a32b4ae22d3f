"""What every instrument promises: blocking calls, a ``timeout_s`` on each that can wait, and none that waits for ever.

Attributes, ``identify``, ``arm`` and ``close`` take no ``timeout_s``: they do not wait for an instrument for longer
than the time-out that the backend's own options set.

A program asks for a role with `is_a` and for an optional capability with `can`. Both look at what the device's type
offers; neither reads a property, so neither talks to the instrument. ``isinstance`` is refused for that reason.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pkgutil import resolve_name
from typing import Any, Protocol, Self, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.resources import Resources

Levels = NDArray[np.integer[Any]]

T = TypeVar("T")


@dataclass(frozen=True)
class Identity:
    """The instrument that answers: ``Identity("Hamamatsu", "X10468-01", "0231", "1.7")``."""

    vendor: str
    model: str
    serial: str
    firmware: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """What a backend knows of a device without opening it; None where it does not know.

    Attributes
    ----------
    shape
        (rows, columns) of a panel or a sensor [px].
    levels
        Gray levels of a panel.
    bit_depth
        Of a camera [bit].
    refresh_hz
        Of a panel [Hz].
    max_fps
        Frames per second that a camera cannot exceed [Hz].
    """

    shape: tuple[int, int] | None = None
    levels: int | None = None
    bit_depth: int | None = None
    refresh_hz: float | None = None
    max_fps: float | None = None


@dataclass(frozen=True)
class ShowReceipt:
    """Proof that a frame was handed to the panel; it does *not* say that the liquid crystal has settled.

    Attributes
    ----------
    frame_id
        Counts the frames shown by this modulator since it was opened, from 1.
    shown_at_s
        Device time at which the panel was refreshed [s].
    """

    frame_id: int
    shown_at_s: float


@dataclass(frozen=True)
class Roi:
    """Region of interest on the sensor, in sensor pixels: column ``x``, row ``y``, ``width``, ``height``."""

    x: int
    y: int
    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)"""
        return self.height, self.width


@dataclass(frozen=True)
class FrameBlock:
    """Frames copied out of the camera, with what the driver and the camera say about them.

    Attributes
    ----------
    frames
        (n, H, W) uint16 [DN], least-significant-bit aligned.
    sequence
        (n,) numbers counted by the driver since it opened the device, skipped frames included. They never restart,
        also where the camera's own number does. A gap is a loss; a number that comes twice is a repeated frame.
    device_sequence
        (n,) the camera's own number of each frame, as it came; −1 where the camera has none.
    device_time_s
        (n,) start of exposure on the device's clock [s].
    host_time_s
        (n,) arrival on the host's clock, seconds since the epoch.
    dropped
        Frames lost since ``arm``.
    saturated_fraction
        (n,) fraction of pixels at full scale.
    """

    frames: NDArray[np.uint16]
    sequence: NDArray[np.int64]
    device_sequence: NDArray[np.int64]
    device_time_s: NDArray[np.float64]
    host_time_s: NDArray[np.float64]
    dropped: int
    saturated_fraction: NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One value of a monitor: ``Reading(1.23e-3, "W", 12.5)``; ``at_s`` is device time [s]."""

    value: float
    unit: str
    at_s: float


@dataclass(frozen=True)
class Ok:
    """The interlock is closed: light may be on."""


@dataclass(frozen=True)
class Trip:
    """The interlock is open, and why: ``Trip("enclosure door open")``."""

    reason: str


@dataclass(frozen=True)
class Moment:
    """Where a simulated instrument stands: the device time and the number of the next frame."""

    device_time_s: float
    sequence: int


class TriggerMode(StrEnum):
    """What starts an exposure: the camera's own clock, a call, or an edge on a wire."""

    FREE_RUNNING = "free-running"
    SOFTWARE = "software"
    HARDWARE_EDGE = "hardware-edge"


class Device(Protocol):
    """An instrument: opened by its backend, closed by leaving its ``with`` block, made safe at any time."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def close(self) -> None:
        """Make the instrument safe and release it. Calling it twice is harmless; any later use is `DeviceLost`."""

    def identify(self) -> Identity: ...
    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        """Settings as the device reads them back now: JSON types only, units in the keys."""

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """No light, no motion: idempotent, quick, and valid in any state, closed included."""


class Modulator(Device, Protocol):
    """A panel of gray levels: an SLM or a display."""

    shape: tuple[int, int]
    """(rows, columns) [px]"""
    levels: int
    """Gray levels: 2 for a binary mirror array, 256, 1024, 4096 …"""
    settle_s: float
    """From the refresh until the panel shows a new frame well enough to be read [s]."""
    refresh_hz: float
    """Refreshes per second: no frame takes effect between two of them [Hz]."""

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        """Show ``levels`` : (rows, columns), any integer type, gray levels in ``0 … self.levels − 1``.

        Raises
        ------
        CapabilityError
            For another shape, anything but integers, or a level outside the range.
        DeviceTimeout
            When the panel has not taken the frame within ``timeout_s``.
        """

    def blank(self, timeout_s: float = 2.0) -> ShowReceipt:
        """Show gray level 0 everywhere."""


class VerifiedPanel(Modulator, Protocol):
    """A panel that can be asked whether it still shows what it was given: a monitor that is read back, say."""

    def verify(self, timeout_s: float = 5.0) -> None:
        """Compare what is on the panel now with the frame that was shown last.

        Raises
        ------
        DeviceProtocolError
            When it is something else.
        DeviceLost
            When the panel is gone, and nobody knows since when.
        """


class SequencePanel(Modulator, Protocol):
    """A panel that plays a list by itself: uploaded and stepped by triggers, or played by its own clock.

    It works together with a `TriggeredCamera`, in this order, where k is ``frames_each`` and N the number of patterns::

        camera.arm_sequence(N, k)               the camera is ready, and starts no exposure yet
        panel.show_sequence(patterns, k)        the panel holds the list, and steps with the exposures
        block = camera.fetch(timeout_s)         N frames: of each pattern the last of k exposures
    """

    sequence_max: int
    """Patterns that one list may have."""

    def show_sequence(self, levels: Sequence[Levels], frames_each: int, timeout_s: float = 10.0) -> ShowReceipt:
        """Play a list, each pattern for ``frames_each`` exposures of the camera; the last one stays on the panel.

        Comes back when the panel is ready to play. The list begins with the first exposure after that.

        Parameters
        ----------
        levels
            1 … ``sequence_max`` patterns, each as in `Modulator.show`.
        frames_each
            Exposures of each pattern, those in which it settles included.

        Returns
        -------
        The receipt of the list's *first* pattern; the others have the frame numbers that follow.

        Raises
        ------
        CapabilityError
            For a list that is empty or too long, ``frames_each`` below 1, or a pattern that `Modulator.show` refuses.
            Nothing is played then.
        """


class Camera(Device, Protocol):
    """A camera that counts its frames."""

    shape: tuple[int, int]
    """(rows, columns) of the sensor [px]"""
    bit_depth: int
    """Full scale is ``2^bit_depth − 1`` [bit]."""
    exposure_s: float
    """Set it, then read it back: the device rounds [s]."""
    roi: Roi
    """Set it, then read it back: the device aligns. The full sensor at opening."""
    frame_period_s: float
    """From one start of exposure to the next at the present settings [s]."""

    def arm(self, n: int, skip: int = 0) -> None:
        """Ask for ``n`` frames: the first ``skip`` whose exposure begins from now on pass uncopied, the next are kept.

        No frame whose exposure began before this call is delivered or counted in ``skip``, whatever mode the camera
        runs in. Settling is counted in frames that way. The skipped frames are numbered like any other.

        Raises
        ------
        CapabilityError
            When ``n`` is below 1 or ``skip`` below 0.
        DeviceProtocolError
            When frames are armed already.
        """

    def fetch(self, timeout_s: float) -> FrameBlock:
        """All the frames that were armed.

        Raises
        ------
        DeviceTimeout
            When they have not all arrived within ``timeout_s``. They stay armed: fetch again, or ``stop``.
        DeviceProtocolError
            When none are armed.
        DeviceLost
            When the camera is gone.
        """

    def stop(self, timeout_s: float = 2.0) -> None:
        """Forget what is armed; harmless when nothing is."""


class TriggeredCamera(Camera, Protocol):
    """A camera whose exposures can keep step with a `SequencePanel`."""

    trigger_modes: tuple[TriggerMode, ...]
    """What may start its exposures."""

    def arm_sequence(self, n: int, frames_each: int) -> None:
        """Ask for ``n`` frames, one for each pattern of a list: of ``frames_each`` exposures the last one is kept.

        The exposures begin after the panel's ``show_sequence``: at the panel's triggers, or, where the camera triggers
        the panel, in ``fetch``. ``fetch`` returns ``n`` frames, the numbers of which differ by ``frames_each``.

        Where an exposure was lost, frames may show other patterns than theirs: then ``dropped`` is not 0, or ``fetch``
        raises `DroppedFrames`, and none of the frames may be used.

        Raises
        ------
        CapabilityError
            When ``n`` or ``frames_each`` is below 1.
        DeviceProtocolError
            When frames are armed already.
        """


class Restorable(Device, Protocol):
    """An instrument that can be put back to where an earlier `snapshot` found it."""

    def restore(self, snapshot: Mapping[str, Any], timeout_s: float = 5.0) -> tuple[str, ...]:
        """Apply what differs between a snapshot and the present settings, and nothing else.

        What a snapshot says that is no setting (a temperature, a frame number) is left alone.

        Parameters
        ----------
        snapshot
            Of this instrument, as `Device.snapshot` returned it, or as it came back from a JSON file.

        Returns
        -------
        Keys of the snapshot that were applied, in the order in which they were.

        Raises
        ------
        CapabilityError
            For the snapshot of another instrument, or of this one opened with other options. Nothing is applied then.
        DeviceProtocolError
            When frames are armed, or a setting does not read back as it was.
        """


class Simulated(Device, Protocol):
    """An instrument of a simulated bench, which can be moved to where an earlier one has stopped."""

    def now(self) -> Moment:
        """The device time and the number that the next frame will have; exact, to be given to `continue_at`."""

    def continue_at(self, device_time_s: float, sequence: int) -> None:
        """Go on as the instrument would that was never interrupted: at this device time, with this frame number.

        Faults that the script has for earlier frames are gone. What the panels showed before is repeated by the
        caller: move to the device time of each of the last shows, show, and move on; the frames that follow are
        bit-identical to those of a bench that went on.

        Raises
        ------
        CapabilityError
            When the instrument is beyond that time or number already.
        """


class LightSource(Device, Protocol):
    """The light that can be switched off: laser, LED, or the shutter in front of it."""

    is_on: bool
    """As read back from the instrument, which is off at opening."""

    def on(self, timeout_s: float = 5.0) -> None:
        """Light, read back."""

    def off(self, timeout_s: float = 5.0) -> None:
        """Dark, read back.

        Raises
        ------
        CapabilityError
            When no program can switch this light off, as with the backend ``always-on``: the one exception.
        """


class Monitor(Device, Protocol):
    """A slow scalar: power meter, thermometer."""

    unit: str
    """Of every reading: ``"W"``, ``"degC"``."""

    def read(self, timeout_s: float = 2.0) -> Reading: ...


class Interlock(Device, Protocol):
    """The contact that says whether light may be on."""

    def check(self, timeout_s: float = 2.0) -> Ok | Trip: ...


@dataclass(frozen=True)
class OpenContext:
    """What a backend gets besides its own options.

    Attributes
    ----------
    bench
        Tables of the station file that describe the bench as a whole (for the mock bench: ``{"mock": {...}}``).
    resources
        What several devices of a station share: opened once, closed with the last of them.
    """

    bench: Mapping[str, Any] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Role:
    """What a device may be for on a bench.

    Attributes
    ----------
    defined
        Where the protocol is, ``module:class``: imported when a device is to fill the role.
    many
        Whether several devices may fill it, or none; else exactly one does.
    """

    defined: str
    many: bool = False

    @property
    def protocol(self) -> type:
        """What a device must be to fill the role."""
        found: type = resolve_name(self.defined)
        return found


ROLES: dict[str, Role] = {
    "source": Role("drivers.protocols:LightSource"),
    "slm": Role("drivers.protocols:Modulator"),
    "display": Role("drivers.protocols:Modulator"),
    "camera": Role("drivers.protocols:Camera"),
    "monitor": Role("drivers.protocols:Monitor", many=True),
    "interlock": Role("drivers.protocols:Interlock", many=True),
}
"""Every role, by its name in the station file, in the order in which a bench is made safe: the light first.

A role is added by one line here, and by a file of its own where no protocol says yet what its devices do.
"""


def is_a(device: object, protocol: Callable[..., T]) -> TypeGuard[T]:
    """Does the device have every member of the protocol? No property is read, nothing is sent to the instrument.

    Members are looked for in the device's class and among the attributes that its constructor has set; what
    ``__getattr__`` would make up is not seen.

    Parameters
    ----------
    device
        Any object.
    protocol
        `Modulator`, `Camera`, … : a protocol class.
    """
    missing = members(protocol)
    for kind in type(device).__mro__:  # asked for each frame: by sets, name by name takes five times as long
        missing = missing.difference(vars(kind))
        if not missing:
            return True
    try:
        return not missing.difference(object.__getattribute__(device, "__dict__"))
    except AttributeError:  # a class with slots, which are among its own members
        return False


def can(device: object, capability: Callable[..., T]) -> TypeGuard[T]:
    """Does the device have an optional capability: `SequencePanel`, `TriggeredCamera`, `Restorable`, `Simulated`?

    As `is_a`. A backend whose instruments differ in what they can do opens a class that has the capability, or one
    that has not.
    """
    return is_a(device, capability)


@functools.cache
def members(protocol: Callable[..., Any]) -> frozenset[str]:
    """Names that a protocol asks for: its attributes and methods, those of the protocols that it extends included."""
    names: set[str] = set()
    for base in inspect.getmro(protocol) if isinstance(protocol, type) else ():
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            names |= {*vars(base), *inspect.get_annotations(base)}
    return frozenset(name for name in names if not name.startswith("_") or name in ("__enter__", "__exit__"))
