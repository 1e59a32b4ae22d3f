"""A whole run of an early version, which is kept beside the tests."""

from __future__ import annotations

import tarfile
from pathlib import Path

KEPT = Path(__file__).parent / "data" / "run-schema-1.tar.xz"


def unpacked(folder: Path) -> Path:
    """The archive that holds it, unpacked into ``folder``."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return folder / "runs"
