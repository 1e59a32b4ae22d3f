"""The instruments of a station, opened together and always left safe."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from calibration.frames.scan import PanelLevels
from drivers.errors import DeviceError
from drivers.protocols import (
    ROLES,
    Camera,
    Device,
    Interlock,
    LightSource,
    Modulator,
    Monitor,
    OpenContext,
    Trip,
)
from drivers.registry import open_role
from labctl.errors import InterlockOpen
from labctl.station.model import Station

log = logging.getLogger("labctl.bench")


@dataclass(frozen=True)
class Bench:
    """Open instruments.

    Attributes
    ----------
    devices
        By the name that the station file gives them, in the order in which they are made safe.
    roles
        Name of a device → its role.
    """

    devices: Mapping[str, Device]
    roles: Mapping[str, str]

    @property
    def display(self) -> Modulator:
        """The panel that emits."""
        return cast(Modulator, self._one("display"))

    @property
    def slm(self) -> Modulator:
        """The panel that transmits."""
        return cast(Modulator, self._one("slm"))

    @property
    def camera(self) -> Camera:
        """What reads the sums."""
        return cast(Camera, self._one("camera"))

    @property
    def source(self) -> LightSource:
        """The light."""
        return cast(LightSource, self._one("source"))

    @property
    def levels(self) -> PanelLevels:
        """Gray levels of display and SLM, as the devices say."""
        return PanelLevels(self.display.levels, self.slm.levels)

    @property
    def monitors(self) -> dict[str, Monitor]:
        """Slow scalars, by name; there may be none."""
        return {name: cast(Monitor, device) for name, device in self._all("monitor").items()}

    @property
    def interlocks(self) -> dict[str, Interlock]:
        """What may forbid light, by name; there may be none."""
        return {name: cast(Interlock, device) for name, device in self._all("interlock").items()}

    def snapshot(self) -> dict[str, Any]:
        """Identity and settings of every device, as read back now."""
        return {d.name: {"identity": vars(d.identify()), "settings": d.snapshot()} for d in self.devices.values()}

    def require_interlocks(self) -> None:
        """Go on only while every interlock is closed.

        Raises
        ------
        InterlockOpen
            Exit code 21; the bench is made safe as this goes up.
        """
        for name, interlock in self.interlocks.items():
            answer = interlock.check()
            if isinstance(answer, Trip):
                raise InterlockOpen(
                    f"the interlock is open: {answer.reason}",
                    device=name,
                    action="checking before light",
                    expected="a closed interlock",
                    seen=answer.reason,
                    safe="the light is switched off first",
                    hint="close it, then: labctl run resume latest",
                )

    def safe_state(self) -> list[str]:
        """The light first, whatever fails on the way; returns what failed."""
        return safe_state(self.devices)

    def _all(self, role: str) -> dict[str, Device]:
        return {name: device for name, device in self.devices.items() if self.roles[name] == role}

    def _one(self, role: str) -> Device:
        (device,) = self._all(role).values()
        return device


def safe_state(devices: Mapping[str, Device]) -> list[str]:
    """Make devices safe in the order given; a failure is logged, and returned in words when all have been tried."""
    failed = []
    for name, device in devices.items():
        try:
            device.safe_state()
        except Exception as error:
            log.exception("%s did not reach its safe state", name)
            failed.append(f"{name}: {error}")
    return failed


@contextmanager
def open_bench(station: Station, names: Collection[str] | None = None) -> Iterator[Bench]:
    """Open the devices of a station, the light last; on leaving, for whatever reason, make all safe and close them.

    Parameters
    ----------
    names
        Open these only; all if omitted.

    Raises
    ------
    DeviceError
        When one cannot be opened, is not what its role needs, or cannot be made safe.
    """
    context = open_context(station)
    with ExitStack() as stack:
        opened: dict[str, Device] = {}
        for role in reversed(ROLES):
            for name in station.devices.named(role):
                if names is not None and name not in names:
                    continue
                opened[name] = stack.enter_context(_opened(station, name, context))
        roles = {name: station.devices.role(name) for name in opened}
        bench = Bench({name: opened[name] for name in reversed(opened)}, roles)
        try:
            yield bench
        finally:
            failed = bench.safe_state()
        if failed:
            raise DeviceError(
                "not every device reached its safe state",
                device=", ".join(failed),
                action="closing the bench",
                safe="unknown: check the bench in person, the light source first",
                hint="labctl devices list",
            )


def make_safe(station: Station) -> list[str]:
    """Open each device by itself, the light first, make it safe, and close it; returns what failed.

    For a bench whose process is gone: one device that does not open keeps no other from its safe state.
    """
    context, failed = open_context(station), []
    for name in (name for role in ROLES for name in station.devices.named(role)):
        try:
            with _opened(station, name, context) as device:
                failed += safe_state({name: device})
        except Exception:
            log.exception("%s did not open", name)
            failed.append(name)
    return failed


def open_context(station: Station) -> OpenContext:
    """What backends get besides their own options: the tables that describe the bench as a whole."""
    return OpenContext(bench={"mock": station.mock})


def _opened(station: Station, name: str, context: OpenContext) -> Device:
    table = station.devices[name]
    device: Device = open_role(table.backend, table.role, name, table.options, context)
    return device
