"""No light while an interlock is open: outside of runs, where no run could be resumed."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.protocols import Interlock, Trip
from labctl.bench.bench import interlock_open


def require_closed(interlocks: Mapping[str, Interlock]) -> None:
    """Go on only while every interlock is closed.

    Raises
    ------
    InterlockOpen
        Exit code 21.
    """
    for name, interlock in interlocks.items():
        answer = interlock.check()
        if isinstance(answer, Trip):
            raise interlock_open(name, answer, "the light is off", "close it, then the same command again")
