"""Backend ``scpi.interlock``: a contact that a SCPI instrument reads, a data logger's digital input for example.

A contact on channel 101 of a data logger::

    [devices.door]
    role = "interlock"
    backend = "scpi.interlock"

    [devices.door.options]
    address = "TCPIP0::192.168.1.30::5025::SOCKET"
    ask = "DIG:DATA? 101"
    closed = "1"                              # any other answer means open
    reason = "enclosure door"

An interlock in software stops runs and switches the light off; it protects no eyes. A laser's own interlock input does.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.backend import Backend, Family, Proof
from drivers.interlocks.wired import Contact, WiredInterlock
from drivers.libraries.visa import VisaOptions, open_session
from drivers.libraries.wired import SetUp, opened
from drivers.protocols import OpenContext


@dataclass(frozen=True, kw_only=True)
class ScpiInterlockOptions(VisaOptions):
    """Options of the backend ``scpi.interlock``, besides where the instrument is.

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


def _open(name: str, options: ScpiInterlockOptions, context: OpenContext) -> WiredInterlock:
    hold = open_session(name, options, context)
    return opened(hold, lambda wire: WiredInterlock(name, wire, options.timeout_s, options.contact, options.set_up))


INTERLOCK = Backend(
    "scpi.interlock",
    ("interlock",),
    ScpiInterlockOptions,
    _open,
    needs=("pyvisa",),
    install="pip install pyvisa pyvisa-py",
    families=(
        Family(
            "Contacts read by a SCPI instrument",
            Proof.LIVE,
            "scpipy's server, not ours, over TCP",
            "tests/endpoints/test_scpi.py",
        ),
    ),
)
"""A SCPI question as an interlock."""
