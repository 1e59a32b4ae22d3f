"""What time it is: the one place that asks, so that ninety nights can be played in an hour.

Times that are compared with other days (ids, ages, journals) are asked here; how long something takes is measured by
the monotonic clock, which no jump of this one disturbs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

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
