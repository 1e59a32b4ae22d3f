"""Space on the disk of a run: enough before it begins, some left while it runs, and a reserve for its seal."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from labctl.archive.atomic import storage
from labctl.errors import DiskLow

RESERVE = ".reserve"
RESERVE_BYTES = 1 << 18
"""Enough for a summary, the last lines of a journal and a seal, each of which exists twice for a moment [B]."""


def require_space(folder: Path, needed_bytes: float, floor_bytes: float, safe: str) -> None:
    """Go on only while ``needed_bytes`` can be written and ``floor_bytes`` are still free afterwards.

    Parameters
    ----------
    safe
        What is safe where they are not, for the operator.

    Raises
    ------
    DiskLow
        Exit code 22.
    """
    with storage(folder, "asking for the free space"):
        free = shutil.disk_usage(folder).free
    if free >= needed_bytes + floor_bytes:
        return
    needed = f"{needed_bytes / 1e6:,.1f} MB for the run and " if needed_bytes else ""
    raise DiskLow(
        "too little space is free on the disk",
        device=str(folder),
        action="before the devices are opened" if needed_bytes else "before the next segment",
        expected=f"{needed}{floor_bytes / 1e9:g} GB that are to stay free (acquisition.disk_floor_gb)",
        seen=f"{free / 1e6:,.1f} MB free",
        safe=safe,
        hint=f"free some space, then: labctl run resume {folder.name.rpartition('-')[2]}",
    )


def keep_reserve(folder: Path) -> None:
    """Set space aside in a run folder; a disk that has none for it is no reason to stop here."""
    path = folder / RESERVE
    try:
        path.write_bytes(os.urandom(RESERVE_BYTES))  # not zeros, which a disk may store as nothing
    except OSError:
        drop_reserve(folder)


def drop_reserve(folder: Path) -> None:
    """Give the space back, to what is to be written now."""
    with contextlib.suppress(OSError):
        (folder / RESERVE).unlink(missing_ok=True)
