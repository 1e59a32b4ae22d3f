"""Backend ``always-on``: a light that no program can switch: a lamp with a switch on its back, the room's own laser.

In the station file::

    [devices.source]
    backend = "always-on"
    options = {lamp = "halogen lamp, bench 3", dark_by = "modulators"}

It is the one light source that cannot keep the promise of all others, to be dark when opened, when made safe and when
asked for; it says so wherever it is asked. ``is_on`` is always true. `off` refuses, unless the station file states what
serves as dark: with ``dark_by = "modulators"`` dark frames are taken while display and SLM are blank, and hold what the
panels let through besides what the camera reads without light. Where a shutter can be had, take ``serial.source``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from drivers.backend import Backend
from drivers.errors import CapabilityError, DeviceLost
from drivers.options import Checked
from drivers.protocols import Identity, OpenContext


@dataclass(frozen=True, kw_only=True)
class AlwaysOnOptions(Checked):
    """Options of the backend ``always-on``.

    Attributes
    ----------
    lamp
        What the light is, in a few words; for the record.
    dark_by
        What serves as dark: ``"nothing"``, so that a run that needs dark frames is refused, or ``"modulators"``, the
        blank panels.
    """

    lamp: str = "unnamed lamp"
    dark_by: Literal["nothing", "modulators"] = "nothing"


class AlwaysOn:
    """A light that is on.

    Parameters
    ----------
    name
        What the station calls it.
    options
        What is known of it.
    """

    def __init__(self, name: str, options: AlwaysOnOptions) -> None:
        self.name = name
        self._options = options
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """The light stays on."""
        self._is_open = False

    def identify(self) -> Identity:
        self._require_open()
        return Identity("unknown", self._options.lamp, "unknown")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        self._require_open()
        return {"is_on": True, "is_switchable": False, "dark_by": self._options.dark_by, "lamp": self._options.lamp}

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """Nothing: the program cannot make this light safe, and must not stop at it what else is made safe."""

    @property
    def is_on(self) -> bool:
        self._require_open()
        return True

    def on(self, timeout_s: float = 5.0) -> None:
        """Nothing: it is on."""
        self._require_open()

    def off(self, timeout_s: float = 5.0) -> None:
        """Nothing where the panels serve as dark: the light stays on, and `is_on` says so.

        Raises
        ------
        CapabilityError
            Where the station file does not say that they do.
        """
        self._require_open()
        if self._options.dark_by == "nothing":
            raise CapabilityError(
                f"{self.name} cannot be switched off by a program",
                device=self.name,
                action="switch off",
                expected="dark",
                seen=f"{self._options.lamp}, always on",
                safe="the light is on",
                hint='use a shutter (serial.source), or let blank panels serve as dark: dark_by = "modulators"',
            )

    def _require_open(self) -> None:
        if not self._is_open:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")


def _open(name: str, options: AlwaysOnOptions, context: OpenContext) -> AlwaysOn:
    return AlwaysOn(name, options)


ALWAYS_ON = Backend(
    "always-on",
    ("source",),
    AlwaysOnOptions,
    _open,
    warning="the light cannot be switched off by the program: not at opening, not in danger, not at the end of a run",
)
"""A light that is on."""
