"""What every device at the end of a `Wire` does: who it is, its set-up, its answers as numbers, and its end."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from drivers.errors import DeviceLost, DeviceProtocolError
from drivers.libraries.wire import Wire
from drivers.options import refused
from drivers.protocols import Identity
from drivers.resources import Shared

D = TypeVar("D", bound="WiredDevice")

NUMBER = r"(?P<value>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
"""A number as SCPI writes it, and nothing around it."""
SETTING_ERROR_REL = 1e-3
"""A setting is taken when it reads back within this: instruments round to what they have [1]."""
LAST_CHANCE_S = 0.05
"""Shortest time that an answer is waited for, at the end of a call that waited for others before [s]."""
SCPI_NAN, SCPI_INFINITY = 9.91e37, 9.9e37
"""What SCPI-1999, volume 1, 7.2.1.4 and 7.2.1.5, writes for "not a number" and for a value beyond the range."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that an instrument is asked for: one line of its manual.

    Attributes
    ----------
    ask
        The question.
    unit
        Of the reading, after scaling.
    expect
        Regular expression that the whole answer must match, with the number in the group ``value``.
    scale
        From the instrument's number to ``unit``.
    low, high
        Readings outside are refused; None for no limit.
    """

    ask: str
    unit: str
    expect: str = NUMBER
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not self.unit:
            raise refused("a monitor needs a unit", expected='unit = "W"', seen="nothing")
        require_line("ask", self.ask)
        if "value" not in pattern("expect", self.expect).groupindex:
            raise refused(
                "expect does not say where the number is", expected="a group (?P<value>…)", seen=repr(self.expect)
            )
        if self.scale == 0:
            raise refused("scale is zero", expected="a factor that keeps the number", seen="0")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise refused("low is not below high", expected=f"less than {self.high:g}", seen=f"{self.low:g}")

    def of(self, answer: str) -> float:
        """The value in an answer [unit].

        Raises
        ------
        ValueError
            With what was expected: no number, SCPI's words for overload and for no value, and what is out of range.
        """
        found = re.fullmatch(self.expect, answer)
        if found is None:
            raise ValueError(f"an answer that matches {self.expect!r}")
        number = (found["value"] or "").strip()
        if not re.fullmatch(NUMBER, number):
            raise ValueError("a number in the group value of expect")
        raw = float(number)
        if abs(raw) == SCPI_NAN:
            raise ValueError("a value; the instrument has none")
        if abs(raw) >= SCPI_INFINITY:
            raise ValueError("a value; the instrument is overloaded")
        value = raw * self.scale
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= value <= high:
            raise ValueError(f"{low:g} … {high:g} {self.unit}")
        return value


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """What an instrument is told when it is opened.

    Attributes
    ----------
    identity_expect
        Regular expression that its identity must contain; nothing is sent to another one.
    commands
        Commands, in order.
    settings
        Header → number or word: set by ``HEADER VALUE``, read back by ``HEADER?`` at opening and with each reading.
    """

    identity_expect: str = ""
    commands: tuple[str, ...] = ()
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        pattern("identity_expect", self.identity_expect)
        for line in (*self.commands, *(self.settings or {})):
            require_line("a command", line)
        for header, value in (self.settings or {}).items():
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise refused(f"setting {header!r} has the wrong type", expected="a number or a word", seen=repr(value))


class WiredDevice:
    """A device at the end of a wire.

    Parameters
    ----------
    name
        What the station calls it.
    hold
        On the wire; let go of when the device is closed.
    timeout_s
        For whatever has no time-out of its own [s].
    """

    def __init__(self, name: str, hold: Shared[Any], timeout_s: float) -> None:
        self.name = name
        self._hold: Shared[Any] | None = hold
        self._timeout_s = timeout_s
        self._generation = hold.value.generation
        self._settings: dict[str, float | str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._hold is None:
            return
        try:
            self.safe_state(self._timeout_s)
        finally:
            hold, self._hold = self._hold, None
            if hold is not None:
                hold.release()

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """Nothing to be done: the device neither lights nor moves."""

    def identify(self) -> Identity:
        return self.wire.identify(self.name, self._timeout_s)

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        until_s = time.monotonic() + timeout_s
        settings = {key: self._setting(key, left_s(until_s)) for key in self._settings}
        return {"address": self.wire.address, "settings": settings}

    @property
    def wire(self) -> Wire:
        """The wire.

        Raises
        ------
        DeviceLost
            When the device is closed, or was lost since it was opened: it has forgotten what it was told.
        """
        if self._hold is None:
            raise DeviceLost(f"{self.name} is closed", device=self.name, hint="open it again")
        wire: Wire = self._hold.value
        if wire.generation != self._generation:
            raise DeviceLost(
                f"{wire.address} was lost, and may have forgotten its settings",
                device=self.name,
                action="use it after another device has opened it again",
                hint="open it again",
            )
        return wire

    def prepare(self, set_up: SetUp) -> None:
        """Make sure who it is, then tell it what it is told at opening.

        Raises
        ------
        DeviceProtocolError
            When another instrument answers, or a setting does not read back.
        """
        if set_up.identity_expect:
            identity = self.identify()
            words = ", ".join((identity.vendor, identity.model, identity.serial, identity.firmware))
            if not re.search(set_up.identity_expect, words):
                raise self._wrong(
                    "another instrument answers",
                    "ask who it is",
                    f"an identity that contains {set_up.identity_expect!r}",
                    words,
                    "addresses move: labctl devices probe says where it is now",
                )
        self.wire.begin(self.name, self._timeout_s)
        for command in set_up.commands:
            self.wire.tell(self.name, command, self._timeout_s)
        for header, value in (set_up.settings or {}).items():
            self.wire.tell(self.name, f"{header} {value}", self._timeout_s)
            seen = self._setting(header, self._timeout_s)
            if not _is_set(value, seen):
                raise self._wrong(
                    f"{header} did not take its value",
                    "set up",
                    f"{value}",
                    f"{seen}",
                    "is the value in the instrument's range? its manual says",
                )
            self._settings[header] = seen

    def require_settings(self, until_s: float) -> None:
        """Go on only while each setting is as it was at opening: somebody may have used the instrument's keys.

        Parameters
        ----------
        until_s
            On the host's monotonic clock [s].
        """
        for header, value in self._settings.items():
            seen = self._setting(header, left_s(until_s))
            if seen != value:
                raise self._wrong(
                    f"{header} has changed since the instrument was opened",
                    "read back its settings",
                    f"{value}",
                    f"{seen}",
                    "leave the instrument's keys alone during a run; opening it again sets it",
                )

    def value(self, quantity: Quantity, timeout_s: float) -> float:
        """One number [unit].

        Raises
        ------
        DeviceProtocolError
            When the answer holds none, or one that is refused.
        """
        wire = self.wire
        answer = wire.ask(self.name, quantity.ask, timeout_s)
        try:
            return quantity.of(answer)
        except ValueError as error:
            wire.mistrust()
            raise self._wrong(
                "the reading is not usable",
                f"ask {quantity.ask!r}",
                str(error),
                repr(answer),
                "look at the instrument; low, high and expect of the station file say what is allowed",
            ) from error

    def _setting(self, header: str, timeout_s: float) -> float | str:
        answer = self.wire.ask(self.name, f"{header}?", timeout_s)
        return float(answer) if re.fullmatch(NUMBER, answer) else answer.strip("\"'")

    def _wrong(self, what: str, action: str, expected: str, seen: str, hint: str) -> DeviceProtocolError:
        return DeviceProtocolError(what, device=self.name, action=action, expected=expected, seen=seen, hint=hint)


def left_s(until_s: float) -> float:
    """Time that is left until a moment of the monotonic clock, a last chance at least [s]."""
    return max(until_s - time.monotonic(), LAST_CHANCE_S)


def opened(hold: Shared[Any], make: Callable[[Shared[Any]], D]) -> D:
    """A device on a wire; the wire is let go of when it cannot be made."""
    try:
        return make(hold)
    except BaseException:
        hold.release()
        raise


def require_line(option: str, text: str) -> None:
    """Refuse what is no line of dialogue: two lines in one would have two answers, and the second would be believed
    to be that of the next question.
    """
    if not text.strip() or not (text.isascii() and text.isprintable()):
        raise refused(
            f"{option} is no line of dialogue",
            expected="ASCII characters, no end of line: that is write_end",
            seen=repr(text),
            hint="the instrument's manual has its words",
        )


def pattern(option: str, expression: str) -> re.Pattern[str]:
    """A regular expression of the station file, compiled; one that is none is refused."""
    try:
        return re.compile(expression)
    except re.error as error:
        raise refused(
            f"{option} is no regular expression: {error}", expected="as Python's re", seen=repr(expression)
        ) from error


def _is_set(wanted: float | str, seen: float | str) -> bool:
    if isinstance(wanted, str):
        return isinstance(seen, str) and seen.upper() == wanted.upper()
    return isinstance(seen, float) and math.isclose(seen, wanted, rel_tol=SETTING_ERROR_REL, abs_tol=1e-12)
