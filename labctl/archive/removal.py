"""What retention took from a run: written down before the first file goes, so that verifying and reading know."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json, storage
from labctl.errors import RunDamaged

REMOVED = "removed.json"
SCHEMA = "labctl.removed/1"


@dataclass(frozen=True)
class Removal:
    """What ``removed.json`` says.

    Attributes
    ----------
    at
        When retention decided so.
    seal
        Digest of the run's seal at that time: the record counts for that run only.
    files
        Names inside ``segments/`` that were removed, or are to be.
    """

    at: str
    seal: str
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over all of the above."""
        return hashlib.sha256(json.dumps([self.at, self.seal, self.files]).encode()).hexdigest()


def write_removal(folder: Path, removal: Removal) -> None:
    """Write down what is about to be removed from a run."""
    atomic_write_json(folder / REMOVED, {"schema": SCHEMA, **vars(removal), "digest": removal.digest})


def read_removal(folder: Path) -> Removal | None:
    """What retention removed from a run; None where it took nothing.

    Raises
    ------
    RunDamaged
        When the record was altered.
    """
    path = folder / REMOVED
    if not path.exists():
        return None
    try:
        with storage(path, "reading"):
            document = read_json(path)
        removal = Removal(str(document["at"]), str(document["seal"]), tuple(map(str, document["files"])))
        if (document["schema"], document["digest"]) != (SCHEMA, removal.digest):
            raise ValueError("its digest is not that of its contents")
    except (ValueError, TypeError, KeyError) as error:
        raise RunDamaged("what retention removed cannot be read", device=str(path), seen=str(error)) from error
    return removal
