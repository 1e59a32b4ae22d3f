"""Any GenICam camera through its maker's GenTL producer and harvesters.

A producer is a file ``….cti`` that comes with the maker's software, which sets the environment variable
``GENICAM_GENTL64_PATH`` to its folder. In the station file, a camera of whatever producers that variable names::

    [devices.camera]
    backend = "genicam.gentl"
    options = {serial = "23456789", pixel_format = "Mono12"}

One of a certain producer::

    [devices.camera]
    backend = "genicam.gentl"
    options = {producer = "/opt/acme/lib/acme_gev.cti", user_name = "top", features = {BinningHorizontal = 2}}

A camera is chosen by its serial number, user name, model, or the producer's own name for it; where only one is there it
need not be. Several cameras of one producer share it. A camera that was plugged in later is found when all cameras of
its producer are closed and one is opened again.

Buffers that the producer calls incomplete go back to it at once, so that they never starve the stream; the frame's
number shows the loss.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from drivers.libraries.pixel_formats import PixelFormat, unpacked
from drivers.options import option
from drivers.protocols import Identity, OpenContext
from drivers.resources import Shared
from drivers.streaming import StreamingCamera

PATHS = "GENICAM_GENTL64_PATH"
"""Environment variable with the folders of installed producers."""

_BLOCK_NUMBERS = 65535
"""GigE Vision counts its blocks 1 … 65535 and then begins at 1 again."""


@dataclass(frozen=True)
class GentlOptions(GenicamOptions):
    """Options of the backend ``genicam.gentl``, besides those of every GenICam camera.

    Attributes
    ----------
    producer
        The maker's file ``….cti``; every one in the folders of ``GENICAM_GENTL64_PATH`` if empty.
    serial, user_name, model, id
        Which camera: what it says of itself, or the producer's name for it. Empty does not matter.
    buffers
        Images that the producer may hold until they are fetched.
    """

    producer: str = ""
    serial: str = ""
    user_name: str = ""
    model: str = ""
    id: str = ""
    buffers: int = option(2, 1000, 16)


class GenapiNodes:
    """A `NodeMap` over the bindings that harvesters uses.

    Parameters
    ----------
    nodes
        Node map of the remote device.
    """

    def __init__(self, nodes: Any) -> None:
        self._nodes = nodes
        genapi = load("genicam.genapi")
        self._readable = (genapi.EAccessMode.RO, genapi.EAccessMode.RW)
        self._writable = (genapi.EAccessMode.WO, genapi.EAccessMode.RW)
        self._missing = genapi.GenericException

    def has(self, name: str) -> bool:
        return self._access(name) in (*self._readable, *self._writable)

    def writable(self, name: str) -> bool:
        return self._access(name) in self._writable

    def get(self, name: str) -> Value:
        value: Value = getattr(self._nodes, name).get_value(False, True)  # from the camera, not from the cache
        return value

    def set(self, name: str, value: Value) -> None:
        node = getattr(self._nodes, name)
        node.value = type(node.value)(value) if isinstance(value, (int, float)) else value

    def limits(self, name: str) -> Limits:
        node = getattr(self._nodes, name)
        has_step = isinstance(node.min, int) or node.has_inc()
        return Limits(node.min, node.max, node.inc if has_step else 0.0)

    def entries(self, name: str) -> tuple[str, ...]:
        node = getattr(self._nodes, name)
        return tuple(entry.symbolic for entry in node.entries if entry.get_access_mode() in self._readable)

    def unit(self, name: str) -> str:
        return str(getattr(getattr(self._nodes, name), "unit", "") or "")

    def execute(self, name: str) -> None:
        getattr(self._nodes, name).execute()

    def _access(self, name: str) -> Any:
        try:
            return self._nodes.get_node(name).get_access_mode() if self._nodes.has_node(name) else None
        except self._missing:
            return None


class GentlLink:
    """One camera through harvesters.

    Parameters
    ----------
    name
        What the station calls it.
    harvester
        A hold on the producers, which this link lets go of when it is closed.
    info
        Of the camera: one of the harvester's ``device_info_list``.
    buffers
        Images that the producer may hold.
    """

    def __init__(self, name: str, harvester: Shared[Any], info: Any, buffers: int) -> None:
        genapi, gentl = load("genicam.genapi"), load("genicam.gentl")
        self.name = name
        self.counter_size = _BLOCK_NUMBERS if info.tl_type == "GEV" else 0
        self._hold, self._otherwise = harvester, _identity(info)
        self._failures = (gentl.GenericException, genapi.GenericException)
        self._buffer: Any = None
        self._acquirer = harvester.value.create(info)
        try:
            self._acquirer.num_buffers = max(buffers, self._acquirer.min_num_buffers)
            nodes = GenapiNodes(self._acquirer.remote_device.node_map)
            self.nodes = GuardedNodes(name, nodes, self._failures, self.is_there)
            self._stamp_hz = Features(self.nodes, name).timestamp_hz
        except BaseException:
            self._acquirer.destroy()
            raise

    def identify(self) -> Identity:
        return identity_of(self.nodes, self._otherwise)

    def start(self) -> None:
        try:
            self._acquirer.start()
        except self._failures as error:
            raise DeviceLost(
                f"{self.name} does not start to send images",
                device=self.name,
                action="start the stream",
                seen=str(error),
            ) from error

    def stop(self) -> None:
        with contextlib.suppress(*self._failures):
            self._return_buffer()
            self._acquirer.stop()

    def next_image(self, kind: PixelFormat, timeout_s: float) -> Image | None:
        self._return_buffer()
        buffer = self._acquirer.try_fetch(timeout=timeout_s)  # one that is incomplete is queued again in there
        if buffer is None:
            return None
        self._buffer = buffer
        return Image(self._pixels(buffer, kind), int(buffer.module.frame_id), self._stamp_s(buffer.module))

    @property
    def lost(self) -> int:
        return 0  # harvesters gives back what is incomplete, and does not say so

    def is_there(self) -> bool:
        try:
            self._acquirer.remote_device.node_map.Width.get_value(False, True)
        except self._failures:
            return False
        return True

    def settings(self) -> dict[str, Any]:
        return {"buffers": int(self._acquirer.num_buffers)}

    def advice(self) -> str:
        return "see that the maker's viewer has images, then close it; a longer opening_s for long exposures"

    def close(self) -> None:
        with contextlib.suppress(*self._failures):
            self.stop()
            self._acquirer.destroy()
        with contextlib.suppress(*self._failures):
            self._hold.release()

    def _pixels(self, buffer: Any, kind: PixelFormat) -> NDArray[Any]:
        components = buffer.payload.components
        if len(components) != 1:
            raise DeviceProtocolError(
                "buffer holds no single image",
                device=self.name,
                action="read a frame",
                expected="one component",
                seen=f"{len(components)}",
                hint="switch the camera's other components off with the option features",
            )
        image = components[0]
        if image.data_format != kind.name:
            raise DeviceProtocolError(
                "image has another pixel format than the camera was set to",
                device=self.name,
                action="read a frame",
                expected=kind.name,
                seen=str(image.data_format),
            )
        data = np.frombuffer(buffer.module.raw_buffer, np.uint8, offset=image.data_offset)
        return unpacked(data, kind, (int(image.height), int(image.width)), int(image.x_padding))

    def _stamp_s(self, buffer: Any) -> float | None:
        with contextlib.suppress(*self._failures):
            return float(buffer.timestamp_ns) / 1e9
        with contextlib.suppress(*self._failures):
            return float(buffer.timestamp) / self._stamp_hz or None
        return None

    def _return_buffer(self) -> None:
        """Give the producer back what was handed out last."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            buffer.queue()


def _identity(info: Any) -> Identity:
    """What the producer says of a camera before it is opened."""
    vendor, model, serial, version = (
        str(_said(info, name) or "").strip() for name in ("vendor", "model", "serial_number", "version")
    )
    return Identity(vendor or "unknown", model or "GenICam camera", serial or str(_said(info, "id_")), version)


def _said(info: Any, name: str) -> Any:
    """A property of a camera's entry in the list; None where the producer does not say."""
    with contextlib.suppress(Exception):
        return getattr(info, name)
    return None


def _producers(options: GentlOptions) -> tuple[str, ...]:
    """Files of the producers that are asked for, or that are installed."""
    if options.producer:
        return (options.producer,)
    folders = filter(None, os.environ.get(PATHS, "").split(os.pathsep))
    return tuple(sorted({str(file) for folder in folders for file in Path(folder).glob("*.cti")}))


def _harvester(name: str, producers: tuple[str, ...]) -> Any:
    """A harvester that has looked for the cameras of these producers."""
    harvester = load("harvesters.core:Harvester")()
    for producer in producers:
        try:
            harvester.add_file(producer, check_existence=True, check_validity=True)
        except OSError as error:
            raise NotConnected(
                "producer cannot be loaded",
                device=name,
                action="open",
                expected="a GenTL producer for this operating system, with 64 bits",
                seen=f"{producer}: {error or type(error).__name__}",
                hint="reinstall the maker's software; the file ends in .cti",
            ) from error
    harvester.update()
    return harvester


def _open(name: str, options: GentlOptions, context: OpenContext) -> StreamingCamera:
    producers = _producers(options)
    if not producers:
        raise NotConnected(
            "no GenTL producer is installed",
            device=name,
            action="open",
            expected=f"a file .cti in the folders of {PATHS}, or the option producer",
            seen=f"{PATHS} = {os.environ.get(PATHS, '')!r}",
            hint="install the maker's software, and open a new terminal",
        )
    hold = context.resources.share(
        ("gentl", producers), lambda: _harvester(name, producers), lambda harvester: harvester.reset()
    )
    try:
        link = GentlLink(name, hold, _chosen(name, hold.value.device_info_list, options), options.buffers)
    except NotConnected:
        hold.release()
        raise
    except Exception as error:
        hold.release()
        raise NotConnected(
            "camera does not open",
            device=name,
            action="open",
            seen=f"{type(error).__name__}: {error}",
            hint="close the program that has opened it",
        ) from error
    return open_genicam_camera(name, link, options)


def _chosen(name: str, infos: list[Any], options: GentlOptions) -> Any:
    """The one camera that fits the options."""
    wanted = {
        "serial_number": options.serial,
        "user_defined_name": options.user_name,
        "model": options.model,
        "id_": options.id,
    }
    fits = [info for info in infos if all(text in ("", _said(info, key)) for key, text in wanted.items())]
    if len(fits) == 1:
        return fits[0]
    seen = [f"{_said(info, 'model')} serial {_said(info, 'serial_number')} id {_said(info, 'id_')}" for info in infos]
    raise NotConnected(
        "several cameras fit" if fits else "no such camera is there",
        device=name,
        action="open",
        expected="one camera that fits the options",
        seen="; ".join(seen) or "none",
        hint="choose by serial or id" if seen else "look at its cable and power, and whether another program has it",
    )


def _discover() -> list[Found]:
    with contextlib.suppress(Exception):
        producers = _producers(GentlOptions())
        if not producers:
            return []
        harvester = _harvester("", producers)
        try:
            return [_found(info) for info in harvester.device_info_list]
        finally:
            harvester.reset()
    return []


def _found(info: Any) -> Found:
    serial, name = _said(info, "serial_number"), str(_said(info, "id_"))
    return Found("camera", _identity(info), {"serial": serial} if serial else {"id": name}, name)


GENTL = Backend(
    "genicam.gentl",
    ("camera",),
    GentlOptions,
    _open,
    describe_genicam_camera,
    needs=("harvesters", "genicam"),
    install="pip install labctl[genicam]",
    discover=_discover,
    families=(
        Family(
            "GenICam cameras with a GenTL producer",
            Proof.EMULATOR,
            "the virtual cameras of the GenTL producer that comes with the genicam package; they have no exposure time",
            "tests/endpoints/test_gentl.py",
        ),
    ),
)
"""Any GenICam camera whose maker gives a GenTL producer."""
