"""A GenICam camera in the bench's words: seconds, pixels, formats, whatever the camera calls its features.

`Features` finds in `drivers.libraries.genicam_names` the name and the unit that a camera has. It talks to any library
through a `NodeMap`, of which each library has a small adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from drivers.errors import CapabilityError, DeviceLost, DeviceProtocolError, OptionError
from drivers.libraries.genicam_names import (
    AUTOMATICS,
    EXPOSURE,
    FRAME_RATE,
    FRAME_RATE_ENABLE,
    FRAME_RATE_NOW,
    FRAME_TRIGGERS,
    GAIN,
    IDENTITY,
    SNAPSHOT,
    TIMESTAMP_HZ,
    UNITS_S,
)
from drivers.libraries.pixel_formats import PixelFormat, best_format, pixel_format
from drivers.protocols import Identity, Roi

Value = int | float | bool | str


@dataclass(frozen=True)
class Limits:
    """Lowest, highest, and the step between them of a number; a step of 0 where any value is allowed."""

    low: float
    high: float
    step: float = 0.0


class NodeMap(Protocol):
    """A camera's features by name. Errors of the library come through as they are."""

    def has(self, name: str) -> bool:
        """Is the feature there, and can be used now?"""

    def writable(self, name: str) -> bool:
        """May it be set now?"""

    def get(self, name: str) -> Value:
        """As the camera reads it back: a number, true or false, a string, the name of an enumeration's entry."""

    def set(self, name: str, value: Value) -> None: ...

    def limits(self, name: str) -> Limits:
        """Of a number, as they are now."""

    def entries(self, name: str) -> tuple[str, ...]:
        """Of an enumeration: those that can be chosen now."""

    def unit(self, name: str) -> str:
        """Of a number, as the camera declares it; empty where it does not."""

    def execute(self, name: str) -> None:
        """Of a command."""


_ROUNDED_REL = 0.01
"""How far a feature may read back from what it was set to: cameras round gains and rates to their registers [1]."""


def identity_of(nodes: NodeMap, otherwise: Identity) -> Identity:
    """What the camera's features say that it is; for a field that none fills, what the transport said."""
    fields = {}
    for field, names in IDENTITY.items():
        said = (str(nodes.get(name)).strip() for name in names if nodes.has(name))
        fields[field] = next((text for text in said if text), getattr(otherwise, field))
    return Identity(**fields)


class Features:
    """A GenICam camera in the bench's words.

    Parameters
    ----------
    nodes
        The camera's features.
    device
        What the station calls it; for errors.
    """

    def __init__(self, nodes: NodeMap, device: str = "") -> None:
        self.nodes = nodes
        self.device = device
        self._exposure = self._find_exposure()

    @property
    def can_expose(self) -> bool:
        """Has the camera an exposure time that can be set?"""
        return self._exposure is not None and self.nodes.writable(self._exposure[0])

    @property
    def exposure_s(self) -> float | None:
        """As the camera reads it back; None where it has no exposure time [s]."""
        if self._exposure is None:
            return None
        name, unit_s = self._exposure
        return float(self.nodes.get(name)) * unit_s

    @property
    def exposure_range_s(self) -> tuple[float, float] | None:
        """Shortest and longest exposure, as the camera says now [s]."""
        if self._exposure is None:
            return None
        name, unit_s = self._exposure
        limits = self.nodes.limits(name)
        return limits.low * unit_s, limits.high * unit_s

    def set_exposure_s(self, value: float) -> None:
        """Within the camera's range; rounded to its step.

        Raises
        ------
        CapabilityError
            When the camera has no exposure time that can be set.
        """
        if self._exposure is None:
            raise self._refused("exposure cannot be set", "set the exposure", "an exposure feature", "none")
        name, unit_s = self._exposure
        limits = self.nodes.limits(name)
        ticks = min(max(value / unit_s, limits.low), limits.high)  # a limit in seconds may round to just outside
        if limits.step:
            ticks = limits.low + round((ticks - limits.low) / limits.step) * limits.step
        self.nodes.set(name, round(ticks) if isinstance(self.nodes.get(name), int) else ticks)

    @property
    def roi(self) -> Roi:
        """As the camera reads it back [px]."""
        x, y = (int(self.nodes.get(name)) if self.nodes.has(name) else 0 for name in ("OffsetX", "OffsetY"))
        return Roi(x, y, int(self.nodes.get("Width")), int(self.nodes.get("Height")))

    def open_fully(self) -> tuple[int, int]:
        """Set the region to the full sensor.

        Returns
        -------
        Its shape (rows, columns) [px].
        """
        for name in ("OffsetX", "OffsetY"):
            self._move(name, 0)
        for name in ("Width", "Height"):
            if self.nodes.writable(name):
                limits = self.nodes.limits(name)
                low, high = int(limits.low), int(limits.high)
                self.nodes.set(name, high - (high - low) % (int(limits.step) or 1))
        return self.roi.shape

    def set_roi(self, value: Roi, sensor: tuple[int, int]) -> None:
        """Set the smallest region that the camera allows and that holds the one asked for.

        Parameters
        ----------
        sensor
            Shape of the full sensor (rows, columns) [px].
        """
        for name in ("OffsetX", "OffsetY"):
            self._move(name, 0)
        x, width = self._span("OffsetX", "Width", value.x, value.width, sensor[1])
        y, height = self._span("OffsetY", "Height", value.y, value.height, sensor[0])
        for name, pixels in (("Width", width), ("Height", height)):
            if self.nodes.writable(name):
                self.nodes.set(name, pixels)
        self._move("OffsetX", x)
        self._move("OffsetY", y)

    def frame_period_s(self) -> float:
        """From one start of exposure to the next at the present settings, never shorter than the exposure [s]."""
        exposure_s = self.exposure_s or 0.0
        now = self._first(FRAME_RATE_NOW)
        if now and (rate_hz := float(self.nodes.get(now))) > 0:
            return max(1 / rate_hz, exposure_s)
        name = self._first(FRAME_RATE)
        if name is None:
            return exposure_s
        enable = self._first(FRAME_RATE_ENABLE)
        enabled = enable is None or bool(self.nodes.get(enable))
        rate_hz = float(self.nodes.get(name)) if enabled else self.nodes.limits(name).high
        return max(1 / rate_hz if rate_hz > 0 else 0.0, exposure_s)

    def set_frame_rate_hz(self, value: float) -> None:
        """Ask for a frame rate, and switch the asking on where there is a switch.

        Raises
        ------
        CapabilityError
            When the camera has none, or not this one.
        """
        enable, name = self._first(FRAME_RATE_ENABLE), self._first(FRAME_RATE)
        if enable is not None and self.nodes.writable(enable):
            self.nodes.set(enable, True)
        if name is None or not self.nodes.writable(name):
            raise self._refused("frame rate cannot be set", "set the frame rate", " or ".join(FRAME_RATE), "none")
        limits = self.nodes.limits(name)
        if not limits.low <= value <= limits.high:
            expected = f"{limits.low:g} … {limits.high:g} Hz"
            raise self._refused("frame rate out of range", "set the frame rate", expected, f"{value:g} Hz")
        self.nodes.set(name, value)

    def switch_off_automatics(self) -> dict[str, Value]:
        """Switch off all that changes counts behind the bench's back, as far as the camera lets it be.

        Returns
        -------
        What each was before, of those that were not off.

        Raises
        ------
        DeviceProtocolError
            When one stays on.
        """
        found: dict[str, Value] = {}
        for name, off in AUTOMATICS.items():
            if not self.nodes.has(name) or (isinstance(off, str) and off not in self.nodes.entries(name)):
                continue
            before = self.nodes.get(name)
            if before == off:
                continue
            if self.nodes.writable(name):
                self.nodes.set(name, off)
            if self.nodes.get(name) != off:
                raise DeviceProtocolError(
                    f"{name} cannot be switched off",
                    device=self.device,
                    action="open",
                    expected=str(off),
                    seen=str(self.nodes.get(name)),
                    hint=f"counts would follow {name}: set it in the maker's viewer and save it as the start-up set",
                )
            found[name] = before
        self._exposure = self._find_exposure()  # many cameras lock it while an automatic sets it
        return found

    def set_pixel_format(self, name: str = "") -> PixelFormat:
        """Choose a gray format; the best that the camera offers where ``name`` is empty.

        A camera that is set to a format which its own list lacks is taken at the station file's word. The images say
        themselves in which format they are, and the driver compares.

        Raises
        ------
        CapabilityError
            When the camera does not offer it, or no gray format at all.
        """
        offered = self.nodes.entries("PixelFormat")
        now = self._format_now()
        chosen = pixel_format(name, self.device) if name else best_format(offered)
        if chosen is not None and chosen.name in offered:
            if now != chosen.name:
                self.nodes.set("PixelFormat", chosen.name)
            return pixel_format(str(self.nodes.get("PixelFormat")), self.device)
        if chosen is not None and now is None:
            return chosen
        raise self._refused(
            f"camera has no pixel format {name}" if name else "camera has no gray pixel format",
            "choose the pixel format",
            "one of " + ", ".join(offered),
            name or "none",
        )

    def trigger(self, source: str = "", activation: str = "RisingEdge") -> None:
        """Let each exposure wait for ``source`` (``"Software"``, ``"Line1"``), or let the camera run freely.

        Every other trigger of the camera is switched off: one that waits for an edge that never comes stops it.

        Parameters
        ----------
        source
            Entry of ``TriggerSource``; empty to run freely.
        activation
            Entry of ``TriggerActivation``, for an edge.

        Raises
        ------
        CapabilityError
            When the camera cannot be triggered, or not by this.
        """
        nodes = self.nodes
        selectors = nodes.entries("TriggerSelector") if nodes.writable("TriggerSelector") else ()
        frame = next((name for name in FRAME_TRIGGERS if name in selectors), "")
        if not nodes.has("TriggerMode"):
            if source:
                raise self._refused("camera has no trigger", "set the trigger", "TriggerMode", "none")
            return
        for name in selectors:
            nodes.set("TriggerSelector", name)
            if nodes.writable("TriggerMode"):
                nodes.set("TriggerMode", "Off")
        if frame:
            nodes.set("TriggerSelector", frame)
        if not source:
            if not selectors:
                nodes.set("TriggerMode", "Off")
            return
        offered = nodes.entries("TriggerSource")
        if source not in offered:
            raise self._refused("camera has no such trigger", "set the trigger", "one of " + ", ".join(offered), source)
        nodes.set("TriggerSource", source)
        if source != "Software" and nodes.has("TriggerActivation"):
            nodes.set("TriggerActivation", activation)
        nodes.set("TriggerMode", "On")

    def listen(self, source: str) -> None:
        """Obey the edges of ``source``, an entry of ``TriggerSource``, or where it is empty none at all.

        The trigger stays on, so that the camera never runs freely: it waits for a software trigger that nobody sends.

        Raises
        ------
        CapabilityError
            When the camera has no software trigger.
        """
        if not source and "Software" not in self.nodes.entries("TriggerSource"):
            offered = ", ".join(self.nodes.entries("TriggerSource"))
            raise self._refused("camera cannot ignore edges", "set the trigger", "TriggerSource Software", offered)
        self.nodes.set("TriggerSource", source or "Software")

    @property
    def timestamp_hz(self) -> float:
        """Ticks of the camera's clock per second [Hz]."""
        name = self._first(TIMESTAMP_HZ)
        ticks_hz = float(self.nodes.get(name)) if name is not None else 0.0
        return ticks_hz or 1e9

    def apply(self, settings: Mapping[str, Any]) -> None:
        """Set features by their own names, in the order given.

        Raises
        ------
        OptionError
            For a feature that is not there, cannot be set, takes another value, or reads back another one.
        """
        for name, value in settings.items():
            if not self.nodes.has(name) or not self.nodes.writable(name):
                raise self._not_taken(
                    name,
                    value,
                    "a feature that can be set now",
                    "none" if not self.nodes.has(name) else str(self.nodes.get(name)),
                )
            try:
                self.nodes.set(name, value)
            except DeviceLost:
                raise
            except Exception as error:
                raise self._not_taken(name, value, "a value that the camera takes", str(error)) from error
            back = self.nodes.get(name)
            same = back == value
            if not same and isinstance(back, float) and _is_number(value):
                same = abs(back - value) <= max(self.nodes.limits(name).step, _ROUNDED_REL * abs(value))
            if not same:
                raise self._not_taken(name, value, str(value), str(back))

    def settings(self) -> dict[str, Any]:
        """For a snapshot: gain, frame rate, temperature, the automatics …, as they read back."""
        found: dict[str, Any] = {}
        rate, enable = self._first(FRAME_RATE), self._first(FRAME_RATE_ENABLE)
        if rate is not None and (enable is None or self.nodes.get(enable)):
            found["frame_rate_hz"] = self.nodes.get(rate)
        for name, key in {**GAIN, **SNAPSHOT}.items():
            if self.nodes.has(name) and key not in found:
                found[key] = self.nodes.get(name)
        if (now := self._format_now()) is not None:
            found["pixel_format"] = now
        found["automatics"] = {name: self.nodes.get(name) for name in AUTOMATICS if self.nodes.has(name)}
        return found

    def adjust(self, key: str, value: Value) -> None:
        """Set one of `ADJUSTABLE` to what `settings` said of it earlier."""
        if key == "frame_rate_hz":
            self.set_frame_rate_hz(float(value))
            return
        names = [name for name, known in {**GAIN, **SNAPSHOT}.items() if known == key and self.nodes.has(name)]
        if not names:
            raise self._refused(f"camera has no {key}", "restore settings", key, "none")
        self.nodes.set(names[0], value)

    def _find_exposure(self) -> tuple[str, float] | None:
        """The feature that holds the exposure time, and what its unit is in seconds."""
        for feature in EXPOSURE:
            if not self.nodes.has(feature.name) or (feature.base and not self.nodes.has(feature.base)):
                continue
            declared = UNITS_S.get(self.nodes.unit(feature.name).strip().lower())
            if feature.base and feature.scale is not None:
                return feature.name, float(self.nodes.get(feature.base)) * feature.scale
            unit_s = declared or feature.scale
            if unit_s is not None:
                return feature.name, unit_s
        return None

    def _format_now(self) -> str | None:
        """The pixel format that is set; None where it is none of the camera's list."""
        try:
            return str(self.nodes.get("PixelFormat"))
        except DeviceProtocolError:
            return None

    def _first(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if self.nodes.has(name)), None)

    def _move(self, name: str, pixels: int) -> None:
        if self.nodes.has(name) and self.nodes.writable(name):
            self.nodes.set(name, pixels)

    def _span(self, offset: str, size: str, first: int, length: int, sensor: int) -> tuple[int, int]:
        """Where a span that holds ``first … first + length − 1`` begins, and how long it is, in the camera's steps."""
        movable = self.nodes.has(offset) and self.nodes.writable(offset)
        step = int(self.nodes.limits(offset).step) or 1 if movable else 1
        begin = first // step * step if movable else 0
        limits = self.nodes.limits(size)
        grain, least = int(limits.step) or 1, int(limits.low)
        wanted = max(first + length - begin, least)
        span = least + -(-(wanted - least) // grain) * grain
        if begin + span > sensor:  # too long there: begin further to the left
            begin = max((sensor - span) // step * step, 0)
            wanted = max(first + length - begin, least)
            span = least + -(-(wanted - least) // grain) * grain
        return begin, min(span, int(limits.high))

    def _refused(self, what: str, action: str, expected: str, seen: str) -> CapabilityError:
        return CapabilityError(what, device=self.device, action=action, expected=expected, seen=seen)

    def _not_taken(self, name: str, value: Any, expected: str, seen: str) -> OptionError:
        return OptionError(
            f"camera does not take {name} = {value!r}",
            device=self.device,
            action="set a feature by its name",
            expected=expected,
            seen=seen,
            hint="names and values are those of the maker's viewer",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
