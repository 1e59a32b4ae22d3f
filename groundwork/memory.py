"""How much memory this process may have: what does not fit is refused before it is begun."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LIMIT_OF_A_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def memory_bytes() -> int | None:
    """Of this computer, or of the container in it; None where the system does not say.

    Examples
    --------
    >>> (memory_bytes() or 2**30) > 2**20
    True
    """
    try:
        known = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):
        known = []
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit, which says "max"
        known.append(int(_LIMIT_OF_A_CONTAINER.read_text(encoding="ascii")))
    return min((size for size in known if size > 0), default=None)
