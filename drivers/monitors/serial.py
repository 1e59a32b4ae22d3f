"""Backend ``serial.monitor``: a thermometer or power meter on a serial line, by question and answer.

A thermometer that answers ``TEMP?`` with ``T=23.5 C``::

    [devices.lab_temperature]
    role = "monitor"
    backend = "serial.monitor"

    [devices.lab_temperature.options]
    port = "/dev/serial/by-id/usb-FTDI_FT232R_A10K5XYZ-if00-port0"
    baud = 115200
    ask = "TEMP?"
    expect = 'T=(?P<value>[-+0-9.]+) C'
    unit = "degC"
    low = 10
    high = 40
    identity = "*IDN?"                        # a question, where the instrument has one
    identity_expect = "SN 0231"               # it must be this one: ports change their numbers

The whole answer must match ``expect``: an answer to another question is refused, not read as a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.backend import Backend, Family, Found, Proof
from drivers.libraries.line import LineOptions, open_line, serial_ports
from drivers.libraries.wired import NUMBER, Quantity, SetUp, opened
from drivers.monitors.wired import WiredMonitor
from drivers.options import option
from drivers.protocols import OpenContext


@dataclass(frozen=True, kw_only=True)
class SerialMonitorOptions(LineOptions):
    """Options of the backend ``serial.monitor``, besides those of the line.

    Attributes
    ----------
    ask, unit
        The question, and the unit of the reading after scaling.
    expect
        Regular expression that the whole answer must match, with the number in the group ``value``.
    scale
        From the instrument's number to ``unit``.
    low, high
        Readings outside are refused [unit].
    commands
        Commands at opening, in order.
    """

    ask: str
    unit: str
    expect: str = NUMBER
    scale: float = option(-1e30, 1e30, 1.0)
    low: float | None = option(-1e30, 1e30, None)
    high: float | None = option(-1e30, 1e30, None)
    commands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.quantity, self.set_up  # each refuses what makes no sense

    @property
    def quantity(self) -> Quantity:
        """What is asked for."""
        return Quantity(
            ask=self.ask, unit=self.unit, expect=self.expect, scale=self.scale, low=self.low, high=self.high
        )

    @property
    def set_up(self) -> SetUp:
        """What the instrument is told at opening."""
        return SetUp(identity_expect=self.identity_expect, commands=self.commands)


def _open(name: str, options: SerialMonitorOptions, context: OpenContext) -> WiredMonitor:
    hold = open_line(name, options, context)
    return opened(hold, lambda wire: WiredMonitor(name, wire, options.timeout_s, options.quantity, options.set_up))


def _discover() -> Sequence[Found]:
    note = (
        "a serial port; nothing was written to it: say what is there, and its dialogue (serial.source, .interlock, too)"
    )
    return [Found("monitor", identity, {"port": port}, note) for port, identity in serial_ports()]


MONITOR = Backend(
    "serial.monitor",
    ("monitor",),
    SerialMonitorOptions,
    _open,
    needs=("serial",),
    install="pip install pyserial",
    discover=_discover,
    families=(
        Family(
            "Instruments on a serial line, dialogue in the station file",
            Proof.LIVE,
            "pseudo-terminals: socat's, and our served laser",
            "tests/endpoints/test_serial.py",
        ),
    ),
)
"""A question over a serial line as a monitor."""
