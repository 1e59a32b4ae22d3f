"""What time it is: the one place that asks, so that ninety nights can be played in an hour.

Times that are compared with other days (ids, ages, journals) are asked here; how long something takes is measured by
the monotonic clock, which no jump of this one disturbs.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from contextlib import contextmanager

JUMP_S = 5.0
"""By more than this the clock is not corrected but set, or the computer slept [s]."""
CLOCKS_APART = dt.timedelta(minutes=5)
"""How far two clocks may be apart: what is dated later than this from now, a wrong clock has dated."""

_ahead = dt.timedelta()


def utc_now() -> dt.datetime:
    """The time that goes into every file of a run."""
    return dt.datetime.now(dt.UTC) + _ahead


@contextmanager
def played_at(moment: dt.datetime) -> Iterator[None]:
    """Inside the block it is ``moment``, and goes on from there: for simulated nights, never for a real bench."""
    global _ahead
    before, _ahead = _ahead, moment - dt.datetime.now(dt.UTC)
    try:
        yield
    finally:
        _ahead = before


class Jumps:
    """Notices when the time of day does not go on as time does."""

    def __init__(self) -> None:
        self._began = self._difference_s()

    def since_last(self) -> float:
        """By how much the clock has jumped since this was last asked [s]; 0 where it has not."""
        now = self._difference_s()
        jumped_s = now - self._began
        if abs(jumped_s) <= JUMP_S:
            return 0.0
        self._began = now
        return jumped_s

    @staticmethod
    def _difference_s() -> float:
        return utc_now().timestamp() - time.monotonic()


def is_future(moment: dt.datetime, now: dt.datetime | None = None) -> bool:
    """Whether a date lies ahead by more than clocks may be apart: then some clock was wrong."""
    return moment > (now or utc_now()) + CLOCKS_APART
