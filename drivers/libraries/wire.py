"""A dialogue in lines of text with one instrument, whatever carries it: what VISA sessions and serial lines share.

Several devices of a station may be one instrument: the laser and its interlock contact, the power meter and the
interlock made of it. They share one wire, since most instruments and all serial ports take one connection only.

Two accidents make a dialogue dangerous, and both are kept out here. An answer that comes after its time would be taken
for the answer to the next question: after any answer that is late or makes no sense the wire is brought back into step
first. And an instrument that was gone has forgotten its settings: whoever opened it before is told that it is lost
until it is opened again, even where another device has brought the wire back already.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from drivers.errors import CapabilityError, DeviceError, DeviceLost, DeviceProtocolError, DeviceTimeout, NotConnected
from drivers.options import refused
from drivers.protocols import Identity, OpenContext
from drivers.resources import Shared

ANSWER_MAX = 4096
"""An answer that is longer is refused [B]."""
TIMEOUT_MAX_S = 3600.0
SLICE_S = 0.05
"""Longest time that is spent waiting before it is looked whether the other side is still there [s]."""

T = TypeVar("T")
W = TypeVar("W", bound="Wire")


class Late(Exception):
    """No complete answer came in time; the argument is what came of it."""


class Gone(Exception):
    """The other side is not there any more; the argument is what shows it."""


class Senseless(Exception):
    """The answer is none that the protocol knows: what is wrong with it, what was expected, what was seen."""


class Wire(ABC):
    """One line of dialogue.

    Parameters
    ----------
    address
        Where the instrument is; for errors.
    dialect
        How it is talked to: devices that share the wire must agree in it.

    Attributes
    ----------
    generation
        How often it was opened again after it had been lost.
    """

    def __init__(self, address: str, dialect: object) -> None:
        self.address, self.dialect = address, dialect
        self.generation = 0
        self._lock = threading.RLock()
        self._connected = False
        self._in_step = True

    def open(self, device: str, timeout_s: float) -> None:
        """Connect; harmless when connected.

        Raises
        ------
        NotConnected
            When nothing is there.
        """
        with self._lock:
            if self._connected:
                return
            try:
                self._connect(time.monotonic() + timeout_s)
            except DeviceError:
                raise
            except Exception as error:
                raise NotConnected(
                    f"nothing opens at {self.address}: {_words(error)}",
                    device=device,
                    action="open",
                    seen=_words(error),
                    hint="is it switched on and plugged in, and in no other program? labctl devices probe",
                ) from error
            self._connected, self._in_step = True, True

    def open_again(self, device: str, timeout_s: float) -> None:
        """Connect once more after the wire was lost; harmless when it is not."""
        with self._lock:
            if not self._connected:
                self.open(device, timeout_s)
                self.generation += 1

    def close(self) -> None:
        """Hang up. Calling it twice is harmless."""
        with self._lock:
            if self._connected:
                self._connected = False
                self._disconnect()

    @property
    def is_lost(self) -> bool:
        """Whether it has to be opened again."""
        return not self._connected

    def ask(self, device: str, question: str, timeout_s: float) -> str:
        """The answer to a question, without its end and the white space around it.

        Raises
        ------
        DeviceTimeout, DeviceLost, DeviceProtocolError
            When no complete answer comes in time, when the instrument is gone, when the answer does not end.
        """
        return self._talk(device, f"ask {question!r}", timeout_s, lambda deadline: self._ask(question, deadline))

    def tell(self, device: str, command: str, timeout_s: float) -> None:
        """Give a command, and make sure that the instrument has taken it, as far as it can say.

        Raises
        ------
        DeviceTimeout, DeviceLost, DeviceProtocolError
            As `ask`, and when the instrument refuses the command.
        """
        self._talk(device, f"command {command!r}", timeout_s, lambda deadline: self._tell(command, deadline))

    def shout(self, command: str, timeout_s: float) -> None:
        """Give a command whatever state the dialogue is in, and look at nothing: the last resort to have it dark."""
        self._in_step = False
        with contextlib.suppress(Exception):
            self._write(command, time.monotonic() + timeout_s)

    def mistrust(self) -> None:
        """The last answer made no sense: it may be that of another question."""
        self._in_step = False

    def begin(self, device: str, timeout_s: float) -> None:
        """Clear what earlier users have left behind, once it is known who answers."""
        return

    def complaint(self, device: str, timeout_s: float) -> str:
        """Why it did not answer the last question, where it can say; empty where it cannot."""
        return ""

    @abstractmethod
    def identify(self, device: str, timeout_s: float) -> Identity:
        """Who answers."""

    @abstractmethod
    def _connect(self, deadline: float) -> None: ...

    @abstractmethod
    def _disconnect(self) -> None: ...

    @abstractmethod
    def _resynchronise(self, deadline: float) -> None:
        """Make sure that the next answer is the answer to the next question."""

    @abstractmethod
    def _write(self, text: str, deadline: float) -> None:
        """Send one line. Raises as `_ask`."""

    @abstractmethod
    def _ask(self, question: str, deadline: float) -> str:
        """Raises `Late`, `Gone` and `Senseless`."""

    @abstractmethod
    def _tell(self, command: str, deadline: float) -> None:
        """Raises as `_ask`."""

    def _talk(self, device: str, action: str, timeout_s: float, say: Callable[[float], T]) -> T:
        if not (math.isfinite(timeout_s) and 0 < timeout_s <= TIMEOUT_MAX_S):
            raise CapabilityError(
                "impossible time-out",
                device=device,
                action=action,
                expected=f"more than 0, at most {TIMEOUT_MAX_S:g} s",
                seen=f"{timeout_s!r}",
            )
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise DeviceTimeout(
                f"{self.address} is busy with another question", device=device, action=action, seen="no turn in time"
            )
        try:
            return self._say(device, action, timeout_s, deadline, say)
        finally:
            self._lock.release()

    def _say(self, device: str, action: str, timeout_s: float, deadline: float, say: Callable[[float], T]) -> T:
        if not self._connected:
            raise _lost(device, action, f"{self.address} was lost, or is closed")
        try:
            if not self._in_step:
                self._resynchronise(deadline)
            self._in_step = False  # and it stays so when this is left with an answer on its way, by Ctrl-C for example
            said = say(deadline)
            self._in_step = True
            return said
        except Late as late:
            raise DeviceTimeout(
                f"{self.address} does not answer",
                device=device,
                action=action,
                expected=f"a complete answer within {timeout_s:.3g} s",
                seen=repr(late.args[0]) if late.args and late.args[0] else "nothing",
                hint="is this a command of this instrument, are line ends and rate its own? its manual says",
            ) from late
        except Gone as gone:
            self._drop()
            raise _lost(device, action, f"{self.address} is gone: {gone}") from gone
        except Senseless as senseless:
            what, expected, seen = senseless.args
            raise DeviceProtocolError(
                f"{self.address} {what}",
                device=device,
                action=action,
                expected=expected,
                seen=seen,
                hint="compare the command and the line ends of the station file with the instrument's manual",
            ) from senseless

    def _drop(self) -> None:
        self._connected = False
        with contextlib.suppress(Exception):
            self._disconnect()


def hold_wire(
    context: OpenContext, key: object, device: str, make: Callable[[], W], dialect: object, timeout_s: float
) -> Shared[W]:
    """A device's hold on the wire of this key, which is open when this returns.

    Raises
    ------
    NotConnected
        When nothing is there.
    CapabilityError
        When another device of the station talks to the same instrument with other settings.
    """

    def opened() -> W:
        wire = make()
        wire.open(device, timeout_s)
        return wire

    hold = context.resources.share(("wire", key), opened, lambda wire: wire.close())
    try:
        if hold.value.dialect != dialect:
            raise CapabilityError(
                f"{hold.value.address} is open already with other settings",
                device=device,
                action="open",
                expected=f"{hold.value.dialect}",
                seen=f"{dialect}",
                hint="devices that are one instrument need the same line settings in the station file",
            )
        hold.value.open_again(device, timeout_s)
    except BaseException:
        hold.release()
        raise
    return hold


def require_ends(write_end: str, read_end: str) -> None:
    """Refuse ends of lines that are none."""
    for name, end in (("write_end", write_end), ("read_end", read_end)):
        if not end or not end.isascii():
            raise refused(f"{name} ends no line", expected='"\\n", "\\r", "\\r\\n", or a prompt', seen=repr(end))


def _lost(device: str, action: str, what: str) -> DeviceLost:
    return DeviceLost(what, device=device, action=action, hint="check cable and power, then open it again")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
