"""No light while an interlock is open: refused at once outside of runs and before a run; a run waits, for a while.

A run asks before its first light, before each step, each second while frames are read, and after each step before it
is sealed. Where an interlock has opened, the light goes off before anything else is done. The run then asks until all
are closed, and are so a second later. What was read since the last question is not trusted: the step is read again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from drivers.protocols import Interlock, Ok, Trip
from labctl.archive import RunWriter
from labctl.bench.bench import Bench
from labctl.bench.ladder import Ladder
from labctl.errors import InterlockOpen
from labctl.osal import stops
from labctl.station.model import Acquisition

SPACING_S = 1.0
"""From one question to the next while a step is read, at least, by the camera's clock [s]."""
POLL_S = 0.2
"""From one question to the next while an interlock is open [s]."""
STAYS_CLOSED_S = 1.0
"""An interlock counts as closed when it is so for this long [s]."""

Ask = Callable[[str], Ok | Trip]


class OpenedMeanwhile(Exception):
    """An interlock was found open while a step was read.

    Attributes
    ----------
    device, trip
        Which one, and its answer.
    """

    def __init__(self, device: str, trip: Trip) -> None:
        super().__init__(device, trip)
        self.device, self.trip = device, trip


class InterlockWatch:
    """Asks the interlocks of a bench in a run, and waits for one that has opened.

    Parameters
    ----------
    bench, run, ladder
        Whose interlocks, the journal, and who brings back one that does not answer.
    settings
        How long is waited, and how often in a run.
    beat
        Called while the run waits: it does so on purpose.

    Attributes
    ----------
    has_opened
        Whether one was found open, or silent, since this was last set to False.
    """

    def __init__(
        self, bench: Bench, run: RunWriter, ladder: Ladder, settings: Acquisition, beat: Callable[[], None]
    ) -> None:
        self.bench, self.run, self.settings = bench, run, settings
        self._ladder, self._beat = ladder, beat
        self.has_opened = False
        self._trips = 0
        self._next_s = -math.inf
        self._is_dark = True

    def require_closed(self) -> None:
        """Before there is any light.

        Raises
        ------
        InterlockOpen
            When one is open: nobody waits for it then.
        """
        if found := self.find_open():
            raise interlock_open(*found, "the light was not switched on", self._hint)
        self._is_dark = False

    def find_open(self) -> tuple[str, Trip] | None:
        """The first interlock that is open, and its answer; one that is silent forbids light until it is back."""
        return self._find_open(
            lambda name: self._ladder.climb(name, lambda: self.bench.interlocks[name].check(), self._distrust)
        )

    def require_none_opened(self, device_time_s: float = math.inf) -> None:
        """While a step is read, and at its end: ask, if it is time to.

        Raises
        ------
        OpenedMeanwhile
            When one is open.
        """
        if device_time_s < self._next_s:
            return
        if math.isfinite(device_time_s):
            self._next_s = device_time_s + SPACING_S
        if found := self.find_open():
            raise OpenedMeanwhile(*found)

    def before_light(self, name: str) -> None:
        """As devices were opened again: the light is off, and goes on only when this interlock is closed.

        Raises
        ------
        InterlockOpen
            As from `wait`.
        """
        if self._is_dark:  # somebody else is asking already
            return
        answer = self.bench.interlocks[name].check()
        if isinstance(answer, Trip):
            self.wait(name, answer, lambda one: self.bench.interlocks[one].check())

    def wait(self, name: str, trip: Trip, ask: Ask | None = None) -> None:
        """The light is off: wait until every interlock is closed.

        Raises
        ------
        InterlockOpen
            When that takes longer than ``acquisition.interlock_wait_s``, or has happened more than
            ``acquisition.interlock_trips_max`` times.
        """
        find = self.find_open if ask is None else lambda: self._find_open(ask)
        most, wait_s = self.settings.interlock_trips_max, self.settings.interlock_wait_s
        self.has_opened = self._is_dark = True
        self._trips += 1
        self.run.journal("suspended", sync=True, device=name, reason=trip.reason, trip=self._trips)
        began_s, found = time.monotonic(), (name, trip)
        if self._trips > most:
            raise self._gave_up(found, f"at most {most} times open in one run", f"open for time {self._trips}")
        while still := find() or self._find_open_later(find):
            found = still
            stops.heed()
            self._beat()
            if time.monotonic() - began_s >= wait_s:
                raise self._gave_up(found, f"closed again within {wait_s:g} s", f"open for {wait_s:g} s")
            time.sleep(POLL_S)
        self._is_dark = False
        waited_s = round(time.monotonic() - began_s, 3)
        self.run.journal("resumed", sync=True, device=name, reason=trip.reason, waited_s=waited_s)

    def _distrust(self) -> None:
        """One was silent: nobody knows whether it was closed."""
        self.has_opened = True

    def _find_open_later(self, find: Callable[[], tuple[str, Trip] | None]) -> tuple[str, Trip] | None:
        """Ask again after a while."""
        self._beat()
        time.sleep(STAYS_CLOSED_S)
        return find()

    def _find_open(self, ask: Ask) -> tuple[str, Trip] | None:
        for name in self.bench.interlocks:
            answer = ask(name)
            if isinstance(answer, Trip):
                return name, answer
        return None

    @property
    def _hint(self) -> str:
        return f"close it, then: labctl run resume {self.run.run_id.rpartition('-')[2]}"

    def _gave_up(self, found: tuple[str, Trip], expected: str, seen: str) -> InterlockOpen:
        name, trip = found
        self.run.journal("interlock", device=name, reason=trip.reason, expected=expected, seen=seen)
        safe = "the light was switched off first; what was sealed stays"
        return interlock_open(name, trip, safe, self._hint, expected, f"{trip.reason}; {seen}")


def require_closed(interlocks: Mapping[str, Interlock]) -> None:
    """Outside of a run: go on only while every interlock is closed.

    Raises
    ------
    InterlockOpen
        Exit code 21.
    """
    for name, interlock in interlocks.items():
        answer = interlock.check()
        if isinstance(answer, Trip):
            raise interlock_open(name, answer, "the light is off", "close it, then the same command again")


def interlock_open(
    name: str, answer: Trip, safe: str, hint: str, expected: str = "a closed interlock", seen: str = ""
) -> InterlockOpen:
    """The error of an open interlock; what is safe now, and what to type next, is for whoever asked."""
    return InterlockOpen(
        f"the interlock is open: {answer.reason}",
        device=name,
        action="checking before light",
        expected=expected,
        seen=seen or answer.reason,
        safe=safe,
        hint=hint,
    )
