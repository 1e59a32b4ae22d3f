"""Backends by name: what is installed in the entry-point group ``labctl.drivers``, imported when first used.

An entry point names a `Backend` object. A plain function, which version 0.1 took, is refused as a broken backend with
the words that say what to write instead.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any

from drivers.backend import Backend, Family
from drivers.errors import BrokenBackend, DeviceError, NotConnected, RoleError, UnknownBackend
from drivers.options import parse
from drivers.protocols import ROLES, Device, DeviceFacts, OpenContext, is_a, members
from groundwork.nearest import did_you_mean

GROUP = "labctl.drivers"


@dataclass(frozen=True)
class BackendInfo:
    """One installed backend: ``BackendInfo("mock.slm", "mock_hardware.backends:SLM", "labctl 0.2.0")``.

    Attributes
    ----------
    name
        As in the station file.
    target
        What it imports, ``module:object``.
    distribution
        The package that installed it, with its version.
    broken
        Why it does not work: it does not import, is no `Backend`, or needs what is not installed; None when it does,
        or was not probed.
    roles, families, warning, install
        As of the `Backend`; empty when it was not probed.
    discovers
        Whether it can look for connected devices.
    lacking
        The module that it needs and that is not installed.
    """

    name: str
    target: str
    distribution: str
    broken: str | None = None
    roles: tuple[str, ...] = ()
    families: tuple[Family, ...] = ()
    warning: str = ""
    install: str = ""
    discovers: bool = False
    lacking: str = ""


def available(probe: bool = False) -> list[BackendInfo]:
    """Every installed backend, by name.

    Parameters
    ----------
    probe
        Import each one, and say which do not work. Without, nothing is imported. No device is opened.
    """
    return [_info(point, probe) for point in sorted(_points(), key=lambda point: point.name)]


def find_backend(name: str, device: str = "") -> Backend[Any]:
    """The backend of that name.

    Parameters
    ----------
    name
        As in the station file, ``"mock.slm"``.
    device
        What the station calls the device it is for; for the error.

    Raises
    ------
    UnknownBackend
        When none has that name.
    BrokenBackend
        When it does not import, is no `Backend`, or needs a module that is not installed; the reason is in the message.
    """
    points = {point.name: point for point in _points()}
    if name not in points:
        raise UnknownBackend(
            f"no backend {name!r} is installed",
            device=device,
            action="open",
            expected="one of " + ", ".join(sorted(points)),
            seen=name,
            hint=did_you_mean(name, points, "what is installed: labctl devices list"),
        )
    point = points[name]
    try:
        found = _load(point)
    except Exception as error:
        raise BrokenBackend(
            f"backend {name!r} does not import: {_reason(error)}",
            device=device,
            action="open",
            expected=point.value,
            seen=_reason(error),
            hint=f"reinstall {_distribution(point)} or what it needs",
        ) from error
    if lacking := _lacking(found):
        raise BrokenBackend(
            f"backend {name!r} needs {lacking}",
            device=device,
            action="open",
            expected=", ".join(found.needs),
            seen=f"{lacking} not installed",
            hint=found.install or f"pip install {lacking}",
        )
    return found


def open_device(name: str, device: str, options: Mapping[str, Any], context: OpenContext) -> Device:
    """Open one device.

    Parameters
    ----------
    name
        Name of the backend, ``"mock.slm"``.
    device
        What the station calls the device, ``"slm"``.
    options
        Its table of the station file.
    context
        Of the station.

    Raises
    ------
    UnknownBackend, BrokenBackend
        As `find_backend`.
    OptionError
        When the options are not what the backend takes.
    NotConnected
        When the device does not open.
    """
    found = find_backend(name, device)
    typed = _options(found, device, options)
    try:
        with _naming(device):
            opened: Device = found.open(device, typed, context)
    except DeviceError:
        raise
    except Exception as error:
        raise NotConnected(
            f"{device} did not open: {_reason(error)}", device=device, action="open", seen=_reason(error)
        ) from error
    return opened


def open_role(name: str, role: str, device: str, options: Mapping[str, Any], context: OpenContext) -> Device:
    """Open one device and make sure that it is what the role needs; one that is not is closed again.

    Parameters
    ----------
    role
        One of `ROLES`.
    name, device, options, context
        As for `open_device`.

    Raises
    ------
    RoleError
        When it is not; otherwise as `open_device`.
    """
    opened = open_device(name, device, options, context)
    fits: bool = is_a(opened, ROLES[role].protocol)
    if not fits:
        with contextlib.suppress(Exception):  # one that lacks what its role needs may lack this, too
            opened.close()
        wanted = sorted(members(ROLES[role].protocol))
        lacking = [member for member in wanted if inspect.getattr_static(opened, member, None) is None]
        raise _wrong_role(name, role, device, f"{type(opened).__name__}, which lacks {', '.join(lacking)}")
    return opened


def check_options(name: str, role: str, options: Mapping[str, Any], context: OpenContext, device: str = "") -> Any:
    """The typed options of a device that is not opened; what the bench's tables say of it is checked too.

    Parameters
    ----------
    role
        What it is to do, one of `ROLES`.
    device
        What the station calls it; its role if omitted.
    name, options, context
        As for `open_device`.

    Raises
    ------
    RoleError
        When the backend's devices cannot fill the role.
    UnknownBackend, BrokenBackend, OptionError
        As `open_device`.
    """
    found = find_backend(name, device or role)
    if role not in found.roles:
        raise _wrong_role(name, role, device or role, f"a backend for {', '.join(found.roles) or 'no role'}")
    typed = _options(found, device or role, options)
    if found.describe is not None:
        with _naming(device or role):
            found.describe(typed, context)
    return typed


def describe(name: str, device: str, options: Mapping[str, Any], context: OpenContext) -> DeviceFacts:
    """What a backend knows of a device without opening it; parameters and errors as `open_device`."""
    found = find_backend(name, device)
    typed = _options(found, device, options)
    if found.describe is None:
        return DeviceFacts()
    with _naming(device):
        return found.describe(typed, context)


def _points() -> EntryPoints:
    """What is installed where this process looks for packages."""
    return _points_on(tuple(sys.path))


@functools.lru_cache(maxsize=8)  # to read what every installed distribution says takes 10 ms, and a run asks ten times
def _points_on(path: tuple[str, ...]) -> EntryPoints:
    return entry_points(group=GROUP)


def _options(found: Backend[Any], device: str, options: Mapping[str, Any]) -> Any:
    with _naming(device):
        return parse(found.options, options, f"devices.{device}")


@contextmanager
def _naming(device: str) -> Iterator[None]:
    """An error raised in here that names no device is about this one."""
    try:
        yield
    except DeviceError as error:
        error.device = error.device or device
        raise


def _wrong_role(name: str, role: str, device: str, seen: str) -> RoleError:
    wanted = ROLES[role].protocol.__name__
    return RoleError(
        f"backend {name} is no {wanted.lower()}",
        device=device,
        action="opening the bench",
        expected=f"a {wanted} for the role {role}",
        seen=seen,
        hint="edit [devices] of the station file; labctl devices list",
    )


def _info(point: EntryPoint, probe: bool) -> BackendInfo:
    info = BackendInfo(point.name, point.value, _distribution(point))
    if not probe:
        return info
    try:
        found = _load(point)
    except Exception as error:
        return replace(info, broken=_reason(error))
    lacking = _lacking(found)
    install = found.install or (f"pip install {lacking}" if lacking else "")
    return replace(
        info,
        broken=f"needs {lacking}: {install}" if lacking else None,
        roles=found.roles,
        families=found.families,
        warning=found.warning,
        install=install,
        discovers=found.discover is not None,
        lacking=lacking,
    )


def _load(point: EntryPoint) -> Backend[Any]:
    found = point.load()
    if not isinstance(found, Backend):
        raise TypeError(
            f"{point.value} is {type(found).__name__}, not a drivers.Backend: write "
            f"NAME = Backend({point.name!r}, roles, Options, open) and name that in the entry point"
        )
    return found


def _lacking(found: Backend[Any]) -> str:
    """The first module that the backend needs and that is not installed; no module is imported but its parents."""
    for module in found.needs:
        try:
            spec = importlib.util.find_spec(module)
        except ImportError:
            spec = None
        if spec is None:
            return module
    return ""


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else ""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
