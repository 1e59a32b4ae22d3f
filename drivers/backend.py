"""What an entry point in ``labctl.drivers`` names: how to open one kind of device, and what its options are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from drivers.protocols import ROLES, Device, DeviceFacts, OpenContext

Options = TypeVar("Options")

PANEL = "display", "slm"
"""Roles that any modulator can fill."""


@dataclass(frozen=True)
class Backend(Generic[Options]):
    """One kind of device.

    Attributes
    ----------
    name
        As the station file writes it, and as the entry point is called: ``"acme.slm"``.
    roles
        Those of `ROLES` that its devices can fill; none for a device that the bench has no role for.
    options
        A frozen dataclass: the keys that the station file may set, with types, ranges and defaults, units in names.
    open
        ``open(name, options, context)`` opens the device that the station calls ``name``. The vendor's library is
        imported in here, not where the module begins, so that to list backends and to check options is quick.
    describe
        ``describe(options, context)`` says what is known of the device without opening it.
    needs
        Modules that must be installed: ``("pypylon",)``. A backend without them is listed as broken.
    install
        What to type when they are not: ``"pip install labctl[basler]"``.
    """

    name: str
    roles: tuple[str, ...]
    options: type[Options]
    open: Callable[[str, Options, OpenContext], Device]
    describe: Callable[[Options, OpenContext], DeviceFacts] | None = None
    needs: tuple[str, ...] = ()
    install: str = ""

    def __post_init__(self) -> None:
        strange = set(self.roles) - set(ROLES)
        if strange:
            raise ValueError(f"backend {self.name!r}: no role {', '.join(sorted(strange))}; roles are {list(ROLES)}")
