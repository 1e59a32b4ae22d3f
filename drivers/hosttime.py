"""Host time that no setting of the clock disturbs: what frames and readings of monitors are stamped with."""

from __future__ import annotations

import time

_EPOCH_S = time.time() - time.monotonic()


def host_time_s() -> float:
    """Seconds since 1970 by the clock as it stood when the process began, counted on steadily from there.

    Times of one process can be subtracted from each other, whatever becomes of the clock: it may be set back an hour
    while a run goes on.
    """
    return _EPOCH_S + time.monotonic()
