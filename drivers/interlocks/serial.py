"""Backend ``serial.interlock``: a contact that an instrument on a serial line reads, an Arduino or the laser itself.

A door switch on an Arduino::

    [devices.door]
    role = "interlock"
    backend = "serial.interlock"

    [devices.door.options]
    port = "/dev/serial/by-id/usb-Arduino_LLC_Arduino_Micro-if00"
    baud = 115200
    boot_s = 2                                # an Arduino restarts when its port is opened
    ask = "DOOR?"
    closed = "CLOSED"                         # any other answer means open
    reason = "enclosure door"

The light and its interlock may be one instrument: both backends then share the port, and need the same line settings.

An interlock in software stops runs and switches the light off; it protects no eyes. A laser's own interlock input does.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.backend import Backend, Family, Proof
from drivers.interlocks.wired import Contact, WiredInterlock
from drivers.libraries.line import LineOptions, open_line
from drivers.libraries.wired import SetUp, opened
from drivers.protocols import OpenContext


@dataclass(frozen=True, kw_only=True)
class SerialInterlockOptions(LineOptions):
    """Options of the backend ``serial.interlock``, besides those of the line.

    Attributes
    ----------
    ask
        The question.
    closed
        Regular expression that the whole answer must match; every other answer means open.
    reason
        What an open contact means, for people.
    commands
        Commands at opening, in order.
    """

    ask: str
    closed: str
    reason: str = "interlock contact"
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.contact, self.set_up  # each refuses what makes no sense

    @property
    def contact(self) -> Contact:
        """Question and answer."""
        return Contact(ask=self.ask, closed=self.closed, reason=self.reason)

    @property
    def set_up(self) -> SetUp:
        """What the instrument is told at opening."""
        return SetUp(identity_expect=self.identity_expect, commands=self.commands)


def _open(name: str, options: SerialInterlockOptions, context: OpenContext) -> WiredInterlock:
    hold = open_line(name, options, context)
    return opened(hold, lambda wire: WiredInterlock(name, wire, options.timeout_s, options.contact, options.set_up))


INTERLOCK = Backend(
    "serial.interlock",
    ("interlock",),
    SerialInterlockOptions,
    _open,
    needs=("serial",),
    install="pip install pyserial",
    families=(
        Family(
            "Contacts read over a serial line",
            Proof.LIVE,
            "our served laser on a pseudo-terminal",
            "tests/endpoints/test_serial.py",
        ),
    ),
)
"""A question over a serial line as an interlock."""
