"""Parts of a reproduction on the disk: what was computed with the same code and settings is not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json
from labctl.console import plain

SCHEMA = "labctl.reproduction-part/1"


def kept(folder: Path, name: str, about: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """A part as it lies in ``folder``, or else as it is computed now and written.

    Parameters
    ----------
    about
        Everything that the part depends on, as JSON: a part of other settings or other code is computed again, and so
        is a damaged one.

    Raises
    ------
    StorageError
        When it cannot be written; what was there before is intact.
    """
    path, stated = folder / f"{name}.json", json.loads(json.dumps(dict(about)))
    found = _read(path, stated)
    if found is None:
        found = json.loads(json.dumps(plain(dict(compute()))))
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {"schema": SCHEMA, "about": stated, "sha256": _digest(found), "part": found})
    return found


def _read(path: Path, about: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        document = read_json(path)
        part: dict[str, Any] = document["part"]
        is_whole = document["schema"] == SCHEMA and document["about"] == about and document["sha256"] == _digest(part)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return part if is_whole else None


def _digest(part: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
