"""What is particular to pylon's own library: choosing a camera, opening it, and its features with coded errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected
from drivers.libraries.genicam_features import Limits, Value
from drivers.libraries.loading import load


class PylonNodes:
    """The node map of a pylon camera, with errors that name the device (`drivers.libraries.genicam_features.NodeMap`).

    Parameters
    ----------
    camera
        A ``pylon.InstantCamera`` that is open.
    device
        What the station calls it.
    """

    def __init__(self, camera: Any, device: str) -> None:
        self._camera, self._device = camera, device
        self._genicam = load("pypylon.genicam")

    def has(self, name: str) -> bool:
        with self._asking(name):
            return bool(self._genicam.IsReadable(self._node(name)))

    def writable(self, name: str) -> bool:
        with self._asking(name):
            return bool(self._genicam.IsWritable(self._node(name)))

    def get(self, name: str) -> Value:
        with self._asking(name):
            value: Value = self._node(name).GetValue()
            return value

    def set(self, name: str, value: Value) -> None:
        with self._asking(name):
            self._node(name).SetValue(value)

    def limits(self, name: str) -> Limits:
        with self._asking(name):
            node = self._node(name)
            step = node.GetInc() if isinstance(node.GetValue(), int) or node.HasInc() else 0.0
            return Limits(node.GetMin(), node.GetMax(), step or 0.0)

    def entries(self, name: str) -> tuple[str, ...]:
        with self._asking(name):
            return tuple(self._node(name).GetSymbolics())

    def unit(self, name: str) -> str:
        with self._asking(name):
            return str(getattr(self._node(name), "GetUnit", str)())

    def execute(self, name: str) -> None:
        with self._asking(name):
            self._node(name).Execute()

    def can_execute(self, name: str) -> bool:
        """Is there a command of this name that may be given now?"""
        return self.writable(name)

    def _node(self, name: str) -> Any:
        return self._camera.GetNodeMap().GetNode(name)

    @contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """What pylon says in here is told as an error of the device."""
        check_open(self._camera, self._device, name)
        try:
            yield
        except Exception as error:
            if isinstance(error, DeviceError):
                raise
            check_present(self._camera, self._device, name)
            refused = self._genicam.OutOfRangeException, self._genicam.InvalidArgumentException
            kind: type[DeviceError] = CapabilityError if isinstance(error, refused) else DeviceProtocolError
            if isinstance(error, self._genicam.TimeoutException):
                kind = DeviceTimeout
            raise kind(
                f"pylon refuses {name}: {error}", device=self._device, action=f"use the feature {name}", seen=str(error)
            ) from error


def check_open(camera: Any, device: str, action: str) -> None:
    """Raise `DeviceLost` unless the camera is open: pylon reads freed memory when it is not."""
    if not camera.IsOpen():
        raise _gone(device, action, "closed")


def check_present(camera: Any, device: str, action: str) -> None:
    """Raise `DeviceLost` unless the camera is open and connected; takes milliseconds while it streams."""
    check_open(camera, device, action)
    if camera.IsCameraDeviceRemoved():
        raise _gone(device, action, "removed")


def _gone(device: str, action: str, seen: str) -> DeviceLost:
    return DeviceLost(
        "the camera is gone",
        device=device,
        action=action,
        expected="an open camera",
        seen=seen,
        hint="check cable and power, then open it again",
    )


def open_one(factory: Any, serial: str, user_name: str, model: str) -> Any:
    """The one connected camera that has these names, opened; an empty one fits any.

    Raises
    ------
    NotConnected
        When none fits, or several do, or pylon does not open it.
    """
    connected = list(factory.EnumerateDevices())
    fitting = [
        info
        for info in connected
        if serial in ("", info.GetSerialNumber())
        and user_name in ("", info.GetUserDefinedName())
        and model in ("", info.GetModelName())
    ]
    if len(fitting) != 1:
        asked = {"serial": serial, "user_name": user_name, "model": model}
        raise NotConnected(
            "several cameras fit" if fitting else "the camera is not connected",
            action="open",
            expected=", ".join(f"{key} = {want!r}" for key, want in asked.items() if want) or "one camera",
            seen=", ".join(_described(info) for info in fitting or connected) or "no Basler camera",
            hint='say which: options = {serial = "…"}'
            if fitting
            else "check cable, power and the network's address; the pylon Viewer must see it",
        )
    camera = load("pypylon.pylon:InstantCamera")(factory.CreateDevice(fitting[0]))
    try:
        camera.Open()
    except Exception as error:
        camera.DestroyDevice()
        raise NotConnected(
            f"pylon does not open the camera: {error}",
            action="open",
            expected=_described(fitting[0]),
            seen=str(error),
            hint="close the pylon Viewer and other programs that use it",
        ) from error
    return camera


def _described(info: Any) -> str:
    name = f' "{info.GetUserDefinedName()}"' if info.GetUserDefinedName() else ""
    return f"{info.GetModelName()} {info.GetSerialNumber()}{name}"
