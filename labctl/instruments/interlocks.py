"""No light while an interlock is open: outside of runs, where no run could be resumed."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.protocols import Interlock, Trip
from labctl.errors import InterlockOpen


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
            raise InterlockOpen(
                f"the interlock is open: {answer.reason}",
                device=name,
                action="checking before light",
                expected="a closed interlock",
                seen=answer.reason,
                safe="the light is off",
                hint="close it, then the same command again",
            )
