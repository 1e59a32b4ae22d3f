"""GigE Vision and USB3 Vision cameras without any maker's software, through viva-genicam.

In the station file, a camera on the network, chosen by what is printed on it::

    [devices.camera]
    backend = "genicam.gige"
    options = {serial = "23456789", pixel_format = "Mono12", packet_size_bytes = 8000}

One on USB::

    [devices.camera]
    backend = "genicam.usb3"
    options = {serial = "0231"}

A camera is chosen by its serial number, user name, model, or address. Where only one answers it need not be chosen;
where several fit, none is opened. A GigE camera obeys one program at a time: close the maker's viewer first.

Packets that the network lost are asked for again; without ``packet_resend`` the frame is given up and counted as lost.
A frame with missing packets is never delivered. Lost packets are usually cured by ``packet_size_bytes = 8000`` with an
equal MTU of the network card, a larger receive buffer of the operating system, or a ``packet_delay_ns``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import DeviceLost, DeviceProtocolError, NotConnected
from drivers.libraries.genicam_camera import (
    GenicamOptions,
    GuardedNodes,
    Image,
    describe_genicam_camera,
    open_genicam_camera,
)
from drivers.libraries.genicam_features import Features, Limits, Value, identity_of
from drivers.libraries.loading import load
from drivers.libraries.pixel_formats import FORMATS, PixelFormat
from drivers.options import option
from drivers.protocols import Identity, OpenContext
from drivers.streaming import StreamingCamera

_CONTROL_REGISTER = 0x0A00
"""GigE Vision: who controls the camera."""
_VERSION_REGISTER = 0x0000
"""USB3 Vision (GenCP): version of the control protocol."""
_ROUND_S = 0.3
"""One round of looking for a camera that is known [s]."""
_COUNTED = (
    "frames_complete",
    "frames_incomplete",
    "frames_missed",
    "frames_backpressure",
    "packets_missing",
    "resend_requested",
    "resend_recovered",
    "transfer_errors",
)
"""What a snapshot says of a stream."""
_BLOCK_NUMBERS = 65535
"""GigE Vision counts its blocks 1 … 65535 and then begins at 1 again, unless it counts in 64 bits."""


@dataclass(frozen=True)
class GigeOptions(GenicamOptions):
    """Options of the backend ``genicam.gige``, besides those of every GenICam camera.

    Attributes
    ----------
    serial, user_name, model, ip, mac
        Which camera: what it says of itself, or its address. Empty does not matter.
    interface
        Host interface that the camera is on: its name or its address; any if empty.
    packet_size_bytes
        Of the stream; the camera's own if omitted [bytes].
    packet_delay_ns
        That the camera waits between two packets; its own if omitted [ns].
    packet_resend
        Ask for lost packets again.
    discovery_s
        How long cameras are looked for [s].
    """

    serial: str = ""
    user_name: str = ""
    model: str = ""
    ip: str = ""
    mac: str = ""
    interface: str = ""
    packet_size_bytes: int | None = option(220, 16_000, None)
    packet_delay_ns: int | None = option(0, 1_000_000_000, None)
    packet_resend: bool = True
    discovery_s: float = option(0.1, 30, 2.0)


@dataclass(frozen=True)
class Usb3Options(GenicamOptions):
    """Options of the backend ``genicam.usb3``, besides those of every GenICam camera.

    Attributes
    ----------
    serial, model
        Which camera: what its USB descriptor says. Empty does not matter.
    """

    serial: str = ""
    model: str = ""


class VivaNodes:
    """A `NodeMap` over viva-genicam.

    Parameters
    ----------
    camera
        ``viva_genicam.Camera``.
    """

    def __init__(self, camera: Any) -> None:
        self._camera = camera
        self._names = frozenset(camera.nodes())

    def has(self, name: str) -> bool:
        if name not in self._names:
            return False
        state = self._camera.feature_state(name)
        return bool(state.is_implemented and state.is_available and state.access is not None)

    def writable(self, name: str) -> bool:
        return self.has(name) and self._camera.feature_state(name).access in ("RW", "WO")

    def get(self, name: str) -> Value:
        self._camera.invalidate(name)
        value: Value | None = self._camera.feature_state(name).value
        if value is None:
            raise DeviceProtocolError(f"{name} cannot be read", action="read a feature", seen="no value")
        return value

    def set(self, name: str, value: Value) -> None:
        kind = self._camera.feature_state(name).kind
        if kind == "Enumeration":
            self._camera.set_enum(name, value)
        elif kind == "Boolean":
            self._camera.set_bool(name, value)
        elif kind == "Float" or (kind in ("Converter", "SwissKnife") and isinstance(value, float)):
            self._camera.set_float(name, float(value))
        elif isinstance(value, str):
            self._camera.set_string(name, value)
        else:
            self._camera.set_integer(name, int(value))

    def limits(self, name: str) -> Limits:
        span = self._camera.feature_state(name).range
        if span is None:
            return Limits(float("-inf"), float("inf"))
        return Limits(span.min, span.max, span.inc or 0.0)

    def entries(self, name: str) -> tuple[str, ...]:
        return tuple(self._camera.available_enum_entries(name))

    def unit(self, name: str) -> str:
        return str(self._camera.feature_state(name).unit or "")

    def execute(self, name: str) -> None:
        self._camera.execute(name, wait=False)


class VivaLink:
    """One camera through viva-genicam.

    Parameters
    ----------
    name
        What the station calls it.
    camera
        ``viva_genicam.Camera``, which is this link's from now on.
    otherwise
        What the transport says that it is, for what the camera does not say.
    answers
        Does a camera answer at its address? Comes back within about a second, where to read a register of a camera
        without a cable takes viva-genicam nine.
    stream
        Arguments of its ``stream``.
    """

    def __init__(self, name: str, camera: Any, otherwise: Identity, answers: Callable[[], bool], **stream: Any) -> None:
        vg = load("viva_genicam")
        self.name = name
        self._camera, self._otherwise, self._answers, self._arguments = camera, otherwise, answers, stream
        self._is_silent = self._is_gone = False
        self._is_gige = camera.transport == "gige"
        self.counter_size = _BLOCK_NUMBERS if self._is_gige else 0
        self._failure, self._no_frame, self._held = vg.GenicamError, vg.TransportError, vg.ControlState.HELD
        self.nodes = GuardedNodes(name, VivaNodes(camera), (vg.GenicamError,), self._is_there_after_failure)
        self._stream: Any = None
        self._counts: dict[str, int] = {}
        self._stamp_hz = Features(self.nodes, name).timestamp_hz

    def identify(self) -> Identity:
        return identity_of(self.nodes, self._otherwise)

    def start(self) -> None:
        stream: Any = None
        try:
            stream = self._camera.stream(**self._arguments)
            stream.__enter__()
        except self._failure as error:
            self._is_silent = True
            self._close(stream)
            raise DeviceLost(
                f"{self.name} does not start to send images",
                device=self.name,
                action="start the stream",
                seen=str(error),
                hint="look at its cable and power, at the option interface, and at the packet size",
            ) from error
        self._stream, self._counts = stream, {}

    def stop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(self._failure):
                self._count(stream)
            self._close(stream)

    def _close(self, stream: Any) -> None:
        """End a stream; a camera that is gone is not told, since nobody would answer for long."""
        with suppress(self._failure):
            if self._is_gone:
                stream.close()
            elif stream is not None:
                stream.__exit__(None, None, None)

    def next_image(self, kind: PixelFormat, timeout_s: float) -> Image | None:
        stream = self._stream
        try:
            frame = stream.next_frame(max(1, round(timeout_s * 1e3)))
            self._count(stream)
        except self._no_frame as error:
            if "timeout" in str(error):
                self._is_silent = True
                with suppress(self._failure):
                    self._count(stream)
                return None
            raise
        self._is_silent = False
        if frame is None:
            raise DeviceLost("the stream has ended", device=self.name, action="wait for an image")
        sent = FORMATS.get(frame.pixel_format)
        if sent is None or sent.bits != kind.bits:
            raise DeviceProtocolError(
                "image has another pixel format than the camera was set to",
                device=self.name,
                action="read a frame",
                expected=kind.name,
                seen=str(frame.pixel_format),
            )
        stamp_s = None if frame.ts_dev is None else frame.ts_dev / self._stamp_hz
        return Image(frame.to_numpy(), frame.block_id, stamp_s)

    @property
    def lost(self) -> int:
        return self._counts.get("frames_incomplete", 0) + self._counts.get("frames_missed", 0)

    def is_there(self) -> bool:
        if self._is_silent and not self._is_gone:
            self._is_gone = not self._answers()
        if self._is_gone:
            return False
        try:
            if not self._is_gige:
                return bool(self._camera.read_register(_VERSION_REGISTER, 4))
            controlled = any(self._camera.read_register(_CONTROL_REGISTER, 4))
            return controlled and self._camera.control_state == self._held
        except self._failure:
            return False

    def _is_there_after_failure(self) -> bool:
        self._is_silent = True
        return self.is_there()

    def settings(self) -> dict[str, Any]:
        return {"stream": dict(self._counts)}

    def advice(self) -> str:
        if self.lost:
            return f"{self.lost} frames lost packets: set packet_size_bytes with the card's MTU, or packet_delay_ns"
        return "let the firewall pass UDP from the camera, and look at the option interface"

    def close(self) -> None:
        self.stop()
        with suppress(self._failure):
            self._camera.close()

    def _count(self, stream: Any) -> None:
        """Remember what the stream has counted so far; it may not be asked while somebody waits for an image."""
        stats = stream.stats()
        self._counts = {name: int(getattr(stats, name)) for name in _COUNTED}


@dataclass(frozen=True)
class _OnNetwork:
    """A camera that answered: what viva-genicam knows of it, and what it says of itself."""

    info: Any
    identity: Identity
    user_name: str

    def fits(self, options: GigeOptions) -> bool:
        return (
            options.ip in ("", self.info.ip)
            and options.mac.lower() in ("", self.info.mac.lower())
            and options.serial in ("", self.identity.serial)
            and options.user_name in ("", self.user_name)
            and options.model in ("", self.identity.model, self.info.model)
        )


def _ask_gige(info: Any, interface: str) -> _OnNetwork:
    """What a camera says that it is; asked without taking it from anybody."""
    said = Identity(info.manufacturer or "unknown", info.model or "GigE Vision camera", info.mac)
    with load("viva_genicam").connect_gige(info, interface or None, True) as camera:
        nodes = VivaNodes(camera)
        user_name = str(nodes.get("DeviceUserID")) if nodes.has("DeviceUserID") else ""
        return _OnNetwork(info, identity_of(nodes, said), user_name)


def _look_for_gige(options: GigeOptions) -> list[_OnNetwork]:
    """Cameras that answer within ``discovery_s``; where one is chosen by what only it has, until that one does."""
    vg = load("viva_genicam")
    chosen = options.ip or options.mac or options.serial or options.user_name
    round_s = min(_ROUND_S, options.discovery_s) if chosen else options.discovery_s
    ends_s = time.monotonic() + options.discovery_s
    found: dict[str, _OnNetwork] = {}
    while True:
        for info in vg.discover(round(round_s * 1e3), options.interface or None, True):
            if info.ip not in found and options.ip in ("", info.ip):
                with suppress(vg.GenicamError):  # it answered, but tells nothing: no camera to be opened
                    found[info.ip] = _ask_gige(info, options.interface)
        if (chosen and any(one.fits(options) for one in found.values())) or time.monotonic() >= ends_s:
            return list(found.values())


def _open_gige(name: str, options: GigeOptions, context: OpenContext) -> StreamingCamera:
    vg = load("viva_genicam")
    try:
        found = _look_for_gige(options)
    except vg.GenicamError as error:
        raise _not_found(name, str(error), "look at the option interface") from error
    fits = [one.info for one in found if one.fits(options)]
    if len(fits) != 1:
        seen = [f"{one.identity.model} {one.identity.serial} at {one.info.ip}" for one in found]
        raise _not_chosen(name, len(fits), seen)
    info = fits[0]
    try:
        camera = vg.connect_gige(info, options.interface or None)
    except vg.GenicamError as error:
        raise _not_found(name, str(error), "close the program that has opened it, and look at its network") from error
    otherwise = Identity(info.manufacturer or "unknown", info.model or "GigE Vision camera", info.mac)
    return _camera_over(
        name,
        camera,
        otherwise,
        options,
        lambda: _answers(str(info.ip), options.interface),
        iface=options.interface or None,
        packet_size=options.packet_size_bytes,
        packet_delay_ns=options.packet_delay_ns,
        resend=options.packet_resend,
    )


def _open_usb3(name: str, options: Usb3Options, context: OpenContext) -> StreamingCamera:
    vg = load("viva_genicam")
    try:
        infos = vg.discover_u3v()
    except vg.GenicamError as error:
        raise _not_found(name, str(error), "look at its cable, and at your rights to use USB devices") from error
    fits = [info for info in infos if options.serial in ("", info.serial) and options.model in ("", info.model)]
    if len(fits) != 1:
        raise _not_chosen(name, len(fits), [f"{info.model} {info.serial}" for info in infos])
    info = fits[0]
    try:
        camera = vg.connect_u3v(info)
    except vg.GenicamError as error:
        raise _not_found(name, str(error), "close the program that has opened it") from error
    return _camera_over(name, camera, _usb3_identity(info), options, lambda: True)


def _usb3_identity(info: Any) -> Identity:
    place = f"{info.bus}:{info.address}"
    return Identity(info.manufacturer or "unknown", info.model or "USB3 Vision camera", info.serial or place)


def _camera_over(
    name: str, camera: Any, otherwise: Identity, options: GenicamOptions, answers: Callable[[], bool], **stream: Any
) -> StreamingCamera:
    try:
        link = VivaLink(name, camera, otherwise, answers, **stream)
    except BaseException:
        camera.close()
        raise
    return open_genicam_camera(name, link, options)


def _answers(ip: str, interface: str) -> bool:
    """Does a camera at this address answer a call to all?"""
    vg = load("viva_genicam")
    for _ in range(3):
        with suppress(vg.GenicamError):
            if any(info.ip == ip for info in vg.discover(round(_ROUND_S * 1e3), interface or None, True)):
                return True
    return False


def _not_chosen(name: str, count: int, seen: list[str]) -> NotConnected:
    return NotConnected(
        "several cameras fit" if count else "no such camera answers",
        device=name,
        action="open",
        expected="one camera that fits the options",
        seen=", ".join(seen) or "none",
        hint="labctl devices probe lists what answers; choose by serial" if seen else "look at its cable and power",
    )


def _not_found(name: str, seen: str, hint: str) -> NotConnected:
    return NotConnected("camera does not open", device=name, action="open", seen=seen, hint=hint)


def _discover_gige() -> list[Found]:
    found = []
    with suppress(Exception):
        for one in _look_for_gige(GigeOptions(discovery_s=1.0)):
            serial, ip = one.identity.serial, one.info.ip
            options = {"ip": ip} if serial == one.info.mac else {"serial": serial}
            found.append(Found("camera", one.identity, options, f"at {ip}"))
    return found


def _discover_usb3() -> list[Found]:
    with suppress(Exception):
        infos = load("viva_genicam").discover_u3v()
        return [
            Found("camera", _usb3_identity(info), {"serial": info.serial} if info.serial else {}, info.speed or "")
            for info in infos
        ]
    return []


_INSTALL = "pip install labctl[genicam]"

GIGE = Backend(
    "genicam.gige",
    ("camera",),
    GigeOptions,
    _open_gige,
    describe_genicam_camera,
    needs=("viva_genicam",),
    install=_INSTALL,
    discover=_discover_gige,
    families=(
        Family(
            "GigE Vision cameras of any maker",
            Proof.LIVE,
            "two servers that speak GigE Vision over loopback: viva-genicam's and Aravis'",
            "tests/endpoints/test_gige.py",
        ),
    ),
)
"""Any GigE Vision camera, without its maker's software."""

USB3 = Backend(
    "genicam.usb3",
    ("camera",),
    Usb3Options,
    _open_usb3,
    describe_genicam_camera,
    needs=("viva_genicam",),
    install=_INSTALL,
    discover=_discover_usb3,
    families=(
        Family(
            "USB3 Vision cameras of any maker",
            Proof.EMULATOR,
            "viva-genicam's own camera in the same process, without the bus",
            "tests/endpoints/test_usb3.py",
        ),
    ),
)
"""Any USB3 Vision camera, without its maker's software."""
