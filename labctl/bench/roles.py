"""What a device does on a bench, in the order in which a bench is made safe: the light first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from drivers.protocols import Camera, Interlock, LightSource, Modulator, Monitor
from labctl.station.model import MANY, ROLES


@dataclass(frozen=True)
class Role:
    """One role.

    Attributes
    ----------
    name
        As in the station file.
    protocol
        What a device needs to fill it.
    many
        Whether a bench may have several of them, and none.
    """

    name: str
    protocol: type[Any]
    many: bool = False


_PROTOCOLS: dict[str, type[Any]] = {
    "source": LightSource,
    "slm": Modulator,
    "display": Modulator,
    "camera": Camera,
    "monitor": Monitor,
    "interlock": Interlock,
}

SAFE_ORDER = tuple(Role(name, _PROTOCOLS[name], name in MANY) for name in ROLES)
"""Every role; devices are made safe in this order and opened in the opposite one."""
