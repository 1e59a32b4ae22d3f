"""What an entry point in ``labctl.drivers`` names: how to open one kind of device, and what its options are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from drivers.protocols import ROLES, Device, DeviceFacts, Identity, OpenContext

Options = TypeVar("Options")

PANEL = "display", "slm"
"""Roles that any modulator can fill."""


class Proof(StrEnum):
    """How far it is shown that a backend drives a family of devices."""

    LIVE = "live endpoint"
    """Its tests talk to a device, or to a server that speaks the device's protocol over a real transport."""
    EMULATOR = "emulator"
    """Its tests run the vendor's own library against the emulated device that comes with it."""
    FAKE = "contract fake"
    """Its tests run against a stand-in that we wrote from the vendor's documentation: no device has ever answered."""
    NOT_RUN = "not run"
    """Nothing was run."""


@dataclass(frozen=True)
class Family:
    """Devices that a backend reaches: ``Family("Basler, pylon", Proof.EMULATOR, "pylon's emulator", "tests/…")``.

    Attributes
    ----------
    name
        As people who own one call it.
    proof, proven_by
        How far that it works is shown, and by what, in a few words.
    test
        Path of the test file that shows it; empty for `Proof.NOT_RUN`.
    """

    name: str
    proof: Proof
    proven_by: str = ""
    test: str = ""

    def __post_init__(self) -> None:
        if (self.proof is Proof.NOT_RUN) == bool(self.test):
            raise ValueError(f"family {self.name!r}: a test for each proof, and none where nothing was run")


@dataclass(frozen=True)
class Found:
    """A device that answered when a backend looked for what is connected.

    Attributes
    ----------
    role
        What it can be on a bench, one of `ROLES`.
    identity
        What it says that it is.
    options
        For the station file: they open this device and no other.
    note
        What a person should know of it: ``"contract fake"``, ``"scaled by 125 %: cannot be an SLM"``.
    """

    role: str
    identity: Identity
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


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
    discover
        Looks for connected devices, opens none for longer than it takes to ask its name, and comes back within a few
        seconds. None where that cannot be done.
    families
        Families of devices that it reaches, each with the proof.
    warning
        What a person must know who uses it: ``"the light cannot be switched off by the program"``.
    """

    name: str
    roles: tuple[str, ...]
    options: type[Options]
    open: Callable[[str, Options, OpenContext], Device]
    describe: Callable[[Options, OpenContext], DeviceFacts] | None = None
    needs: tuple[str, ...] = ()
    install: str = ""
    discover: Callable[[], Sequence[Found]] | None = None
    families: tuple[Family, ...] = ()
    warning: str = ""

    def __post_init__(self) -> None:
        strange = set(self.roles) - set(ROLES)
        if strange:
            raise ValueError(f"backend {self.name!r}: no role {', '.join(sorted(strange))}; roles are {list(ROLES)}")
