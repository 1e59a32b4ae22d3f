"""Any shutter that Micro-Manager drives, as the light source behind it: Uniblitz, Thorlabs, Sutter, lasers, LEDs.

In the station file::

    [devices.source]
    backend = "micromanager.shutter"
    options = {config = "bench.cfg", label = "Shutter"}

The lamp or laser behind it burns all the time: "off" means that the shutter is closed. It is closed at opening, at the
end, and whenever the bench is made safe. Micro-Manager's automatic shutter is switched off, so that a camera does not
open it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from drivers.backend import Backend, Family, Found, Proof
from drivers.errors import DeviceLost, DeviceProtocolError
from drivers.libraries.micromanager import SHUTTER, Handle, MicroManagerOptions, found, hold
from drivers.protocols import Identity, OpenContext


class MicroManagerShutter:
    """A `LightSource` that is a shutter of Micro-Manager.

    Parameters
    ----------
    handle
        The shutter in its core.
    """

    def __init__(self, handle: Handle) -> None:
        self.name = handle.name
        self._handle: Handle | None = handle
        self.off(handle.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        handle = self._handle
        if handle is None:
            return
        try:
            if not handle.core.is_stuck:
                self.off(handle.timeout_s)
        finally:
            self._handle = None
            handle.release()

    def identify(self) -> Identity:
        handle = self._there
        return handle.core.identity(handle.label)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        handle = self._there
        return {"is_on": self.is_on, "properties": handle.core.properties(handle.label, timeout_s)}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        if self._handle is not None:
            self.off(timeout_s)

    @property
    def is_on(self) -> bool:
        """Is the shutter open, as it reads back now?"""
        handle = self._there
        return self._is_open(handle, handle.timeout_s)

    def on(self, timeout_s: float = 5.0) -> None:
        self._move(True, timeout_s)

    def off(self, timeout_s: float = 5.0) -> None:
        self._move(False, timeout_s)

    @property
    def _there(self) -> Handle:
        if self._handle is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        return self._handle

    def _move(self, is_open: bool, timeout_s: float) -> None:
        """Open or close the shutter, wait until it has moved, and make sure."""
        handle = self._there
        native, label = handle.core.native, handle.label
        what = "open the shutter" if is_open else "close the shutter"

        def moved() -> None:
            native.setShutterOpen(label, is_open)
            native.waitForDevice(label)

        handle.call(what, moved, timeout_s)
        if self._is_open(handle, timeout_s) != is_open:
            raise DeviceProtocolError(
                "the shutter did not move",
                device=self.name,
                action=what,
                expected="open" if is_open else "closed",
                seen="closed" if is_open else "open",
                hint="check its power and its interlock",
            )

    def _is_open(self, handle: Handle, timeout_s: float) -> bool:
        native, label = handle.core.native, handle.label
        return bool(handle.call("ask the shutter", lambda: native.getShutterOpen(label), timeout_s))


def _open(name: str, options: MicroManagerOptions, context: OpenContext) -> MicroManagerShutter:
    handle = hold(name, SHUTTER, options, context)
    try:
        return MicroManagerShutter(handle)
    except BaseException:
        handle.release()
        raise


def _discover() -> Sequence[Found]:
    return found(SHUTTER)


TEST = "tests/endpoints/test_micromanager.py"

MICROMANAGER_SHUTTER = Backend(
    "micromanager.shutter",
    ("source",),
    MicroManagerOptions,
    _open,
    needs=("pymmcore_plus",),
    install="pip install labctl[micromanager]",
    discover=_discover,
    families=(
        Family("Micro-Manager demo shutter", Proof.LIVE, "Micro-Manager's core and its demonstration adapter", TEST),
        Family("any other shutter of Micro-Manager", Proof.NOT_RUN),
    ),
    warning="the light itself stays on behind the shutter",
)
"""Shutters of Micro-Manager."""
