"""What every instrument promises: blocking calls, a ``timeout_s`` on each that can wait, none that waits for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Identity:
    """Who answers: ``Identity("Hamamatsu", "X10468-01", "0231", "1.7")``."""

    vendor: str
    model: str
    serial: str
    firmware: str = ""


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
    """Frames copied out of the camera, with what the camera says about them.

    Attributes
    ----------
    frames
        (n, H, W) uint16 [DN], least-significant-bit aligned.
    sequence
        (n,) the device's own frame counter; a gap means a lost frame.
    device_time_s
        (n,) start of exposure on the device's clock [s].
    host_time_s
        (n,) arrival on the host's clock, seconds since the epoch.
    dropped
        Frames the device reports lost since ``arm``.
    saturated_fraction
        (n,) fraction of pixels at full scale.
    """

    frames: NDArray[np.uint16]
    sequence: NDArray[np.int64]
    device_time_s: NDArray[np.float64]
    host_time_s: NDArray[np.float64]
    dropped: int
    saturated_fraction: NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """One value of a monitor: ``Reading(1.23e-3, "W", 12.5)``."""

    value: float
    unit: str
    at_s: float


@dataclass(frozen=True)
class Ok:
    """The interlock is closed."""


@dataclass(frozen=True)
class Trip:
    """The interlock is open, and why."""

    reason: str


@runtime_checkable
class Device(Protocol):
    """An instrument: opened by its backend, closed by leaving its ``with`` block, made safe at any time."""

    name: str

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def close(self) -> None:
        """Release the instrument; calling it twice is harmless."""

    def identify(self) -> Identity: ...
    def snapshot(self) -> dict[str, Any]:
        """Settings as the device reads them back now: JSON types only, units in the keys."""

    def safe_state(self) -> None:
        """No light, no motion: idempotent, quick, and valid in any state."""


@runtime_checkable
class Modulator(Device, Protocol):
    """A panel of gray levels: an SLM or a display."""

    shape: tuple[int, int]
    levels: int
    settle_s: float
    refresh_hz: float

    def show(self, levels: Levels, timeout_s: float = 2.0) -> ShowReceipt:
        """Show ``levels`` : (rows, columns) integer gray levels in ``0 … self.levels − 1``."""

    def blank(self) -> ShowReceipt:
        """Show gray level 0 everywhere."""


@runtime_checkable
class Camera(Device, Protocol):
    """A camera that counts its frames."""

    shape: tuple[int, int]
    bit_depth: int
    exposure_s: float
    """Set it, then read it back: the device rounds."""
    roi: Roi
    """Set it, then read it back: the device aligns. The full sensor at opening."""
    frame_period_s: float

    def arm(self, n: int, skip: int = 0) -> None:
        """Start a sequence: let ``skip`` frames pass uncopied (settling is counted in frames), then keep ``n``.

        The skipped frames are exposed and numbered like any other: the first kept one has sequence ``skip`` later.
        """

    def fetch(self, timeout_s: float) -> FrameBlock:
        """All ``n`` frames of the armed sequence.

        Raises
        ------
        DeviceTimeout
            When they have not all arrived within ``timeout_s``.
        """

    def stop(self) -> None: ...


@runtime_checkable
class LightSource(Device, Protocol):
    """The light that can be switched off: laser, LED, or the shutter in front of it."""

    is_on: bool

    def on(self, timeout_s: float = 5.0) -> None: ...
    def off(self, timeout_s: float = 5.0) -> None: ...


@runtime_checkable
class Monitor(Device, Protocol):
    """A slow scalar: power meter, thermometer."""

    def read(self, timeout_s: float = 2.0) -> Reading: ...


@runtime_checkable
class Interlock(Device, Protocol):
    """May light be on?"""

    def check(self) -> Ok | Trip: ...


@dataclass(frozen=True)
class OpenContext:
    """What a backend gets besides its own options.

    Attributes
    ----------
    bench
        Tables of the station file that describe the bench as a whole (for the mock bench: ``{"mock": {...}}``).
    shared
        One dictionary for all devices of a station, so that several can open on one physical object.
    """

    bench: Mapping[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """What an entry point in ``labctl.drivers`` names: a callable that opens one device."""

    def __call__(self, name: str, options: Mapping[str, Any], context: OpenContext) -> Device: ...
