"""A serial line: instruments on RS-232, on USB adapters and on network servers of serial ports, by ``pyserial``.

The system gives its ports numbers in the order in which they are plugged in. Name one by what stays with it
(``/dev/serial/by-id/…`` on Linux), or say with ``identity`` and ``identity_expect`` who must answer there: a command to
the wrong instrument may be one that it knows.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from drivers.libraries.loading import load
from drivers.libraries.wire import ANSWER_MAX, SLICE_S, Gone, Late, Senseless, Wire, hold_wire, require_ends
from drivers.libraries.wired import pattern
from drivers.options import Checked, option, refused
from drivers.protocols import Identity, OpenContext
from drivers.resources import Shared

QUIET_S = 0.1
"""A line is back in step when nothing has come for this long [s]."""

BY_ID = Path("/dev/serial/by-id")
"""Where Linux has names of its serial ports that stay with the plug."""


@dataclass(frozen=True, kw_only=True)
class LineOptions(Checked):
    """Which serial line, and how it is talked to.

    Attributes
    ----------
    port
        ``"/dev/serial/by-id/usb-…"``, ``"COM4"``, or an address: ``"socket://10.0.0.9:4001"``, ``"rfc2217://…"``.
    baud, data_bits, parity, stop_bits, flow
        As the instrument's manual says.
    write_end, read_end
        What ends a command, and an answer. A prompt is an end, too: ``read_end = "> "``.
    echo
        Whether the instrument repeats what it is sent; the repetition is required, and taken off.
    answer
        Regular expression that the whole answer to a command must match; empty where commands are not answered.
    answer_lines
        Lines that the answer to a question has.
    boot_s
        Wait after opening, for instruments that restart then, as many Arduinos do [s].
    timeout_s
        For opening, and for whatever has no time-out of its own [s].
    identity
        Question for who is there, where it has one.
    identity_expect
        Regular expression that the answer to it must contain.
    """

    port: str
    baud: int = option(50, 4_000_000, 9600)
    data_bits: int = option(5, 8, 8)
    parity: Literal["none", "even", "odd", "mark", "space"] = "none"
    stop_bits: Literal[1, 2] = 1
    flow: Literal["none", "rts-cts", "xon-xoff", "dsr-dtr"] = "none"
    write_end: str = "\r\n"
    read_end: str = "\n"
    echo: bool = False
    answer: str = ""
    answer_lines: int = option(1, 20, 1)
    boot_s: float = option(0, 30, 0.0)
    timeout_s: float = option(0.05, 60, 2.0)
    identity: str = ""
    identity_expect: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.port:
            raise refused("port is empty", expected='"/dev/serial/by-id/usb-…", "COM4"', seen='""')
        require_ends(self.write_end, self.read_end)
        pattern("answer", self.answer)
        if self.identity_expect and not self.identity:
            raise refused("identity_expect without identity", expected="the question as identity", seen="no question")

    @property
    def dialect(self) -> tuple[object, ...]:
        """What devices that share the line must agree in."""
        form = self.baud, self.data_bits, self.parity, self.stop_bits, self.flow, self.write_end, self.read_end
        return *form, self.echo, self.answer, self.answer_lines, self.identity


class SerialLine(Wire):
    """An open serial port. Nothing is sent over it before the first question."""

    def __init__(self, options: LineOptions) -> None:
        super().__init__(options.port, options.dialect)
        self._options = options
        self._end = options.read_end.encode("ascii")
        self._port: Any = None
        self._lost: tuple[type[BaseException], ...] = (OSError,)

    def identify(self, device: str, timeout_s: float) -> Identity:
        """What it answers, and what the system says of the port that it is plugged into."""
        vendor, product, serial = _plug(self.address)
        model = self.ask(device, self._options.identity, timeout_s) if self._options.identity else product
        if not self._options.identity:
            self.look(device, timeout_s)
        return Identity(vendor, model or "unknown", serial)

    def look(self, device: str, timeout_s: float) -> None:
        """Make sure that the line is there, and send nothing."""
        self._talk(device, "look for the line", timeout_s, lambda deadline: self._forget())

    def _connect(self, deadline: float) -> None:
        serial = load("serial")
        options = self._options
        self._late = serial.SerialTimeoutException
        self._lost = OSError, TypeError, *_terminal_errors()
        self._port = serial.serial_for_url(
            options.port,
            baudrate=options.baud,
            bytesize=options.data_bits,
            parity=options.parity[0].upper(),
            stopbits=options.stop_bits,
            rtscts=options.flow == "rts-cts",
            xonxoff=options.flow == "xon-xoff",
            dsrdtr=options.flow == "dsr-dtr",
            timeout=SLICE_S,
            write_timeout=max(SLICE_S, deadline - time.monotonic()),
            exclusive=True,
        )
        time.sleep(options.boot_s)

    def _disconnect(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            connection = getattr(port, "_socket", None)
            port.close()
            if connection is not None:  # pyserial 3.5 leaves it open where the other side has hung up
                connection.close()

    def _resynchronise(self, deadline: float) -> None:
        quiet_from = time.monotonic()
        while time.monotonic() - quiet_from < QUIET_S:
            talks = bool(self._read())
            if talks:
                quiet_from = time.monotonic()
            if time.monotonic() >= deadline:
                raise Late("it talks without being asked, and does not stop" if talks else "")

    def _ask(self, question: str, deadline: float) -> str:
        said = self._send(question, deadline)
        lines = [said] if said else []
        while len(lines) < self._options.answer_lines:
            lines.append(self._line(deadline))
        return "\n".join(lines)

    def _tell(self, command: str, deadline: float) -> None:
        said = self._send(command, deadline)
        expected = self._options.answer
        if expected:
            said = said or self._line(deadline)
            if not re.fullmatch(expected, said):
                raise Senseless("refuses the command", f"an answer that matches {expected!r}", repr(said))

    def _write(self, text: str, deadline: float) -> None:
        try:
            self._port.write((text + self._options.write_end).encode("ascii"))
        except self._late as error:
            raise Late("the line does not take what is written") from error
        except self._lost as error:
            raise Gone(str(error)) from error

    def _send(self, text: str, deadline: float) -> str:
        """Write one line; what comes in the same line as its echo is returned, the echo itself is not."""
        self._forget()
        self._write(text, deadline)
        if not self._options.echo:
            return ""
        said = self._line(deadline)
        if not said.startswith(text.strip()):
            raise Senseless("does not repeat what it is sent", f"the echo of {text!r}", repr(said))
        return said.removeprefix(text.strip()).strip()

    def _line(self, deadline: float) -> str:
        """An answer; one that is there when the time is over is not late, the program that looks for it is."""
        data = b""
        while not data.endswith(self._end):
            if time.monotonic() >= deadline and not self._waiting():
                raise Late(_text(data))
            if len(data) > ANSWER_MAX:
                raise Senseless(
                    "does not end its answer",
                    f"at most {ANSWER_MAX} bytes that end with {self._end!r}",
                    f"{_text(data[:80])} …",
                )
            data += self._read()
        return _text(data.removesuffix(self._end))

    def _read(self) -> bytes:
        """One byte, or none when none has come for a moment."""
        try:
            return bytes(self._port.read(1))
        except self._lost as error:
            raise Gone(str(error)) from error

    def _waiting(self) -> int:
        """How many bytes have come that were not read yet, at least [B]."""
        try:
            return int(self._port.in_waiting)
        except self._lost as error:
            raise Gone(str(error)) from error

    def _forget(self) -> None:
        """Drop what came without being asked for."""
        try:
            self._port.reset_input_buffer()
        except self._lost as error:
            raise Gone(str(error)) from error


def open_line(name: str, options: LineOptions, context: OpenContext) -> Shared[SerialLine]:
    """A hold on the line of this port, which every device of the station on that port shares."""
    key = str(Path(options.port).resolve()) if Path(options.port).exists() else options.port
    patience_s = options.timeout_s
    return hold_wire(context, key, name, lambda: SerialLine(options), options.dialect, patience_s)


def serial_ports() -> list[tuple[str, Identity]]:
    """Path and plug of every serial port of this computer. Nothing is written to any: that may fire a laser."""
    ports = []
    for found in load("serial.tools.list_ports").comports():
        stable = next((str(link) for link in BY_ID.glob("*") if str(link.resolve()) == found.device), found.device)
        ports.append((stable, Identity(*_plug(found.device))))
    return ports


def _plug(port: str) -> tuple[str, str, str]:
    """Maker, product and serial number of the adapter behind a port, as the system knows them."""
    path = str(Path(port).resolve()) if Path(port).exists() else port
    for found in load("serial.tools.list_ports").comports():
        if found.device == path:
            return found.manufacturer or "unknown", found.product or "serial line", found.serial_number or port
    return "unknown", "serial line", port


def _terminal_errors() -> tuple[type[BaseException], ...]:
    """What the system's terminal calls raise, which is no OSError; there is none such on Windows."""
    try:
        return (load("termios").error,)
    except ImportError:
        return ()


def _text(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").strip()
