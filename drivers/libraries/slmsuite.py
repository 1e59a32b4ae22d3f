"""What slmsuite's cameras and panels have in common: classes by name, opened quietly, and what they complain of.

A class is named by its family (``"basler"``) or by its path (``"slmsuite.hardware.cameras.basler:Basler"``), so that
slmsuite, which takes a second to import, is imported when a device is opened. A table with the key ``target`` among the
arguments is an object that is made first: pylablib's cameras come that way.
"""

from __future__ import annotations

import inspect
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from drivers.errors import NotConnected, OptionError
from drivers.libraries.loading import load
from groundwork.nearest import did_you_mean


@dataclass(frozen=True)
class Kind:
    """One of slmsuite's hardware classes.

    Attributes
    ----------
    target
        Where it is, ``module:class``.
    vendor
        Of the devices that it drives.
    """

    target: str
    vendor: str


_CAMERAS = "slmsuite.hardware.cameras."
_SLMS = "slmsuite.hardware.slms."

CAMERAS = {
    "alliedvision": Kind(f"{_CAMERAS}alliedvision:AlliedVision", "Allied Vision"),
    "basler": Kind(f"{_CAMERAS}basler:Basler", "Basler"),
    "flir": Kind(f"{_CAMERAS}flir:FLIR", "FLIR"),
    "imagingsource": Kind(f"{_CAMERAS}imagingsource:ImagingSource", "The Imaging Source"),
    "instrumental": Kind(f"{_CAMERAS}instrumental:Instrumental", "instrumental-lib"),
    "mindvision": Kind(f"{_CAMERAS}mindvision:MindVision", "MindVision"),
    "mmcore": Kind(f"{_CAMERAS}mmcore:MMCore", "Micro-Manager"),
    "pylablib": Kind(f"{_CAMERAS}pylablib:PyLabLib", "pylablib"),
    "remote": Kind(f"{_CAMERAS}remote:RemoteCamera", "slmsuite"),
    "simulated": Kind(f"{_CAMERAS}simulated:SimulatedCamera", "slmsuite"),
    "thorlabs": Kind(f"{_CAMERAS}thorlabs:ThorCam", "Thorlabs"),
    "webcam": Kind(f"{_CAMERAS}webcam:Webcam", "OpenCV"),
    "xenics": Kind(f"{_CAMERAS}xenics:Cheetah640", "Xenics"),
}
"""slmsuite's cameras, by family."""

SLMS = {
    "hamamatsu": Kind(f"{_SLMS}hamamatsu:Hamamatsu", "Hamamatsu"),
    "holoeye": Kind(f"{_SLMS}holoeye:Holoeye", "HOLOEYE"),
    "meadowlark": Kind(f"{_SLMS}meadowlark:Meadowlark", "Meadowlark"),
    "remote": Kind(f"{_SLMS}remote:RemoteSLM", "slmsuite"),
    "santec": Kind(f"{_SLMS}santec:Santec", "Santec"),
    "screenmirrored": Kind(f"{_SLMS}screenmirrored:ScreenMirrored", "monitor"),
    "simulated": Kind(f"{_SLMS}simulated:SimulatedSLM", "slmsuite"),
    "texasinstruments": Kind(f"{_SLMS}texasinstruments:PLM", "Texas Instruments"),
    "thorlabs": Kind(f"{_SLMS}screenmirrored:ScreenMirrored", "Thorlabs"),
}
"""slmsuite's SLMs, by family; those of Thorlabs are monitors to it."""

stand_ins: set[str] = set()
"""Vendors whose library a test has replaced by a stand-in of ours: the identity of their devices says so."""


def vendor_of(kind: Kind) -> str:
    """Its vendor, for the identity of a device."""
    return f"{kind.vendor} (contract fake)" if kind.vendor in stand_ins else kind.vendor


def kind_of(device: str, target: str, known: Mapping[str, Kind]) -> Kind:
    """The class that an option names by its family or its path.

    Raises
    ------
    OptionError
        When it is neither.
    """
    if target in known:
        return known[target]
    for kind in known.values():
        if kind.target == target:
            return kind
    if ":" not in target:
        raise OptionError(
            "no such family of slmsuite",
            device=device,
            action="open",
            expected="one of " + ", ".join(known) + ', or "package.module:Class"',
            seen=target,
            hint=did_you_mean(target, known),
        )
    return Kind(target, target.partition(".")[0])


def version() -> str:
    """``"slmsuite 0.5.0"``"""
    return f"slmsuite {load('slmsuite').__version__}"


def quiet() -> None:
    """Import slmsuite without its warnings, and keep its log off the console: what it complains of is read by us."""
    load("slmsuite").configure_logging(None)


def found_class(device: str, kind: Kind, base: str) -> type[Any]:
    """The class itself, imported.

    Parameters
    ----------
    base
        What it must be a subclass of, ``module:class``.

    Raises
    ------
    NotConnected
        When there is no such class.
    OptionError
        When it is no subclass of ``base``.
    """
    try:
        found = load(kind.target)
    except (ImportError, AttributeError) as error:
        raise NotConnected(
            f"{kind.target} does not import: {error}",
            device=device,
            action="open",
            expected="a class of slmsuite, package.module:Class",
            seen=str(error),
        ) from error
    if not (isinstance(found, type) and issubclass(found, load(base))):
        raise OptionError(
            "target is no such device of slmsuite",
            device=device,
            action="open",
            expected=f"a subclass of {base}",
            seen=kind.target,
        )
    return found


def made(found: type[Any], arguments: Mapping[str, Any]) -> Any:
    """An object of a class, with its arguments from a station file. Panels are told to stay off the graphics card."""
    given = {key: _argument(value) for key, value in arguments.items()}
    slm = load("slmsuite.hardware.slms.slm:SLM")
    if issubclass(found, slm) and "gpu" not in given and _takes_gpu(found):
        given["gpu"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return found(**given)


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Collect the warnings and errors that slmsuite logs in this thread: often it says no more of a failure."""
    collected: list[str] = []
    handler = _Collector(collected)
    logger = logging.getLogger("slmsuite")
    logger.addHandler(handler)
    try:
        yield collected
    finally:
        logger.removeHandler(handler)


def let_go(device: Any) -> None:
    """Close an object of slmsuite, once: its destructor would close it again, by then perhaps another's session."""
    close, device.close = device.close, lambda: None
    close()


class _Collector(logging.Handler):
    """Keeps the messages of one thread."""

    def __init__(self, collected: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._collected, self._thread = collected, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._collected.append(record.getMessage())


def _argument(value: Any) -> Any:
    if isinstance(value, Mapping) and isinstance(value.get("target"), str):
        return made(load(value["target"]), value.get("arguments", {}))
    return tuple(value) if isinstance(value, list) else value


def _takes_gpu(found: type[Any]) -> bool:
    parameters = inspect.signature(found).parameters.values()
    return any(p.name == "gpu" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
