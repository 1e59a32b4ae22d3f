"""An interlock contact at the end of a wire."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from drivers.libraries.wired import SetUp, WiredDevice, pattern, require_line
from drivers.options import refused
from drivers.protocols import Ok, Trip
from drivers.resources import Shared


@dataclass(frozen=True, kw_only=True)
class Contact:
    """What is asked, and the one answer with which light may be on.

    Attributes
    ----------
    ask
        The question.
    closed
        Regular expression that the whole answer must match; every other answer means open.
    reason
        What an open contact means, for people: ``"enclosure door"``.
    """

    ask: str
    closed: str
    reason: str

    def __post_init__(self) -> None:
        require_line("ask", self.ask)
        if pattern("closed", self.closed).fullmatch(""):
            raise refused("closed matches silence", expected="an answer with words", seen=repr(self.closed))


class WiredInterlock(WiredDevice):
    """A contact that is asked. Only the one answer means closed; one that is late, or none, is an error.

    Parameters
    ----------
    name, hold, timeout_s
        As of any wired device.
    contact
        Question and answer.
    set_up
        What the instrument is told first.
    """

    def __init__(self, name: str, hold: Shared[Any], timeout_s: float, contact: Contact, set_up: SetUp) -> None:
        super().__init__(name, hold, timeout_s)
        self._contact = contact
        self.prepare(set_up)
        self.check(timeout_s)

    def check(self, timeout_s: float = 2.0) -> Ok | Trip:
        answer = self.wire.ask(self.name, self._contact.ask, timeout_s)
        if re.fullmatch(self._contact.closed, answer):
            return Ok()
        return Trip(f"{self._contact.reason}: {self._contact.ask} answers {answer!r}, not {self._contact.closed!r}")

    def snapshot(self, timeout_s: float = 5.0) -> dict[str, Any]:
        return {**super().snapshot(timeout_s), "closed": isinstance(self.check(timeout_s), Ok)}
