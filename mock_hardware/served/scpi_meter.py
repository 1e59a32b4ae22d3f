"""A power meter that speaks SCPI over TCP as a Thorlabs PM100 does, and reads its light from a function.

    >>> with MeterServer(PowerMeter(lambda: 1e-3)) as server:
    ...     address = f"TCPIP0::127.0.0.1::{server.port}::SOCKET"

One line is one program message; messages and answers end with a line feed. Headers may be long or short, in any case
(``SENSe:CORRection:WAVelength``, ``sens:corr:wav``), several in one line with semicolons between them. A command that
is not understood answers nothing and puts an error into the queue that ``SYSTem:ERRor?`` reads, as IEEE 488.2 asks.

What a photodiode does is modelled: its responsivity grows with the wavelength λ, R = η q λ / (h c), so a meter that is
set to λ reads light of λ₀ as P · λ₀ / λ. Whoever forgets to set the wavelength reads a wrong power, as in a laboratory.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

LOOPBACK = "127.0.0.1"
LINE_MAX = 4096
"""A longer line is refused, and its connection closed [B]."""
ERRORS_MAX = 32
"""Errors that the queue holds."""
WAVELENGTHS_NM = 400.0, 1100.0
WAVELENGTH_DEFAULT_NM = 635.0
AVERAGES = 1.0, 3000.0

DATA_TYPE = -104, "Data type error"
NOT_ALLOWED = -108, "Parameter not allowed"
MISSING = -109, "Missing parameter"
UNDEFINED = -113, "Undefined header"
OUT_OF_RANGE = -222, "Data out of range"
ILLEGAL = -224, "Illegal parameter value"
OVERFLOW = -350, "Queue overflow"
OVERRUN = -363, "Input buffer overrun"


class _Refusal(Exception):
    """An entry of the error queue: number and words."""


class Quantity(NamedTuple):
    """A number that can be set: its range, and the value after ``*RST``."""

    low: float
    high: float
    default: float


class PowerMeter:
    """The instrument: one line in, at most one line out.

    Parameters
    ----------
    power_w
        The power on the sensor now [W].
    light_nm
        Wavelength of that light [nm].
    serial
        Serial number in its identity.
    """

    def __init__(self, power_w: Callable[[], float], light_nm: float = 633.0, serial: str = "000001") -> None:
        self._power_w, self._light_nm, self._serial = power_w, light_nm, serial
        self._errors: deque[tuple[int, str]] = deque()
        self._lock = threading.Lock()
        self._numbers = {
            "SENSe:CORRection:WAVelength": Quantity(*WAVELENGTHS_NM, WAVELENGTH_DEFAULT_NM),
            "SENSe:AVERage[:COUNt]": Quantity(*AVERAGES, 1.0),
        }
        self._reset()
        self._commands = [(_header(notation), action) for notation, action in self._actions().items()]

    def answer(self, line: str) -> str | None:
        """What the instrument says to a line; None where it says nothing.

        A unit that is not understood ends its line, and its error waits in the queue.
        """
        with self._lock:
            said, path = [], ""
            try:
                for unit in filter(None, (part.strip() for part in line.split(";"))):
                    header, _, rest = unit.partition(" ")
                    if not header.startswith((":", "*")):
                        header = path + header
                    if not header.startswith("*"):
                        path = header.rpartition(":")[0] + ":" if ":" in header.lstrip(":") else ""
                    text = self._run(header.lstrip(":"), rest.strip())
                    if text is not None:
                        said.append(text)
            except _Refusal as refusal:
                self._note(*refusal.args)
            return ";".join(said) if said else None

    def overrun(self) -> None:
        """A line was longer than the instrument can hold."""
        with self._lock:
            self._note(*OVERRUN)

    def _run(self, header: str, rest: str) -> str | None:
        for pattern, action in self._commands:
            if pattern.fullmatch(header):
                answer: str | None = action(rest)
                return answer
        raise _Refusal(*UNDEFINED)

    def _actions(self) -> dict[str, Callable[[str], Any]]:
        """Headers in the notation of the SCPI standard → what they do with their parameter."""
        readings = ["MEASure[:SCALar][:POWer]?", "READ?", "FETCh?"]
        silent = ["CONFigure[:SCALar][:POWer]", "MEASure[:SCALar][:POWer]", "INITiate[:IMMediate]", "ABORt", "*WAI"]
        fixed = {"*OPC?": "1", "*TST?": "0", "*STB?": "0", "*ESR?": "0", "SYSTem:VERSion?": "1999.0"}
        fixed |= {"CONFigure?": "POW", "SYSTem:SENSor:IDN?": '"MOCK,PHOTODIODE,26-Nov-2026,1,18,289"'}
        actions: dict[str, Callable[[str], Any]] = {
            "*IDN?": _alone(lambda: f"labctl,Mock PM100,{self._serial},1.0"),
            "*RST": _alone(self._reset),
            "*CLS": _alone(self._errors.clear),
            "SYSTem:ERRor[:NEXT]?": _alone(self._next_error),
            "SENSe:POWer[:DC]:UNIT?": _alone(lambda: self._unit),
            "SENSe:POWer[:DC]:UNIT": self._set_unit,
        }
        actions |= {notation: _alone(self._reading) for notation in readings}
        actions |= {notation: _alone(lambda: None) for notation in silent}
        actions |= {notation: _alone(partial(str, words)) for notation, words in fixed.items()}
        for notation in self._numbers:
            actions[f"{notation}?"] = partial(self._number, notation)
            actions[notation] = partial(self._set_number, notation)
        return {notation.replace("SENSe:", "[SENSe:]"): action for notation, action in actions.items()}

    def _reset(self) -> None:
        self._unit = "W"
        self._values = {notation: quantity.default for notation, quantity in self._numbers.items()}

    def _reading(self) -> str:
        power_w = self._power_w() * self._light_nm / self._values["SENSe:CORRection:WAVelength"]
        if self._unit == "W":
            return _real(power_w)
        return _real(10.0 * math.log10(power_w / 1e-3) if power_w > 0 else -9.9e37)

    def _next_error(self) -> str:
        number, words = self._errors.popleft() if self._errors else (0, "No error")
        return f'{number:+d},"{words}"'

    def _note(self, number: int, words: str) -> None:
        self._errors.append((number, words))
        if len(self._errors) > ERRORS_MAX:
            self._errors.pop()
            self._errors[-1] = OVERFLOW

    def _set_unit(self, rest: str) -> None:
        if not rest:
            raise _Refusal(*MISSING)
        if rest.upper() not in ("W", "DBM"):
            raise _Refusal(*ILLEGAL)
        self._unit = rest.upper()

    def _number(self, notation: str, rest: str) -> str:
        if not rest:
            return _real(self._values[notation])
        return _real(self._named(notation, rest, NOT_ALLOWED))

    def _set_number(self, notation: str, rest: str) -> None:
        if not rest:
            raise _Refusal(*MISSING)
        low, high, _ = self._numbers[notation]
        try:
            value = float(rest)
        except ValueError:
            value = self._named(notation, rest, DATA_TYPE)
        if not low <= value <= high:
            raise _Refusal(*OUT_OF_RANGE)
        self._values[notation] = value

    def _named(self, notation: str, word: str, otherwise: tuple[int, str]) -> float:
        """MINimum, MAXimum or DEFault of a number."""
        for name, value in zip(("MINimum", "MAXimum", "DEFault"), self._numbers[notation], strict=True):
            if _header(name).fullmatch(word):
                return value
        raise _Refusal(*otherwise)


class MeterServer:
    """A power meter on a TCP port, for as long as the ``with`` block lasts.

    Parameters
    ----------
    meter
        The instrument; every connection talks to the same one.
    port
        0 takes any that is free.
    host
        Address to listen on: this computer only, unless told otherwise.

    Attributes
    ----------
    meter
        The instrument.
    port
        The port that it listens on.
    """

    def __init__(self, meter: PowerMeter, port: int = 0, host: str = LOOPBACK) -> None:
        self.meter = meter
        self._server = _Server((host, port), meter)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="scpi-meter", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and hang up on every client. Calling it twice is harmless."""
        self._server.shutdown()
        self._server.server_close()
        self.hang_up()
        self._thread.join()

    def hang_up(self) -> None:
        """End every connection, as a pulled network cable or a meter that restarts does; new ones are welcome."""
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], meter: PowerMeter) -> None:
        self.meter = meter
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Connection)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.server.connections.add(self.connection)
        try:
            while line := self.rfile.readline(LINE_MAX + 1):
                if len(line) > LINE_MAX:
                    self.server.meter.overrun()
                    return
                answer = self.server.meter.answer(line.decode("ascii", "replace").strip())
                if answer is not None:
                    self.wfile.write(answer.encode("ascii") + b"\n")
        except OSError:
            pass  # the client is gone
        finally:
            self.server.connections.discard(self.connection)


def _header(notation: str) -> re.Pattern[str]:
    """SCPI's notation of a header: capitals are the short form, square brackets are what may be left out."""
    words = re.sub(r"([A-Z]+)([a-z]+)", r"(?:\1(?:\2)?)", re.sub(r"([?*])", r"\\\1", notation))
    pattern = words.replace("[", "(?:").replace("]", ")?")
    return re.compile(pattern, re.IGNORECASE)


def _alone(action: Callable[[], Any]) -> Callable[[str], Any]:
    """An action that takes no parameter."""

    def checked(rest: str) -> Any:
        if rest:
            raise _Refusal(*NOT_ALLOWED)
        return action()

    return checked


def _real(value: float) -> str:
    return f"{value:.9E}"
