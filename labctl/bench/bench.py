"""The instruments of a station, opened together and always left safe."""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from drivers.errors import DeviceError, NotConnected
from drivers.protocols import (
    ROLES,
    Camera,
    Device,
    Interlock,
    LightSource,
    Modulator,
    Monitor,
    OpenContext,
)
from drivers.registry import open_role
from groundwork.errors import CodedError
from labctl.station.model import Station

if TYPE_CHECKING:
    from calibration.frames.scan import PanelLevels

log = logging.getLogger("labctl.bench")


_UNKNOWN = "unknown"

FACTS = ("shape", "levels", "bit_depth", "unit")
"""Attributes that must be the same of a device that was opened again, where it has them."""


class Opener:
    """Opens the devices of one station, one by one and again, and knows which of them share a resource.

    Parameters
    ----------
    station
        Names and backends.
    """

    def __init__(self, station: Station) -> None:
        self.station = station
        self._context = open_context(station)
        self._holds: dict[str, set[Hashable]] = {}

    def open(self, name: str) -> Device:
        """The device of this name, open."""
        before = self._context.resources.users()
        device = _opened(self.station, name, self._context).__enter__()
        after = self._context.resources.users()
        self._holds.setdefault(name, set()).update(key for key in after if after[key] > before.get(key, 0))
        return device

    def sharing(self, names: Collection[str]) -> set[str]:
        """These devices, and all that hold a resource which one of them holds, too."""
        found, before = set(names), set[str]()
        while found != before:
            before = set(found)
            held = set[Hashable]().union(*(self._holds.get(name, ()) for name in found))
            found |= {name for name, holds in self._holds.items() if holds & held}
        return found


@dataclass(frozen=True)
class Bench:
    """Open instruments.

    Attributes
    ----------
    devices
        By the name that the station file gives them, in the order in which they are made safe.
    roles
        Name of a device → its role.
    opener
        Has opened them, and can do so again.
    known
        What was known of each device when the bench was opened, by which it is known again.
    shut
        Names of devices that were closed to be opened again, and did not open.
    """

    devices: dict[str, Device]
    roles: Mapping[str, str]
    opener: Opener
    known: Mapping[str, Mapping[str, Any]]
    shut: set[str] = field(default_factory=set)

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
        from calibration.frames.scan import PanelLevels  # what makes a bench safe does without, and without its time

        return PanelLevels(self.display.levels, self.slm.levels)

    @property
    def monitors(self) -> dict[str, Monitor]:
        """Slow scalars, by name; there may be none."""
        return {name: cast(Monitor, device) for name, device in self._all("monitor").items()}

    @property
    def interlocks(self) -> dict[str, Interlock]:
        """What may forbid light, by name; there may be none."""
        return {name: cast(Interlock, device) for name, device in self._all("interlock").items()}

    def name_of(self, role: str) -> str:
        """What the station calls the device of a role that one device fills."""
        return self._one(role).name

    def reopen(self, names: Collection[str]) -> None:
        """Close devices, the light first, and open them again, the light last; each must be the one that it was.

        Raises
        ------
        DeviceError
            When one does not open, or another device answers; what is not open then stays closed.
        """
        again = [name for name in self.devices if name in names]
        for name in again:
            with suppress(Exception):  # it is being opened again because it does not do what it should
                self.devices[name].close()
            self.shut.add(name)
        for name in reversed(again):
            device = self.opener.open(name)
            try:
                self._require_same(name, device)
            except BaseException:
                device.close()
                raise
            self.devices[name] = device
            self.shut.discard(name)

    def _require_same(self, name: str, device: Device) -> None:
        now = _known(device)
        for fact, expected in self.known[name].items():
            if now.get(fact) != expected:
                raise NotConnected(
                    f"another device answers in place of {name}",
                    device=name,
                    action="opening it again",
                    expected=f"{fact} {expected}",
                    seen=f"{now.get(fact)}",
                    hint="connect the device that the run began with, or begin another run",
                )

    def snapshot(self) -> dict[str, Any]:
        """Identity and settings of every device, as read back now; a monitor that fails stops nothing."""
        return {name: self._settings(name, device) for name, device in self.devices.items()}

    def _settings(self, name: str, device: Device) -> dict[str, Any]:
        try:
            return {"identity": vars(device.identify()), "settings": device.snapshot()}
        except DeviceError as error:
            if self.roles[name] != "monitor":
                raise
            return {"identity": self.known[name], "error": f"{error.code} {error.what}"}

    def safe_state(self) -> list[str]:
        """The light first, whatever fails on the way; returns what failed, but no monitor: that can do no harm.

        A closed source says nothing of its light. It is opened once more, which switches it off.
        """
        failed = []
        for source in self._all("source").keys() & self.shut:  # a bench that is opened in part may have none
            try:
                self.reopen({source})
            except Exception as error:
                log.warning("%s did not open: %s", source, error)
                failed.append(f"{source}: {error}")
        failed += safe_state({name: device for name, device in self.devices.items() if name not in self.monitors})
        safe_state(self.monitors)
        return failed

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
            log.warning("%s did not reach its safe state: %s", name, error)
            failed.append(f"{name}: {error}")
    return failed


@contextmanager
def open_bench(station: Station) -> Iterator[Bench]:
    """Open every device of a station, the light last; on leaving, for whatever reason, make all safe and close them.

    Raises
    ------
    DeviceError
        When one cannot be opened, is not what its role needs, or cannot be made safe.
    """
    opener, devices = Opener(station), dict[str, Device]()
    with ExitStack() as stack:
        for role in reversed(ROLES):
            for name in station.devices.named(role):
                devices[name] = opener.open(name)
                stack.callback(partial(_close, devices, name))
        order = list(reversed(devices))
        for name in order:
            devices[name] = devices.pop(name)
        roles = {name: station.devices.role(name) for name in devices}
        bench = Bench(devices, roles, opener, {name: _known(device) for name, device in devices.items()})
        with _left_safe(bench):
            yield bench


@contextmanager
def _left_safe(bench: Bench) -> Iterator[None]:
    """Make the bench safe at the end; where that fails it is said, be it in the words of the error that ends the block.

    Raises
    ------
    DeviceError
        When a device did not reach its safe state, instead of an error that has no place to say so.
    """
    try:
        yield
    except CodedError as error:
        if failed := bench.safe_state():
            error.safe = _unsafe(failed)
        raise
    except BaseException as error:
        if failed := bench.safe_state():
            raise _not_safe(failed) from error
        raise
    if failed := bench.safe_state():
        raise _not_safe(failed)


def says_unsafe(error: BaseException) -> bool:
    """Whether the error that ended the use of a bench says that it could not be made safe."""
    return isinstance(error, CodedError) and error.safe.startswith(_UNKNOWN)


def _unsafe(failed: Collection[str]) -> str:
    return f"{_UNKNOWN}: check the bench in person, the light source first ({'; '.join(failed)})"


def _not_safe(failed: Collection[str]) -> DeviceError:
    return DeviceError(
        "not every device reached its safe state",
        device=", ".join(words.partition(":")[0] for words in failed),
        action="closing the bench",
        safe=_unsafe(failed),
        hint="labctl devices list",
    )


def _close(devices: Mapping[str, Device], name: str) -> None:
    """Close the device that has this name now: it may have been opened again since.

    It has been made safe before, and an error here would hide the one that says so.
    """
    try:
        devices[name].close()
    except Exception as error:
        log.warning("%s did not close: %s", name, error)


def make_safe(station: Station, names: Collection[str] | None = None) -> list[str]:
    """Open each device by itself, the light first, make it safe, and close it; returns what failed.

    Only those of these names, where some are given. For a bench whose process is gone: one device that does not open
    keeps no other from its safe state.
    """
    context, failed = open_context(station), []
    for name in (name for role in ROLES for name in station.devices.named(role)):
        if names is not None and name not in names:
            continue
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


def _known(device: Device) -> dict[str, Any]:
    """Who it is, and what else may not change while it is closed."""
    who = device.identify()
    facts = {fact: getattr(device, fact) for fact in FACTS if hasattr(device, fact)}
    return {"vendor": who.vendor, "model": who.model, "serial": who.serial, **facts}


def _opened(station: Station, name: str, context: OpenContext) -> Device:
    table = station.devices[name]
    device: Device = open_role(table.backend, table.role, name, table.options, context)
    return device
