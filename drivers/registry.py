"""Backends by name: what is installed in the entry-point group ``labctl.drivers``, imported when first used."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drivers.errors import BrokenBackend, DeviceError, NotConnected, UnknownBackend
from drivers.protocols import Backend, Device, OpenContext

GROUP = "labctl.drivers"


@dataclass(frozen=True)
class BackendInfo:
    """One installed backend: ``BackendInfo("mock.slm", "mock_hardware.backends:open_slm", "labctl 0.1.0")``.

    Attributes
    ----------
    name
        As in the station file.
    target
        What it imports, ``module:callable``.
    distribution
        Who installed it, with its version.
    broken
        Why it does not import; None when it does, or was not probed.
    """

    name: str
    target: str
    distribution: str
    broken: str | None = None


def available(probe: bool = False) -> list[BackendInfo]:
    """Every installed backend, by name.

    Parameters
    ----------
    probe
        Import each one, and say which do not import. Without, nothing is imported. No device is opened.
    """
    return [_info(point, probe) for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)]


def open_device(backend: str, name: str, options: Mapping[str, Any], context: OpenContext) -> Device:
    """Open one device.

    Parameters
    ----------
    backend
        Name of the backend, ``"mock.slm"``.
    name
        What the station calls the device, ``"slm"``.
    options
        Of this device.
    context
        Of the station.

    Raises
    ------
    UnknownBackend
        When no backend has that name.
    BrokenBackend
        When its import fails; the reason is in the message.
    NotConnected
        When it imports and the device does not open.
    """
    factory = _factory(backend, name)
    try:
        return factory(name, options, context)
    except DeviceError:
        raise
    except Exception as error:
        raise NotConnected(
            f"{name} did not open: {_reason(error)}", device=name, action="open", seen=_reason(error)
        ) from error


def describe(backend: str, name: str, options: Mapping[str, Any], context: OpenContext) -> dict[str, Any]:
    """What a backend knows of a device without opening it: ``shape``, of a camera ``max_fps``; maybe nothing.

    A backend that knows has a function ``describe(role, options, context)`` in its module.

    Raises
    ------
    DeviceError
        When the backend is not installed, does not import, or refuses the options.
    """
    factory = _factory(backend, name)
    describing = getattr(sys.modules.get(getattr(factory, "__module__", "")), "describe", None)
    return dict(describing(name, options, context)) if callable(describing) else {}


def _factory(backend: str, name: str) -> Backend:
    """The callable that opens devices of a backend."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if backend not in points:
        near = difflib.get_close_matches(backend, points, n=1)
        raise UnknownBackend(
            f"no backend {backend!r} is installed",
            device=name,
            action="open",
            expected="one of " + ", ".join(sorted(points)),
            seen=backend,
            hint=f"did you mean {near[0]!r}?" if near else "labctl devices list shows what is installed",
        )
    try:
        return _load(points[backend])
    except Exception as error:
        raise BrokenBackend(
            f"backend {backend!r} does not import: {_reason(error)}",
            device=name,
            action="open",
            expected=points[backend].value,
            seen=_reason(error),
            hint=f"reinstall {_distribution(points[backend])} or what it needs",
        ) from error


def _info(point: EntryPoint, probe: bool) -> BackendInfo:
    broken = None
    if probe:
        try:
            _load(point)
        except Exception as error:
            broken = _reason(error)
    return BackendInfo(point.name, point.value, _distribution(point), broken)


def _load(point: EntryPoint) -> Backend:
    factory: Backend = point.load()
    if not callable(factory):
        raise TypeError(f"{point.value} is not callable")
    return factory


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else ""


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
