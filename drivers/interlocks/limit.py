"""Backend ``limit.interlock``: any monitor as an interlock, open while the reading is not as it should be.

Light only while the chiller's water is cold enough::

    [devices.chiller]
    role = "interlock"
    backend = "limit.interlock"

    [devices.chiller.options]
    monitor = "serial.monitor"                # any backend of a monitor
    unit = "degC"                             # of low and high; the monitor's own must be the same
    low = 15
    high = 25

    [devices.chiller.options.monitor_options]
    port = "/dev/serial/by-id/usb-FTDI_FT232R_A10K5XYZ-if00-port0"
    ask = "TEMP?"
    unit = "degC"

It is open, too, when the reading fails, is no number, or is stale: when the time of the reading stands still for longer
than ``stale_s``. Where a monitor of the station asks the same instrument, both share its connection.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

from drivers.backend import Backend, Family, Proof
from drivers.errors import DeviceError, DeviceLost, RoleError
from drivers.options import Checked, option, refused
from drivers.protocols import DeviceFacts, Identity, Monitor, Ok, OpenContext, Reading, Trip
from drivers.registry import check_options, open_role


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Checked):
    """Options of the backend ``limit.interlock``.

    Attributes
    ----------
    monitor, monitor_options
        Backend of the monitor, and its options.
    unit
        Of the limits; a monitor that reads in another unit is refused.
    low, high
        Light may be on while the reading is within, both included; one of them may be omitted [unit].
    stale_s
        Longest time for which a reading's time may stand still [s].
    """

    monitor: str
    unit: str
    low: float | None = option(-1e30, 1e30, None)
    high: float | None = option(-1e30, 1e30, None)
    stale_s: float = option(0.1, 3600, 30.0)
    monitor_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is None and self.high is None:
            raise refused("an interlock without a limit never opens", expected="low, high, or both", seen="neither")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise refused("low is not below high", expected=f"less than {self.high:g}", seen=f"{self.low:g}")


class LimitInterlock:
    """A monitor that is watched.

    Parameters
    ----------
    name
        What the station calls it.
    monitor
        Open; it is closed with the interlock.
    options
        The limits.
    """

    def __init__(self, name: str, monitor: Monitor, options: LimitOptions) -> None:
        self.name = name
        self._monitor: Monitor | None = monitor
        self._options = options
        self._newest_s = -math.inf
        self._came_at_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        monitor, self._monitor = self._monitor, None
        if monitor is not None:
            monitor.close()

    def identify(self) -> Identity:
        return self._watched.identify()

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        limits = {"low": self._options.low, "high": self._options.high, "unit": self._options.unit}
        return {"monitor": self._options.monitor, **limits, "stale_s": self._options.stale_s}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._monitor is not None:
            self._monitor.safe_state(timeout_s)

    def check(self, timeout_s: float = 2.0) -> Ok | Trip:
        monitor, options = self._watched, self._options
        try:
            reading = monitor.read(timeout_s)
        except (DeviceError, OSError) as error:
            return Trip(f"{options.monitor} does not read: {error}")
        if reading.unit != options.unit:
            return Trip(f"{options.monitor} reads in {reading.unit}, the limits are in {options.unit}")
        low = -math.inf if options.low is None else options.low
        high = math.inf if options.high is None else options.high
        if not (math.isfinite(reading.value) and low <= reading.value <= high):
            return Trip(f"{reading.value:g} {reading.unit} is not within {low:g} … {high:g} {options.unit}")
        if (stood_s := self._stood_s(reading)) > options.stale_s:
            return Trip(f"{options.monitor} is stale: the time of its reading has stood still for {stood_s:.0f} s")
        return Ok()

    def _stood_s(self, reading: Reading) -> float:
        """For how long the time of the readings has stood still, by the host's clock [s]."""
        now_s = time.monotonic()
        if reading.at_s > self._newest_s:
            self._newest_s, self._came_at_s = reading.at_s, now_s
        return now_s - self._came_at_s

    @property
    def _watched(self) -> Monitor:
        if self._monitor is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._monitor


def _open(name: str, options: LimitOptions, context: OpenContext) -> LimitInterlock:
    monitor = cast(Monitor, open_role(options.monitor, "monitor", name, options.monitor_options, context))
    if monitor.unit != options.unit:
        monitor.close()
        raise RoleError(
            f"backend {options.monitor} reads in another unit than the limits",
            device=name,
            action="open",
            expected=options.unit,
            seen=monitor.unit,
            hint="unit, low and high of the interlock are those of its monitor",
        )
    return LimitInterlock(name, monitor, options)


def _describe(options: LimitOptions, context: OpenContext) -> DeviceFacts:
    """Nothing, once the monitor's options have been read: a mistake in them is found without opening it."""
    check_options(options.monitor, "monitor", options.monitor_options, context)
    return DeviceFacts()


INTERLOCK = Backend(
    "limit.interlock",
    ("interlock",),
    LimitOptions,
    _open,
    _describe,
    families=(
        Family(
            "Any monitor as an interlock",
            Proof.LIVE,
            "scpi.monitor at our served meter",
            "tests/endpoints/test_scpi.py",
        ),
    ),
)
"""Limits of a monitor as an interlock."""
