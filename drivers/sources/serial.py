r"""Backend ``serial.source``: a laser or a shutter on a serial line.

A laser that answers each command with ``OK``::

    [devices.source]
    backend = "serial.source"

    [devices.source.options]
    port = "/dev/serial/by-id/usb-FTDI_FT232R_A10K5XYZ-if00-port0"
    baud = 115200
    identity = "ID?"
    identity_expect = "SN 0231"               # nothing is sent to another instrument: ports change their numbers
    on = "ON"
    off = "OFF"
    answer = "OK"                             # of each command
    state = "STATE?"
    state_on = "ON"
    state_off = "OFF"

A Thorlabs shutter controller SC10, whose one command opens and closes, which repeats what it is sent and ends each
answer with a prompt::

    [devices.source]
    backend = "serial.source"

    [devices.source.options]
    port = "/dev/serial/by-id/usb-FTDI_SC10"
    write_end = "\r"
    read_end = "> "
    echo = true
    on = "ens"
    off = "ens"
    state = "ens?"
    state_on = "1"
    state_off = "0"
    commands = ["mode=1"]

The light is off from opening on, and when it is closed; each is read back. An instrument that cannot be asked whether
it is on is not taken: nobody would notice that it did not switch.
"""

from __future__ import annotations

from dataclasses import dataclass

from drivers.backend import Backend, Family, Proof
from drivers.libraries.line import LineOptions, open_line
from drivers.libraries.wired import SetUp, opened
from drivers.protocols import OpenContext
from drivers.sources.wired import Switch, WiredSource

TEST = "tests/endpoints/test_serial.py"


@dataclass(frozen=True, kw_only=True)
class SerialSourceOptions(LineOptions):
    """Options of the backend ``serial.source``, besides those of the line.

    Attributes
    ----------
    on, off
        Commands that switch the light. Where they are equal, it is a button: pressed only to change the state.
    state
        Question whether there is light.
    state_on, state_off
        Regular expressions for its two answers; each must match a whole answer.
    commands
        Commands at opening, in the dark, in order.
    """

    on: str
    off: str
    state: str
    state_on: str
    state_off: str
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.switch, self.set_up  # each refuses what makes no sense

    @property
    def switch(self) -> Switch:
        """How the light is switched."""
        return Switch(on=self.on, off=self.off, state=self.state, state_on=self.state_on, state_off=self.state_off)

    @property
    def set_up(self) -> SetUp:
        """What the instrument is told at opening."""
        return SetUp(identity_expect=self.identity_expect, commands=self.commands)


def _open(name: str, options: SerialSourceOptions, context: OpenContext) -> WiredSource:
    hold = open_line(name, options, context)
    return opened(hold, lambda wire: WiredSource(name, wire, options.timeout_s, options.switch, options.set_up))


SOURCE = Backend(
    "serial.source",
    ("source",),
    SerialSourceOptions,
    _open,
    needs=("serial",),
    install="pip install pyserial",
    families=(
        Family("Lasers and shutters on a serial line", Proof.LIVE, "our served laser on a pseudo-terminal", TEST),
        Family("Thorlabs SC10", Proof.FAKE, "its documented dialogue at the other end of socat's line", TEST),
    ),
)
"""A dialogue over a serial line as a light source."""
