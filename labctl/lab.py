"""What a command gets: where it speaks, which bench it means, and what it has reached so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.console import Console

if TYPE_CHECKING:
    from labctl.archive.run import RunWriter
    from labctl.station.loading import LoadedStation
    from labctl.summary import Summary


def _nothing(lab: Lab, bench: str) -> None:
    """Nothing is to be made up for."""


@dataclass
class Lab:
    """What a command gets as its first argument.

    Attributes
    ----------
    console
        Where it speaks.
    bench
        What ``--bench`` said.
    summary
        Set it as soon as there is one: a failure then reports what had been reached.
    run
        Set it once a run is open: errors then name the run, and tracebacks go to its log.
    made_up_for
        Called with this and the name of a bench once that is held, and dead runs of it are sealed: does what a process
        that was killed has left undone.
    """

    console: Console
    bench: str | None = None
    summary: Summary | None = field(default=None)
    run: RunWriter | None = field(default=None)
    made_up_for: Callable[[Lab, str], None] = field(default=_nothing)

    def station(self, overrides: Sequence[str] | None = None) -> LoadedStation:
        """The station that ``--bench`` and ``--set`` ask for; the mock station without them."""
        from labctl.station.loading import find_station, load_station

        return load_station(find_station(self.bench), overrides or ())
