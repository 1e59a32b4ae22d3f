"""A VISA session: SCPI instruments over TCP, USB, GPIB or a serial port, by the Python package ``pyvisa``.

The backend of pyvisa that is written in Python is the default (``visa = "@py"``) and needs nothing else for TCP and
serial ports; for USB it needs ``pip install pyusb``. ``visa = "@ivi"`` takes the system's own VISA (NI, Keysight, R&S).

pyvisa's Python backend takes a refused or closed TCP connection for one that is merely silent. It is therefore looked
at the socket itself while waiting, so that a lost instrument is not reported as a slow one.
"""

from __future__ import annotations

import contextlib
import math
import re
import select
import socket
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceError
from drivers.libraries.loading import load
from drivers.libraries.wire import ANSWER_MAX, SLICE_S, Gone, Late, Senseless, Wire, hold_wire, require_ends
from drivers.options import Checked, option, refused
from drivers.protocols import Identity, OpenContext
from drivers.resources import Shared

ERRORS_MAX = 20
"""Entries of an error queue that are read before it is given up [1]."""
NO_ERROR = re.compile(r"[+-]?0\b.*", re.DOTALL)
IDENTITY_FIELDS = 4
LOOK_S = 4.0
"""Longest time for finding what is connected [s]."""
ASKED = re.compile(r"(USB|TCPIP)\d*::.*::INSTR$", re.IGNORECASE)
"""Addresses at which an instrument is asked who it is."""


@dataclass(frozen=True, kw_only=True)
class VisaOptions(Checked):
    """Where a SCPI instrument is, and how it is talked to.

    Attributes
    ----------
    address
        VISA resource: ``"TCPIP0::192.168.1.20::5025::SOCKET"``, ``"USB0::0x1313::0x8078::P0012345::INSTR"``.
    visa
        Library: ``"@py"``, ``"@ivi"``, or the path of one.
    timeout_s
        For opening, and for whatever has no time-out of its own [s].
    write_end, read_end
        What ends a command, and an answer.
    baud
        Of an address that begins with ASRL.
    error_query
        Reads one entry of the error queue; asked after each command. Empty for an instrument without one.
    identity_expect
        Regular expression that the answer to ``*IDN?`` must contain, a serial number for example: addresses move.
    """

    address: str
    visa: str = "@py"
    timeout_s: float = option(0.05, 60, 2.0)
    write_end: str = "\n"
    read_end: str = "\n"
    baud: int = option(50, 4_000_000, 9600)
    error_query: str = "SYST:ERR?"
    identity_expect: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "::" not in self.address:
            raise refused(
                f"{self.address!r} is no VISA address",
                expected='"TCPIP0::192.168.1.20::5025::SOCKET", "USB0::…::INSTR", "ASRL/dev/ttyUSB0::INSTR"',
                seen=repr(self.address),
                hint="labctl devices probe lists those that answer",
            )
        require_ends(self.write_end, self.read_end)

    @property
    def dialect(self) -> tuple[object, ...]:
        """What devices that share the instrument must agree in."""
        return self.visa, self.write_end, self.read_end, self.baud, self.error_query


class VisaSession(Wire):
    """An open VISA resource. Nothing is sent to it before the first question."""

    def __init__(self, options: VisaOptions) -> None:
        super().__init__(options.address, options.dialect)
        self._options = options
        self._end = options.read_end.encode("ascii")
        self._resource: Any = None
        self._errors: Any = None
        self._timed_out: Any = None
        self._all_read: Any = None
        self._unread: Any = None
        self._is_stream = self._is_serial = False

    def identify(self, device: str, timeout_s: float) -> Identity:
        return identity_of(self.ask(device, "*IDN?", timeout_s))

    def begin(self, device: str, timeout_s: float) -> None:
        """Empty the error queue: an earlier user's mistakes are not ours."""
        if self._options.error_query:
            self._talk(device, "clear the error queue", timeout_s, lambda deadline: self._write("*CLS", deadline))

    def complaint(self, device: str, timeout_s: float) -> str:
        """The first entry of the error queue."""
        try:
            answer = self.ask(device, self._options.error_query, timeout_s) if self._options.error_query else ""
        except DeviceError:
            return ""
        return "" if NO_ERROR.fullmatch(answer) else answer

    def _connect(self, deadline: float) -> None:
        pyvisa = load("pyvisa")
        milliseconds = max(1, math.ceil(1e3 * (deadline - time.monotonic())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manager = pyvisa.ResourceManager(self._options.visa)
            resource = manager.open_resource(self.address, open_timeout=milliseconds)
        self._resource, self._errors = resource, pyvisa.errors
        self._timed_out = pyvisa.constants.StatusCode.error_timeout
        self._all_read = pyvisa.constants.StatusCode.success_max_count_read
        self._unread = pyvisa.constants.BufferOperation.discard_read_buffer
        self._is_serial = resource.interface_type == pyvisa.constants.InterfaceType.asrl
        self._is_stream = self._is_serial or resource.resource_name.endswith("::SOCKET")
        try:
            if self._is_serial:
                resource.baud_rate = self._options.baud
            if self._is_hung_up():
                raise ConnectionError("connection refused")
            if self._is_stream:
                self._discard(deadline)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            resource.close()

    def _resynchronise(self, deadline: float) -> None:
        """Late answers end with the connection that they would come by; other buses have a clear for it."""
        try:
            if self._is_stream:
                self._disconnect()
                self._connect(deadline)
            else:
                self._resource.timeout = self._milliseconds(deadline)
                self._resource.clear()
        except Exception as error:
            raise Gone(str(error)) from error

    def _ask(self, question: str, deadline: float) -> str:
        if self._is_stream:
            self._forget(deadline)
            self._write(question, deadline)
            return self._line(deadline)
        self._write(question, deadline)
        return self._message(deadline)

    def _tell(self, command: str, deadline: float) -> None:
        self._write(command, deadline)
        if not self._options.error_query:
            return
        errors = []
        for _ in range(ERRORS_MAX):
            answer = self._ask(self._options.error_query, deadline)
            if NO_ERROR.fullmatch(answer):
                break
            errors.append(answer)
        if errors:
            raise Senseless("refuses the command", "an empty error queue afterwards", "; ".join(errors))

    def _write(self, text: str, deadline: float) -> None:
        self._resource.timeout = self._milliseconds(deadline)
        try:
            self._resource.write_raw((text + self._options.write_end).encode("ascii"))
        except self._errors.VisaIOError as error:
            raise Late("") if error.error_code == self._timed_out else Gone(str(error)) from error
        except (OSError, self._errors.InvalidSession) as error:
            raise Gone(str(error)) from error

    def _line(self, deadline: float) -> str:
        """An answer off a stream, and no byte after it: none gets lost when the time is over, the deadline is kept.

        An answer that is there when the time is over is not late, the program that looks for it is.
        """
        data = b""
        while not data.endswith(self._end):
            if len(data) > ANSWER_MAX:
                raise Senseless(
                    "does not end its answer",
                    f"at most {ANSWER_MAX} bytes that end with {self._end!r}",
                    f"{_text(data[:80])} …",
                )
            until = min(deadline, time.monotonic() + SLICE_S)
            try:
                data += self._read(self._at_hand(data, until), until)
            except Late as late:
                if self._is_hung_up():
                    raise Gone(f"the connection was closed after {_text(data)!r}") from late
                if time.monotonic() >= deadline:
                    raise Late(_text(data)) from late
        return _text(data.removesuffix(self._end))

    def _at_hand(self, data: bytes, until: float) -> int:
        """How many bytes to read next of an answer of which ``data`` is there: as many as have come, its end the last.

        1 where that cannot be seen, or where none comes until then.
        """
        connection = self._connection()
        if connection is None:
            return 1
        try:
            ready, _, _ = select.select([connection], [], [], max(until - time.monotonic(), 0.0))
            come = connection.recv(ANSWER_MAX, socket.MSG_PEEK) if ready else b""
        except (OSError, ValueError):
            return 1
        end = (data + come).find(self._end)
        return max(1, len(come) if end < 0 else end + len(self._end) - len(data))

    def _message(self, deadline: float) -> str:
        """An answer off a bus that says itself where a message ends."""
        data = self._read(ANSWER_MAX, deadline)
        if len(data) == ANSWER_MAX:
            raise Senseless("does not end its answer", f"less than {ANSWER_MAX} bytes", f"{_text(data[:80])} …")
        return _text(data.removesuffix(self._end))

    def _read(self, count: int, deadline: float) -> bytes:
        self._resource.timeout = self._milliseconds(deadline)
        try:
            with self._resource.ignore_warning(self._all_read):
                data, _ = self._resource.visalib.read(self._resource.session, count)
        except self._errors.VisaIOError as error:
            raise Late("") if error.error_code == self._timed_out else Gone(str(error)) from error
        except (OSError, self._errors.InvalidSession) as error:
            raise Gone(str(error)) from error
        return bytes(data)

    def _discard(self, deadline: float) -> None:
        """Drop a greeting, or what an earlier program has asked for."""
        while True:
            try:
                self._read(1, min(deadline, time.monotonic() + SLICE_S))
            except Late:
                return
            if time.monotonic() >= deadline:
                break
        raise ConnectionError("it talks without being asked, and does not stop")

    def _forget(self, deadline: float) -> None:
        """Drop what came without being asked for, as far as it can be seen without waiting."""
        if self._is_serial:
            try:
                self._resource.flush(self._unread)
            except Exception as error:  # pyvisa hands on what the system's terminal calls raise, which has no one base
                raise Gone(str(error)) from error
        if self._is_hung_up():
            raise Gone("the connection was closed")
        connection = self._connection()
        while connection is not None and select.select([connection], [], [], 0)[0] and time.monotonic() < deadline:
            self._read(1, deadline)

    def _milliseconds(self, deadline: float) -> int:
        return max(1, math.ceil(1e3 * (deadline - time.monotonic())))

    def _is_hung_up(self) -> bool:
        """Whether the other side has closed the connection; False where nothing can be said, as on a bus."""
        connection = self._connection()
        if connection is None:
            return False
        try:
            connection.getpeername()
            readable, _, _ = select.select([connection], [], [], 0)
            return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _connection(self) -> socket.socket | None:
        """The socket below pyvisa's Python backend, or None where there is none."""
        sessions = getattr(self._resource.visalib, "sessions", {})
        session = sessions.get(self._resource.session) if isinstance(sessions, dict) else None
        connection = getattr(session, "interface", None)
        return connection if isinstance(connection, socket.socket) else None


def open_session(name: str, options: VisaOptions, context: OpenContext) -> Shared[VisaSession]:
    """A hold on the session of this address, which every device of the station at that address shares."""
    return hold_wire(context, options.address, name, lambda: VisaSession(options), options.dialect, options.timeout_s)


def identity_of(answer: str) -> Identity:
    """An answer to ``*IDN?``: maker, model, serial number and firmware between commas; what is missing is unknown."""
    fields = [part.strip() or "unknown" for part in answer.split(",", IDENTITY_FIELDS - 1)]
    return Identity(*fields, *["unknown"] * (3 - len(fields)))


def visa_instruments(patience_s: float = LOOK_S) -> list[tuple[str, str, Identity | None]]:
    """Library, address and identity of what VISA finds on USB and on the network, after ``patience_s`` at the latest.

    Serial ports are left out, since asking who is there may fire a laser; an address that does not answer has no
    identity.
    """
    found: list[tuple[str, str, Identity | None]] = []
    looking = threading.Thread(target=_look, args=(found,), name="visa-look", daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        looking.start()
        looking.join(patience_s)
    return list(found)


def _look(found: list[tuple[str, str, Identity | None]]) -> None:
    pyvisa = load("pyvisa")
    for library in ("@py", "@ivi"):
        with contextlib.suppress(Exception):
            for address in pyvisa.ResourceManager(library).list_resources():
                if not ASKED.match(address) or address in {known for _, known, _ in found}:
                    continue
                identity = None
                with contextlib.suppress(Exception):
                    session = VisaSession(VisaOptions(address=address, visa=library, timeout_s=1.0))
                    session.open("", 1.0)
                    with contextlib.closing(session):
                        identity = session.identify("", 1.0)
                found.append((library, address, identity))


def _text(data: bytes) -> str:
    return data.decode("ascii", "backslashreplace").strip()
