"""Parts of a reproduction on the disk: what was computed with the same code and settings is not computed again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundwork.opening.json_text import read_json
from labctl.archive.atomic import atomic_write_json
from labctl.console import plain
from labctl.errors import LabError

SCHEMA = "labctl.reproduction-part/2"


@dataclass(frozen=True)
class Kept:
    """A part, and how long it took to compute.

    Attributes
    ----------
    part
        Numbers by name, as JSON.
    seconds
        Of all calls that computed it; one that was stopped counts, one that was killed does not.
    seconds_now
        Of this call: 0 where the part was there.
    """

    part: dict[str, Any]
    seconds: float
    seconds_now: float


def kept(folder: Path, name: str, about: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> Kept:
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
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    begun, began = folder / f"{name}.begun.json", time.monotonic()
    with _counted(begun, stated) as before_s:
        part = json.loads(json.dumps(plain(dict(compute()))))
        now_s = time.monotonic() - began
        document = {"schema": SCHEMA, "about": stated, "sha256": _digest(part), "seconds": before_s + now_s}
        atomic_write_json(path, document | {"part": part})
    begun.unlink(missing_ok=True)
    return Kept(part, before_s + now_s, now_s)


@contextmanager
def _counted(begun: Path, about: Mapping[str, Any]) -> Iterator[float]:
    """What earlier calls have spent on the same part without finishing it [s]; a call that is stopped adds to that."""
    before_s, began = 0.0, time.monotonic()
    with suppress(OSError, ValueError, KeyError, TypeError):
        document = read_json(begun)
        before_s = float(document["seconds"]) if document["about"] == about else 0.0
    try:
        yield before_s
    except BaseException:
        with suppress(LabError, OSError):  # why it was stopped is more than how long it took
            atomic_write_json(begun, {"about": about, "seconds": before_s + time.monotonic() - began})
        raise


def _read(path: Path, about: Mapping[str, Any]) -> Kept | None:
    try:
        document = read_json(path)
        part: dict[str, Any] = document["part"]
        is_whole = document["schema"] == SCHEMA and document["about"] == about and document["sha256"] == _digest(part)
        found = Kept(part, float(document["seconds"]), 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_whole else None


def _digest(part: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()
