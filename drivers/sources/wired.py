"""A light at the end of a wire: a laser, an LED driver, or a shutter; dark at opening and at closing."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceError, DeviceProtocolError
from drivers.libraries.wire import Wire
from drivers.libraries.wired import SetUp, WiredDevice, left_s, pattern, require_line
from drivers.options import refused
from drivers.resources import Shared

POLL_S = 0.02
"""Between two questions whether the light is where it was told to be [s]."""


@dataclass(frozen=True, kw_only=True)
class Switch:
    """How a light is switched, and how it is asked whether it is on.

    Attributes
    ----------
    on, off
        The commands. Where they are equal, it is a button that changes the state, and is pressed only to change it.
    state
        The question.
    state_on, state_off
        Regular expressions for its two answers. Each must match a whole answer; any other answer is refused.
    """

    on: str
    off: str
    state: str
    state_on: str
    state_off: str

    def __post_init__(self) -> None:
        for option in ("on", "off", "state"):
            require_line(option, getattr(self, option))
        pattern("state_on", self.state_on)
        pattern("state_off", self.state_off)
        if self.state_on == self.state_off:
            raise refused("on and off have the same answer", expected="two answers", seen=repr(self.state_on))

    def is_on(self, answer: str) -> bool | None:
        """What an answer to ``state`` means; None for one that means neither, or both."""
        on, off = (re.fullmatch(one, answer) is not None for one in (self.state_on, self.state_off))
        return None if on is off else on


class WiredSource(WiredDevice):
    """A light that is switched by commands. It is switched off at opening, once it is known who answers.

    Parameters
    ----------
    name, hold, timeout_s
        As of any wired device.
    switch
        Its commands.
    set_up
        What it is told at opening, in the dark.
    """

    def __init__(self, name: str, hold: Shared[Any], timeout_s: float, switch: Switch, set_up: SetUp) -> None:
        super().__init__(name, hold, timeout_s)
        self._switch = switch
        self.prepare(SetUp(identity_expect=set_up.identity_expect))
        self.off(timeout_s)
        self.prepare(SetUp(commands=set_up.commands, settings=set_up.settings))
        self.off(timeout_s)

    @property
    def is_on(self) -> bool:
        return self._is_on(self.wire, self._timeout_s)

    def on(self, timeout_s: float = 5.0) -> None:
        """Light, read back.

        Raises
        ------
        DeviceProtocolError
            When the instrument refuses, says that it is still off when the time is over, or has other settings than
            it was given: it may have restarted.
        """
        until_s = time.monotonic() + timeout_s
        self.require_settings(until_s)
        self._set(self.wire, True, left_s(until_s))

    def off(self, timeout_s: float = 5.0) -> None:
        """Dark, read back; otherwise as `on`."""
        self._set(self.wire, False, timeout_s)

    def safe_state(self, timeout_s: float = 5.0) -> None:
        """Dark. Where that fails it is told blindly, then opened if it is lost, told again, and read back.

        Raises
        ------
        DeviceError
            When it is not known to be dark after all.
        """
        if self._hold is None:
            return
        wire: Wire = self._hold.value
        try:
            self._set(wire, False, timeout_s / 2)
        except DeviceError:
            if self._switch.on != self._switch.off:
                wire.shout(self._switch.off, timeout_s / 4)
            try:
                wire.open_again(self.name, timeout_s / 4)
                self._set(wire, False, timeout_s / 4)
            except DeviceError as error:
                error.safe = "unknown: the light may be on; switch it off by hand"
                raise

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {**super().snapshot(timeout_s), "is_on": self._is_on(self.wire, timeout_s)}

    def _set(self, wire: Wire, wanted: bool, timeout_s: float) -> None:
        until_s = time.monotonic() + timeout_s
        if self._switch.on == self._switch.off and self._is_on(wire, timeout_s) is wanted:
            return
        wire.tell(self.name, self._switch.on if wanted else self._switch.off, left_s(until_s))
        while self._is_on(wire, left_s(until_s)) is not wanted:
            if time.monotonic() >= until_s:
                word = "on" if wanted else "off"
                raise DeviceProtocolError(
                    f"the light is not {word}",
                    device=self.name,
                    action=f"switch {word}",
                    expected=f"{word} within {timeout_s:g} s of the command",
                    seen="on" if not wanted else "off",
                    hint="key switch, interlock and remote mode of the instrument: its panel says which",
                )
            time.sleep(min(POLL_S, left_s(until_s)))

    def _is_on(self, wire: Wire, timeout_s: float) -> bool:
        answer = wire.ask(self.name, self._switch.state, timeout_s)
        state = self._switch.is_on(answer)
        if state is None:
            wire.mistrust()
            raise DeviceProtocolError(
                "it cannot be told whether the light is on",
                device=self.name,
                action=f"ask {self._switch.state!r}",
                expected=f"{self._switch.state_on!r} or {self._switch.state_off!r}",
                seen=repr(answer),
                hint="state_on and state_off of the station file are to match the instrument's whole answer",
            )
        return state
